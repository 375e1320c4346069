"""Imports point downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {
        "allocator",
        "batches",
        "files",
        "kernels",
        "provenance",
        "ranks",
        "registration",
        "specs",
        "streams",
    },
    {"datasets", "ledger", "models", "rank_kernels", "scores", "tables", "workers"},
    {"augment", "inputs", "variants", "selection"},
    {"streaming", "tasks", "statistics"},
    {"passes", "records"},
    {"module_learner", "own_tasks", "stacked_learner"},
    {"compiled_learner"},
    {"learners"},
    {"trainer"},
    {"actions", "observations", "rewards", "runs", "rendering"},
    {"settings"},
    {"sampler", "vector_env"},
    {"env"},
    {"results"},
    {"report"},
    {"overall", "published"},
    {"kept_when"},
    {"figures"},
    {"page"},
    {"checkpoints"},
    {"benchmark"},
    {"sweeps", "execution"},
    {"terminal", "validation"},
    {"cli"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "dynprune_env").glob("[!_]*.py")), ids=lambda p: p.stem
)
def test_a_module_imports_only_from_lower_layers(path: Path) -> None:
    assert path.stem in LEVEL, "a new module needs a place in LAYERS"
    for name in imports(path):
        package, _, module = name.partition(".")
        if package == "dynprune_env" and module in LEVEL:
            assert LEVEL[module] < LEVEL[path.stem], f"{path.stem} -> {module}"
        if package == "dynprune_agents":
            assert path.stem == "cli"


def test_agents_import_no_more_than_they_need_of_the_environment() -> None:
    allowed = {"actions", "observations", "runs", "selection", "settings", "specs", "streams"}
    allowed |= {"files"}  # policies are written whole
    for path in (ROOT / "agents" / "dynprune_agents").glob("*.py"):
        modules = {n.split(".")[1] for n in imports(path) if n.startswith("dynprune_env.")}
        assert modules <= allowed, path.name
