"""The committed sweeps of learning rates are of the rates that the tasks have."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynprune_env.envs.settings import Settings
from dynprune_env.tasks.registry import TASKS

TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "step_size.md"
FORMER = ("Clutter, 0 %", "CIFAR10Small, 0 %")
"""Sections with the rates that today's were chosen against."""
UNSWEPT = {"CIFAR10", "CIFAR100"}
"""They have the published recipe's."""

SECTIONS = [text for text in TABLE.read_text().split("\n### ")[1:] if not text.startswith(FORMER)]


@pytest.mark.parametrize("text", SECTIONS, ids=[text.split(",")[0] for text in SECTIONS])
def test_each_rate_is_the_recipes(text: str) -> None:
    task = text.split()[0].rstrip(",")
    lines = [line.split("|") for line in text.split("\n## ")[0].splitlines() if line[:1] == "|"]
    rates = {float(cells[1]): cells[2].strip() for cells in lines if cells[1].strip()[:1].isdigit()}
    assert rates
    for budget, rate in rates.items():
        assert rate == f"{Settings(task=task, budget=budget).recipe.learning_rate:.3g}"


def test_every_task_was_swept_or_is_named() -> None:
    swept = {text.split()[0].rstrip(",") for text in SECTIONS}
    assert swept == set(TASKS) - UNSWEPT
    assert "CIFAR10 and CIFAR100 (ResNet-18) have the rate of the published recipe" in (
        TABLE.read_text()
    )
