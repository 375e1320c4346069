"""The pages that are made from the package: rules, commands, results, docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from helpers.pages import ROOT

import dynprune_agents


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return pytest.importorskip("generate")


def test_every_rule_has_a_section_with_its_class_and_source(generate: ModuleType) -> None:
    for family, rules in dynprune_agents.families().items():
        page = generate.family_page(family, rules)
        assert re.findall(r"^## `(\w+)`$", page, re.MULTILINE) == rules
        for name in rules:
            found = dynprune_agents.agent_class(name)
            assert f".. autoclass:: {found.__module__}.{found.__name__}\n" in page
            assert f"Source: {found.source}." in page


def test_a_rule_shows_its_rows_of_the_leaderboard_and_how_it_differs(generate: ModuleType) -> None:
    section = generate.rule_section("learned")
    assert "| `learned(policy='weighted')` |" in section
    assert "Differs on purpose: " in generate.rule_section("epsilon_greedy")
    assert "epsilon_greedy" not in generate.rule_section("ucb")


def test_links_between_included_pages_lead_to_their_pages(generate: ModuleType) -> None:
    docs = ROOT / "docs"
    text = "[a](../benchmarks/results/speed.md) [b](../examples/reinforce.py) ![c](panel.png)"
    assert generate.with_local_links(text, docs) == (
        "[a](/generated/results_speed.md) [b](../examples/reinforce.py) ![c](panel.png)"
    )
    card = "[x](weighted.md) [y](../../../docs/panel.png) [z](https://a.b/c.md)"
    folder, here = ROOT / "agents/dynprune_agents/policies", docs / "generated"
    assert generate.with_local_links(card, folder, here) == (
        "[x](/generated/policies_weighted.md) [y](../panel.png) [z](https://a.b/c.md)"
    )


def test_every_committed_page_of_results_is_a_page_of_the_site(generate: ModuleType) -> None:
    names = generate.included()
    committed = (ROOT / "benchmarks/results").rglob("*.md")
    contents = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for path in committed:
        assert f"\ngenerated/{names[path]}\n" in contents, path
    assert len(set(names.values())) == len(names)


def test_the_page_of_commands_has_every_command_and_option(generate: ModuleType) -> None:
    page = generate.command_page()
    for command in ("run", "bench", "train", "report", "validate", "kept", "sweeps"):
        assert f"## `dynprune {command}`" in page
    assert "`--label-noise <float>`" in page


def test_docstrings_in_markdown_become_directives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    to_rst = __import__("docstrings").to_rst
    lines = [
        "About |x|.",
        "",
        "    code()",
        "",
        "## Space",
        "",
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |",
    ]
    to_rst(None, "class", "name", None, None, lines)
    assert lines == [
        *["About \\|x\\|.", "", "::", "", "    code()", "", ".. rubric:: Space", ""],
        *["", ".. list-table::", "   :header-rows: 1", ""],
        *["   * - a", "     - b", "   * - 1", "     - 2", ""],
    ]


def test_the_pages_are_written_once_and_stale_ones_go(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generate, "OUT", tmp_path)
    (tmp_path / "gone.md").write_text("old")
    generate.write_pages()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.md")}
    assert tmp_path / "gone.md" not in times
    assert tmp_path / "dynamic.md" in times
    generate.write_pages()
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.md")}


def test_every_page_of_results_and_cards_is_in_the_contents_of_the_site(
    generate: ModuleType,
) -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    for name in generate.included().values():
        assert f"\ngenerated/{name}\n" in pages, name
