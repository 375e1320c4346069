"""The tables of libraries say what the tests of this folder run, with what CI installs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.libraries import FRAMEWORKS, LIBRARIES
from helpers.pages import ROOT, text_of

from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.observations import OBSERVATIONS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return __import__("generate")


@pytest.mark.parametrize("page", ["libraries", "own_training"])
def test_a_page_has_the_table_that_is_made(page: str, generate: ModuleType) -> None:
    text = text_of(page)
    assert text.count(generate.MARKS[0]) == 1
    assert generate.with_table(text, generate.TABLES[page]()) == text, "run python docs/generate.py"


def test_a_table_says_what_a_row_says(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"name": "X", "made": "`x()`", "modes": ["DISABLED"], "note": "slowly"}
    row |= {"observations": ["run"], "actions": [*ACTIONS]}
    monkeypatch.setitem(generate.LIBRARIES, "library", [row])
    assert generate.library_rows()[1:] == [["X", "`x()`", "`DISABLED`, slowly", "`run`", "all"]]
    old = f"before {generate.MARKS[0]} old {generate.MARKS[1]} after"
    new = generate.with_table(old, [["a", "b"], ["1", "2"]])
    assert re.sub("<.*?>", "", new) == "before \n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n after"


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_what_a_framework_can_do_has_a_test(package: str) -> None:
    for key in ("resume", "processes"):
        if key in FRAMEWORKS[package]:
            file, _, name = FRAMEWORKS[package][key].partition("::")
            assert f"\ndef {name}(" in (HERE / file).read_text(), name


def test_the_rows_name_every_kind_of_observation_and_action() -> None:
    for key, known in (("observations", OBSERVATIONS), ("actions", ACTIONS)):
        named = [kind for row in LIBRARIES.values() for kind in row[key]]
        assert {*named} == {*known}


def test_tests_are_installed_with_every_library_that_they_skip_without() -> None:
    (own,) = (text for text in EXTRAS["dev"] if text.startswith("dynprune["))
    extras = own[len("dynprune[") : -1].split(",")
    installed = "\n".join(text for extra in extras for text in EXTRAS[extra])
    named = {"ignite": "pytorch-ignite", "rl_zoo3": "rl-zoo3", "sb3_contrib": "sb3-contrib"}
    for path in HERE.glob("test_*.py"):
        for module in re.findall(r"importorskip\(\s*\"(\w+)", path.read_text()):
            if path.name != "test_rllib.py":  # .ci/run has an environment for it
                assert re.search(rf"^{named.get(module, module)}\b", installed, re.M), module
    assert "pytest tests/integrations/test_rllib.py" in (ROOT / ".ci/run").read_text()
    assert re.search(r"^ray\[rllib\]", EXTRAS["rllib"][0])
