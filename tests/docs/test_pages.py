"""The README is short, links lead somewhere, and the reference has every public name and rule."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from helpers.pages import PAGES, ROOT, text_of

import dynprune_agents
from dynprune_env import TASK_NAMES

PACKAGES = ["dynprune_env", "dynprune_agents", "dynprune_agents.learning"]
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_has_at_most_900_words() -> None:
    assert len(text_of("README").split()) <= 900


def test_the_readme_has_the_test_command_that_ci_runs() -> None:
    lines = [line for line in text_of("README").splitlines() if "-m pytest" in line]
    assert lines[0].startswith("python3 -m venv .venv && .venv/bin/pip install")


@pytest.mark.parametrize("page", PAGES)
def test_a_link_of_a_page_leads_to_a_file_and_a_heading(page: str) -> None:
    for link in LINK.findall(text_of(page)):
        target, _, anchor = link.partition("#")
        path = (PAGES[page].parent / target) if target else PAGES[page]
        if target.startswith("generated/"):
            continue  # the build says whether these exist
        assert path.resolve().is_relative_to(ROOT)
        assert path.exists(), link
        if anchor and not anchor.startswith("dynprune_"):
            assert anchor in anchors(path), link


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"README", "index"}))
def test_every_page_is_in_the_contents_of_the_site(page: str) -> None:
    assert re.search(rf"^{page}$", text_of("index"), re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    shown = set(re.findall(rf":: {package}\.(\w+)$", text_of("reference"), re.MULTILINE))
    assert shown == set(import_module(package).__all__)


def test_every_environment_has_a_row() -> None:
    for name in TASK_NAMES:
        assert f"| `DynPrune-{name}-v0` |" in text_of("environments")


def test_every_rule_is_in_the_table_of_agents_and_every_family_has_a_page() -> None:
    for name in dynprune_agents.names():
        assert f"`{name}`" in text_of("agents"), name
    for family in dynprune_agents.families():
        assert f"\ngenerated/{family}\n" in text_of("agents")
