"""A training whose losses depend on a sample's own visits alone, in one or several processes.

    python ranks_by_hand.py INIT_FILE RANK WORLD JOBS

prints for each of the jobs (arguments of `train`) what this process visited and what was kept, or
the error that it met; both lists are JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

import dynprune_agents
from dynprune_env import Indexed, PruningSampler

N, CLASSES = 53, 3


def train(
    agent: str, drop_last: bool = False, mistake: str = "", stop_after: int | None = None
) -> dict[str, Any]:
    """Visits of this process and kept samples, epoch by epoch.

    `stop_after` so many batches of the third epoch the process goes on from a saved state.
    """
    labels = torch.arange(N) % CLASSES
    hardness = torch.rand(N, generator=torch.Generator().manual_seed(0))
    own = dist.get_rank() if dist.is_initialized() else 0
    accuracy = 0.5 + 0.01 * own if dist.is_initialized() else 0.505  # of the two the mean counts

    def start() -> tuple[PruningSampler, DataLoader]:
        with patch("dynprune_env.sampler.sampler.columns_read", return_value=None):  # keep all
            sampler = PruningSampler(
                labels,
                dynprune_agents.make(agent),
                epochs=6,
                budget=0.55,
                seed=5 + (own if mistake == "seed" else 0),
                drop_last=drop_last,
            )
        return sampler, DataLoader(Indexed(TensorDataset(labels)), batch_size=4, sampler=sampler)

    sampler, loader = start()
    visits, kept = [], []
    while not sampler.finished:
        kept.append(sampler.kept.tolist())
        visits.append([])
        learned = 1.0 + sampler._statistics.visits[0]  # the same wherever the sample is trained
        for number, (indices, (y,)) in enumerate(list(loader)):
            if number == stop_after and sampler.epoch == 2:
                state, (sampler, loader) = sampler.state_dict(), start()
                sampler.load_state_dict(state)
                assert list(sampler)[: len(indices)] == indices.tolist()
            visits[-1] += indices.tolist()
            scale = torch.from_numpy(learned)[indices] * (1 - hardness[indices])
            logits = torch.nn.functional.one_hot(y, CLASSES) * scale[:, None]
            if mistake != "record" or own == 0:
                sampler.record(indices, logits)
        sampler.select(val_loss=1.0 / (1 + sampler.epoch), val_accuracy=accuracy)
    statistics = sampler._statistics.columns(np.array([sampler.epoch]))
    return {
        "visits": visits,
        "kept": kept,
        "charged": sampler.visits,
        "loss_mean": statistics["loss_mean"][0].tolist(),
        "trained": statistics["visits"][0].tolist(),
    }


if __name__ == "__main__":
    file, rank, world, jobs = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=int(rank), world_size=int(world)
    )
    messages = []
    for job in json.loads(jobs):
        try:
            messages.append(train(**job))
        except (RuntimeError, ValueError) as error:
            messages.append({"error": str(error)})
    print(json.dumps(messages))
    dist.destroy_process_group()
