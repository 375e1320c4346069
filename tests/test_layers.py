"""Imports point in one direction: a table of sub-packages says which may see which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "dynprune_env.common": set(),
    "dynprune_env.tasks": {"common"},
    "dynprune_env.selection": {"common"},
    "dynprune_env.training": {"common", "tasks", "selection"},
    "dynprune_env.sampler": {"common", "selection"},
    "dynprune_env.integrations": {"common", "selection", "sampler"},
    "dynprune_env.envs": {"common", "tasks", "selection", "training"},
    "dynprune_env.benchmark": {"common", "tasks", "selection", "training", "envs"},
    "dynprune_env.report": {"common", "benchmark"},
}
FAMILIES = ("baselines", "dynamic", "weighted", "static", "bandits", "policies")
AGENTS_MAY_IMPORT = {
    "": {"common", "selection"},  # the contract of an agent, and what several rules share
    **{family: {"common", "selection"} for family in FAMILIES},
    "learning": {"common", "selection", "envs", "benchmark"},
    "cli": {name.rpartition(".")[2] for name in MAY_IMPORT},
}


def modules(package: str, folder: Path) -> dict[str, Path]:
    """Every module below a folder by its full name."""
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


ENV = modules("dynprune_env", ROOT / "dynprune_env")
AGENTS = modules("dynprune_agents", ROOT / "agents" / "dynprune_agents")


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules of ours that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in ENV or full in AGENTS else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room(module: str) -> str:
    """The sub-package of a module's full name; "" for what lies at the top."""
    parts = module.split(".")
    known = ENV if parts[0] == "dynprune_env" else AGENTS
    path = known[module]
    return "" if len(parts) == 1 or (len(parts) == 2 and path.name != "__init__.py") else parts[1]


def test_every_sub_package_has_a_row_in_the_table() -> None:
    top = {path.name for path in (ROOT / "dynprune_env").iterdir() if path.name != "__pycache__"}
    rows = {name.rpartition(".")[2] for name in MAY_IMPORT}
    assert top == rows | {"__init__.py", "py.typed"}
    assert {room(module) for module in AGENTS} == set(AGENTS_MAY_IMPORT)


@pytest.mark.parametrize("module", sorted(ENV))
def test_the_environment_imports_downwards_only(module: str) -> None:
    own = room(module)
    for name in imports(ENV[module]):
        assert not name.startswith("dynprune_agents"), name
        if name.startswith("dynprune_env.") and own:  # the top hands on names of all
            allowed = {own, *MAY_IMPORT[f"dynprune_env.{own}"]}
            assert room(name) in allowed, f"{module} -> {name}"


@pytest.mark.parametrize("module", sorted(AGENTS))
def test_agents_import_no_more_than_they_need(module: str) -> None:
    own = room(module)
    for name in imports(AGENTS[module]):
        if name.startswith("dynprune_env."):
            assert room(name) in AGENTS_MAY_IMPORT[own], f"{module} -> {name}"
        if name.startswith("dynprune_agents."):
            others = {room(name)} - {own, ""}
            assert own in ("learning", "cli") or others <= set(FAMILIES), f"{module} -> {name}"
            assert "cli" not in others, f"{module} -> {name}"


@pytest.mark.parametrize("known", [ENV, AGENTS], ids=["dynprune_env", "dynprune_agents"])
def test_no_import_comes_back_to_where_it_began(known: dict[str, Path]) -> None:
    inner = {module: path for module, path in known.items() if room(module)}
    graph = {module: {n for n in imports(path) if n in inner} for module, path in inner.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError
