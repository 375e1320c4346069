"""What the docs say of the learned policies on Digits is what the committed runs say."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.committed_runs import NEEDED, Game, read_rows
from benchmarks.learned.digits import (
    BUDGETS,
    CONTROLS,
    LONGER_PPO,
    NOISE,
    SEEDS_OF_PPO,
    TAUGHT,
    settings,
)
from benchmarks.learned.fresh import RUNS, best_rule
from dynprune_agents import names

DOCS = Path(RUNS).parents[3] / "docs"


@pytest.fixture(scope="module")
def accuracies() -> dict[str, np.ndarray]:
    """(noise, budgets, 50 runs) in percent by agent, of those that weigh with a mean of one."""
    found: defaultdict[str, dict[tuple[float, float], list[float]]] = defaultdict(dict)
    for row in read_rows(RUNS)[1]:
        kwargs = Game(row["env"], row["variant"], row["budget"]).env_kwargs
        if "weights" not in kwargs:
            cell = kwargs["label_noise"], kwargs["budget"]
            found[row["agent"]].setdefault(cell, []).append(100 * row["accuracy"])
    return {
        agent: np.array([[cells[noise, budget] for budget in BUDGETS] for noise in NOISE])
        for agent, cells in found.items()
        if len(cells) >= 9
    }


@pytest.mark.parametrize("policy", SEEDS_OF_PPO)
def test_ppo_of_six_minutes_is_above_dynamic_random_rules_and_constant_plans(
    policy: str, accuracies: dict[str, np.ndarray]
) -> None:
    lead = accuracies[policy] - accuracies["dynamic_random"]
    assert (lead.mean(-1) > 0).all()
    error = lead.mean((0, 1)).std(ddof=1) / np.sqrt(lead.shape[-1])
    assert lead.mean() > 1 > 1.96 * error
    rules = set(names()) - {"learned", "sb3"}
    rivals = [accuracies[name].mean() for name in {*rules, *CONTROLS} & accuracies.keys()]
    assert len(rivals) > 60
    assert accuracies[policy].mean() > max(rivals)


@pytest.fixture(scope="module")
def best(accuracies: dict[str, np.ndarray]) -> np.ndarray:
    """(9,) accuracies of the best rule of each setting."""
    _, rows = read_rows(RUNS, NEEDED)
    means = [accuracies[best_rule(rows, setting)].mean(-1).ravel() for setting in settings()]
    return np.diag(means)


def test_the_taught_policy_is_level_with_or_above_the_best_rule_of_each_setting(
    accuracies: dict[str, np.ndarray], best: np.ndarray
) -> None:
    lead = accuracies[TAUGHT].mean(-1).ravel() - best
    assert (lead >= 0).all()
    assert (lead > 0.15).sum() == 8


WEIGHTED = "learned(policy='weighted')"


def test_the_clone_with_weights_is_above_the_best_rule_in_eight_settings(
    accuracies: dict[str, np.ndarray], best: np.ndarray
) -> None:
    lead = accuracies[WEIGHTED].mean(-1).ravel() - best
    assert (lead > 0).sum() == 8
    assert lead[1] == lead.min() == pytest.approx(-0.02, abs=0.005)
    assert lead.max() == pytest.approx(1.15, abs=0.005)
    above_random = accuracies[WEIGHTED] - accuracies["dynamic_random"]
    assert above_random.mean() == pytest.approx(1.34, abs=0.005)


def test_the_table_of_the_docs_is_that_of_the_runs(accuracies: dict[str, np.ndarray]) -> None:
    lines = (DOCS / "learned_policies.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    mean_of_three = np.mean([accuracies[seed] for seed in SEEDS_OF_PPO], axis=0)
    for label, table in {
        "PPO trained on Digits alone, with weights": accuracies[LONGER_PPO],
        "PPO trained on Digits alone, mean of three": mean_of_three,
        "taught by it, and by a plan for clean labels": accuracies[TAUGHT],
        "`sb3(policy='ppo_short')`": accuracies["sb3(policy='ppo_short')"],
        "`sb3`: PPO, long and short runs": accuracies["sb3"],
        "`learned(policy='weighted')`": accuracies["learned(policy='weighted')"],
        "`learned`": accuracies["learned"],
        "`dynamic_random`": accuracies["dynamic_random"],
    }.items():
        said = [float(cell.strip().strip("*")) for cell in rows[label]]
        assert said == pytest.approx(table.mean(-1).ravel(), abs=0.0501), label
