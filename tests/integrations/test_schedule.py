"""A schedule on progress is complete however fast an agent spends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.digits import Growing, new_sampler
from torch.utils.data import BatchSampler

from dynprune_env import progress_scheduler


def rates(agent: Any, **shape: Any) -> list[list[float]]:
    sampler = new_sampler(agent)
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.1, 1.0)]
    optimizer = torch.optim.SGD(groups)
    scheduler = progress_scheduler(optimizer, sampler, **shape)
    seen = [scheduler.get_last_lr()]
    while not sampler.finished:
        for batch in BatchSampler(sampler, 16, False):
            optimizer.step()
            sampler.record(batch, losses=torch.sin(torch.tensor(batch)) + 1)
            scheduler.step()
            seen.append(scheduler.get_last_lr())
        sampler.select()
    return seen


@pytest.mark.parametrize("agent", ["full_data", "dynamic_random", "infobatch", "growing"])
def test_it_goes_from_the_given_rates_to_nothing(agent: str) -> None:
    seen = rates(Growing() if agent == "growing" else agent)
    assert seen[0] == [0.1, 1.0]
    assert seen[-1] == pytest.approx([0, 0], abs=1e-9)
    assert seen == sorted(seen, reverse=True)


def test_a_shape_of_ones_own_is_a_function_of_progress() -> None:
    seen = rates("full_data", shape=lambda progress: 1 - progress)
    assert seen[1] == pytest.approx([0.1 * (1 - 16 / 500), 1 - 16 / 500])


def test_its_state_is_plain_and_goes_on() -> None:
    sampler = new_sampler()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    state = progress_scheduler(optimizer, sampler).state_dict()
    assert state["lr_lambdas"] == [None]
    progress_scheduler(optimizer, sampler).load_state_dict(state)


def test_mistakes_meet_a_sentence() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    with pytest.raises(ValueError, match="takes a PruningSampler, got 20"):
        progress_scheduler(optimizer, 20)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape is a function of progress"):
        progress_scheduler(optimizer, new_sampler(), "cosine")  # type: ignore[arg-type]
