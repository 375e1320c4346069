"""What users import: every public name is there, typed, and costs nothing before its first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers.episodes import run_script

import dynprune_env

PACKAGES = ["dynprune_env", "dynprune_agents", "dynprune_agents.learning"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_listed(package: str) -> None:
    module = import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


@pytest.mark.parametrize("package", ["dynprune_env", "dynprune_agents.learning"])
def test_type_checkers_see_the_names_that_are_loaded_lazily(package: str) -> None:
    module = import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "mypy takes only `as` for an export"
            seen[alias.name] = node.module
    assert seen == {name: f"{package}.{where}" for name, where in module._EXPORTS.items()}


def test_the_version_is_in_one_place() -> None:
    text = (Path(dynprune_env.__file__).parents[1] / "pyproject.toml").read_text()
    assert 'dynamic = ["version", ' in text
    assert "\nversion =" not in text


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_neither_torch_nor_stable_baselines(package: str) -> None:
    heavy = "{'torch', 'stable_baselines3', 'numba', 'matplotlib', 'sklearn'}"
    script = f"import sys, {package}; print(sorted({heavy} & set(sys.modules)))"
    if package != "dynprune_env":  # agents are arrays in, arrays out: numpy alone
        script = script.replace("'torch', ", "")
    assert run_script(script) == "[]"


@pytest.mark.slow
def test_mypy_knows_the_types_of_public_names(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import dynprune_env\n"
        "from dynprune_agents import make\n"
        "reveal_type(dynprune_env.DynPruneEnv(budget=0.5))\n"
        "reveal_type(dynprune_env.run_episodes)\n"
        "reveal_type(make('ucb'))\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", "cache"]
    done = subprocess.run(
        [*command, "user.py"], cwd=tmp_path, capture_output=True, text=True, timeout=250
    )
    assert '"dynprune_env.envs.env.DynPruneEnv"' in done.stdout, done.stdout + done.stderr
    assert "list[dynprune_env.benchmark.results.Result]" in done.stdout
    assert '"dynprune_agents._agent.Agent"' in done.stdout
