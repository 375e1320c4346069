"""The code that a number rests on: an edit of any file of it changes its hash."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

import dynprune_agents
from dynprune_env.common import provenance
from dynprune_env.common.provenance import code_hash, source_hash


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules of one's own; what was imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_in_a_folder_of_the_package_is_part_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "selection" / "rules"
    deep.mkdir(parents=True)
    (tmp_path / "__init__.py").write_text("")
    (deep / "ucb.py").write_text("c = 1")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    before = source_hash.__wrapped__()
    (deep / "ucb.py").write_text("c = 2")
    assert source_hash.__wrapped__() != before


def test_the_code_of_an_agent_is_that_of_its_whole_package() -> None:
    package = Path(dynprune_agents.__file__).parent
    expected = provenance.hash_files(package.rglob("*.py"))
    assert code_hash(dynprune_agents.agent_class("learned")) == expected


def test_an_edit_of_a_helper_in_ones_own_package_changes_the_code(folder: Path) -> None:
    package = folder / "own_rules" / "inner"
    package.mkdir(parents=True)
    for path in (package.parent, package):
        (path / "__init__.py").write_text("")
    (package / "helper.py").write_text("A = 1")
    (package / "rule.py").write_text("from own_rules.inner.helper import A\nclass Rule: a = A")
    rule = import_module("own_rules.inner.rule").Rule
    before = code_hash(rule)
    (package / "helper.py").write_text("A = 2")
    assert code_hash(rule) != before


def test_an_edit_of_a_module_beside_a_lone_one_changes_the_code(folder: Path) -> None:
    (folder / "lone_helper.py").write_text("A = 1")
    (folder / "not_loaded.py").write_text("A = 1")
    (folder / "lone_rule.py").write_text("import lone_helper\nclass Rule: a = lone_helper.A")
    rule = import_module("lone_rule").Rule
    before = code_hash(rule)
    (folder / "not_loaded.py").write_text("A = 2")
    assert code_hash(rule) == before
    (folder / "lone_helper.py").write_text("A = 2")
    assert code_hash(rule) != before


def test_an_edit_of_a_base_class_elsewhere_changes_the_code(folder: Path) -> None:
    bases = folder / "own_bases"
    bases.mkdir()
    (bases / "__init__.py").write_text("class Base: a = 1")
    rules = folder / "own_subclasses"
    rules.mkdir()
    (rules / "__init__.py").write_text("from own_bases import Base\nclass Rule(Base): pass")
    rule = import_module("own_subclasses").Rule
    before = code_hash(rule)
    (bases / "__init__.py").write_text("class Base: a = 2")
    assert code_hash(rule) != before


def test_the_code_of_a_function_is_that_of_its_module(folder: Path) -> None:
    (folder / "lone_task.py").write_text("def make(): return 1")
    make = import_module("lone_task").make
    before = code_hash(make)
    (folder / "lone_task.py").write_text("def make(): return 2")
    assert code_hash(make) != before


def test_what_python_brings_is_no_code_of_ones_own() -> None:
    assert code_hash(Path, print) == code_hash()
