"""Runs the dynprune command in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
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


def refuse(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the console script prints to the output and to the errors as it ends with code 2."""
    old = sys.argv
    sys.argv = ["dynprune", *arguments]
    try:
        with pytest.raises(SystemExit) as done:
            cli.main()
    finally:
        sys.argv = old
    assert done.value.code == 2
    captured = capsys.readouterr()
    return captured.out, captured.err
