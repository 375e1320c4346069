"""The same sweep on a Ray cluster: one machine, two workers; real processes, real deaths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_faults import FAULTY
from test_resume import numbers

import dynprune_agents
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import load_failures, load_results
from dynprune_env.benchmark.runner import run_sweep

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "dynprune[ray]"')
SMALL: dict[str, Any] = {"train_size": 60, "epochs": 3, "budget": 0.5}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_ray_gives_the_same_results_and_a_dead_worker_costs_its_own_runs_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not the cluster that other tests have up
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    agents = ["dynamic_random", "faulty:Exits", "epsilon_greedy", "infobatch"]
    groups = [RunGroup("DynPrune-Digits-v0", SMALL, agent, (0, 1)) for agent in agents]
    out = tmp_path / "ray"
    try:
        outcomes = list(run_sweep(groups, dynprune_agents.make, out, jobs=2, backend="ray"))
        assert ray.cluster_resources()["CPU"] == 2
    finally:
        ray.shutdown()
    assert sorted(each.group.agent for each in outcomes) == sorted(agents)
    (failed,) = (each for each in outcomes if each.error)
    assert failed.group.agent == "faulty:Exits"
    assert failed.error is not None and failed.error.startswith("WorkerDied: twice.")
    assert len(load_failures([out])) == 2

    list(
        run_sweep([c for c in groups if c.agent != "faulty:Exits"], dynprune_agents.make, tmp_path)
    )
    assert numbers(load_results([out])) == numbers(load_results([tmp_path]))
