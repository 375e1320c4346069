"""torchdata's StatefulDataLoader: a resume is exact, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.digits import N, new_sampler

from dynprune_env import Indexed, PruningSampler, WholeBatches

stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning:torchdata")


def loader(sampler: PruningSampler, workers: int, whole: bool) -> Any:
    ways: dict[str, Any] = {"batch_size": 10, "sampler": sampler}
    if whole:
        ways = {"batch_sampler": WholeBatches(sampler, 10)}
    return stateful.StatefulDataLoader(Indexed(range(N)), num_workers=workers, **ways)


def step(sampler: PruningSampler, ids: torch.Tensor) -> list[int]:
    sampler.record(ids, losses=torch.sin(ids) + 1)
    return ids.tolist()


def stopped(workers: int, whole: bool) -> tuple[PruningSampler, Any, list[int]]:
    """A run after four of ten batches."""
    sampler = new_sampler("dynamic_random")
    found, begun = loader(sampler, workers, whole), []
    for number, (ids, _) in enumerate(found, start=1):
        begun += step(sampler, ids)
        if number == 4:
            return sampler, found, begun
    raise AssertionError


@pytest.mark.parametrize("whole", [False, True])
def test_without_workers_the_loaders_state_alone_goes_on_exactly(whole: bool) -> None:
    sampler, found, begun = stopped(0, whole)
    other = new_sampler("dynamic_random")
    again = loader(other, 0, whole)
    again.load_state_dict(found.state_dict())
    rest = [i for ids, _ in again for i in step(other, ids)]
    assert begun + rest == sampler.kept.tolist()
    other.select()
    assert other.visits == 100


@pytest.mark.parametrize("whole", [False, True])
def test_with_workers_which_fetch_ahead_the_loaders_state_alone_is_refused(whole: bool) -> None:
    _, found, _ = stopped(1, whole)
    again = loader(new_sampler("dynamic_random"), 1, whole)
    again.load_state_dict(found.state_dict())
    with pytest.raises(ValueError, match=r"workers fetch ahead.*sampler.state_dict\(\) alone"):
        next(iter(again))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_samplers_state_alone_goes_on_exactly(workers: int, whole: bool) -> None:
    sampler, _, begun = stopped(workers, whole)
    other = new_sampler("dynamic_random")
    other.load_state_dict(sampler.state_dict())
    rest = [i for ids, _ in loader(other, workers, whole) for i in step(other, ids)]
    assert begun + rest == sampler.kept.tolist()


@pytest.mark.parametrize("whole", [False, True])
def test_an_older_state_of_the_loader_after_the_samplers_is_refused(whole: bool) -> None:
    sampler, found, _ = stopped(1, whole)
    other = new_sampler("dynamic_random")
    other.load_state_dict(sampler.state_dict())
    again = loader(other, 1, whole)
    again.load_state_dict(found.state_dict())
    with pytest.raises(ValueError, match=r"the state is older: it has \d+ of the 40 records"):
        next(iter(again))
    assert len(other) == 60


@pytest.mark.parametrize("whole", [False, True])
def test_both_states_of_one_moment_go_on_exactly_without_workers(whole: bool) -> None:
    sampler, found, begun = stopped(0, whole)
    other = new_sampler("dynamic_random")
    other.load_state_dict(sampler.state_dict())
    again = loader(other, 0, whole)
    again.load_state_dict(found.state_dict())
    rest = [i for ids, _ in again for i in step(other, ids)]
    assert begun + rest == sampler.kept.tolist()
