"""Runs the dynprune command in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from dynprune_agents.cli import app as cli
from dynprune_env.benchmark.results import load_results

SMALL = ["--env-kwargs", "train_size=60", "--env-kwargs", "epochs=3", "--device", "cpu"]
BENCH = ["bench", *SMALL, "--agents", "ucb", "--budgets", "0.5", "--seeds", "2", "--jobs", "1"]


def call(*arguments: str) -> Result:
    """Runs a command that should succeed."""
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def results(folder: Path = Path("results")) -> list[Any]:
    """What lies in a folder."""
    return list(load_results([folder]))


def call_in_vain(*arguments: str) -> str:
    """What a command says that ends with the exit code 1, on one line."""
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())
