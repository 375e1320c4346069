"""A `PruningSampler` in ordinary PyTorch loops."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.episodes import make, watch_passes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import dynprune_agents
from dynprune_agents import Agent
from dynprune_env import Indexed, PruningSampler, WholeBatches
from dynprune_env.common.randomness import Purpose, stream_seed
from dynprune_env.sampler.processes import Ranks
from dynprune_env.selection.statistics import from_losses, sample_values
from dynprune_env.tasks.models import make_model
from dynprune_env.training.learner import fresh_model

N, CLASSES = 60, 3
REFUSED = ("forgetting", "el2n", "grand", "aum", "cartography", "ccs", "dyn_unc", "rho_loss")
REFUSED += ("molpeg", "kakurenbo", "dual", "tdds", "ies", "es", "progressive_dropout")
REFUSED += ("random_progressive", "cover")
SEVERAL = ("full_data", "dynamic_random", "ucb", "infobatch", "exp3", "linucb", "learned", "sb3")


def data(n: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % CLASSES
    return TensorDataset(torch.randn(n, 4, generator=generator) + labels[:, None], labels)


def new_sampler(agent: str | Agent = "ucb", **changes: Any) -> PruningSampler:
    agent = dynprune_agents.make(agent) if isinstance(agent, str) else agent
    kwargs = {"epochs": 5, "budget": 0.6, "seed": 3}
    return PruningSampler(data().tensors[1], agent, **{**kwargs, **changes})


class Loop:
    """A user's training: model, optimiser, loader."""

    def __init__(self, sampler: PruningSampler, **loader: Any):
        self.sampler = sampler
        self.loader = DataLoader(
            Indexed(data()), sampler=sampler, **{"batch_size": 8, "num_workers": 0, **loader}
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Linear(4, CLASSES)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)

    def step(self, indices: Tensor, x: Tensor, y: Tensor) -> list[int]:
        """Trains one batch; returns its samples."""
        logits = self.model(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        (losses * self.sampler.weights(indices)).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.sampler.record(indices, logits)
        return indices.tolist()

    def epoch(self) -> list[int]:
        """Trains an epoch; returns what it visited, in order."""
        visited = [i for indices, (x, y) in self.loader for i in self.step(indices, x, y)]
        self.sampler.select()
        return visited

    def run(self) -> list[list[int]]:
        visits = []
        while not self.sampler.finished:
            visits.append(self.epoch())
        return visits

    def state(self) -> dict[str, Any]:
        return {
            "model": {name: tensor.clone() for name, tensor in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])


# -- the same game as the environment's ---------------------------------------------------------


@pytest.mark.parametrize("name", ["dynamic_random", "ucb", "infobatch", "learned"])
def test_a_plain_loop_visits_what_the_environment_visits(name: str) -> None:
    agent = dynprune_agents.make(name)
    kind = dict(agent.env_kwargs).get("action", "mask")
    env = make(train_size=200, epochs=6, budget=0.5, action=kind, learner="modules")
    observation, _ = env.reset(seed=7)
    passes = watch_passes(env)
    agent.reset(env.episode(seed=7))
    terminated, val = False, []
    while not terminated:
        action = agent.select(observation)
        observation, _, terminated, _, info = env.step(action)
        val.append((info["val_loss"], info["val_accuracy"]))

    split, recipe = env.dataset.train, env.settings.recipe
    start = stream_seed(info["run_seed"], 0, Purpose.MODEL)
    model = fresh_model(partial(make_model, "mlp", (64,), 10), start)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    sampler = PruningSampler(
        split.labels, dynprune_agents.make(name), epochs=6, budget=0.5, num_classes=10, seed=7
    )
    loader = DataLoader(
        Indexed(TensorDataset(split.inputs, split.labels)),
        batch_sampler=WholeBatches(sampler, recipe.batch_size),
    )
    for job, (val_loss, val_accuracy) in zip(passes, val, strict=True):
        visited = []
        for rate, (indices, (x, y)) in zip(job[0].rates.tolist(), loader, strict=True):
            logits = model(x)
            losses = F.cross_entropy(logits, y, reduction="none")
            (losses * sampler.weights(indices)).mean().backward()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            sampler.record(indices, logits)
            visited += indices.tolist()
        assert visited == job[0].order.tolist()
        sampler.select(val_loss=val_loss, val_accuracy=val_accuracy)
    assert sampler.finished
    assert sampler.visits == info["run_visits"]


@pytest.mark.parametrize("name", sorted({*dynprune_agents.names()} - {*REFUSED}))
def test_any_agent_spends_at_most_the_budget_and_ends(name: str) -> None:
    visits = Loop(new_sampler(name)).run()
    assert 1 <= len(visits) <= 5
    assert sum(map(len, visits)) <= 0.6 * 5 * N
    assert all(len(set(epoch)) == len(epoch) for epoch in visits)


@pytest.mark.parametrize("name", REFUSED)
def test_an_agent_that_needs_more_than_losses_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs .* plays in DynPruneEnv only"):
        new_sampler(name)


def test_weights_are_those_of_the_agent_and_ones_under_a_mask() -> None:
    loop = Loop(new_sampler("infobatch", budget=1.0, weights="raw"))
    seen = set()
    while not loop.sampler.finished:
        seen |= set(loop.sampler.weights(loop.sampler.kept).tolist())
        loop.epoch()
    assert seen == {1.0, 2.0}
    sampler = new_sampler("ucb")
    assert sampler.weights(torch.tensor([0, 5])).tolist() == [1.0, 1.0]
    assert sampler.weights([[0], [1]]).shape == (2, 1)


# -- a DataLoader's ways ------------------------------------------------------------------------


def test_iterating_changes_nothing() -> None:
    sampler, other = new_sampler(), new_sampler()
    before = random.getstate(), torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    orders = [list(sampler) for _ in range(3)]
    assert orders[0] == orders[1] == orders[2] == list(other)
    assert len(orders[0]) == len(sampler)
    after = random.getstate(), torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    assert before[0] == after[0]
    assert before[1].equal(after[1])
    assert before[2] == after[2]


def test_indexed_gives_the_same_one_by_one_and_in_batches() -> None:
    for dataset in (data(), Subset(data(), [4, 2, 9])):  # the second can give batches
        indexed = Indexed(dataset)
        for i, (index, (x, y)) in zip([2, 0], indexed.__getitems__([2, 0]), strict=True):
            assert index == i == indexed[i][0]
            assert x.equal(indexed[i][1][0])
            assert y == dataset[i][1]
        assert len(indexed) == len(dataset)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing(persistent: bool) -> None:
    plain = Loop(new_sampler()).run()
    working = Loop(new_sampler(), num_workers=2, persistent_workers=persistent)
    assert working.run() == plain


def test_a_loader_may_drop_its_last_batch_and_only_visits_are_charged() -> None:
    loop = Loop(new_sampler("dynamic_random"), drop_last=True)
    first = loop.epoch()
    assert len(first) == 32  # of 36 kept
    assert loop.sampler.visits == 32
    seen = [first, *loop.run()]
    assert loop.sampler.visits == sum(map(len, seen))
    assert all(len(epoch) % 8 == 0 for epoch in seen)


def test_an_epoch_too_short_for_one_batch_is_no_mistake_where_the_last_batch_is_dropped() -> None:
    loop = Loop(new_sampler("full_data", budget=0.22), drop_last=True)  # pays for 66 visits
    assert [len(epoch) for epoch in loop.run()] == [56, 8, 0, 0, 0]


def test_the_sampler_works_with_accumulation_mixed_precision_and_a_schedule() -> None:
    sampler = new_sampler("dynamic_random")
    loop = Loop(sampler)
    scaler = torch.amp.GradScaler("cpu")
    steps = sampler.steps_remaining(2 * 8)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(loop.optimizer, 0.1, total_steps=steps)
    taken = 0
    while not sampler.finished:
        for number, (indices, (x, y)) in enumerate(loop.loader, start=1):
            with torch.autocast("cpu", torch.bfloat16):
                logits = loop.model(x)
                losses = F.cross_entropy(logits, y, reduction="none")
            assert logits.dtype == torch.bfloat16
            scaler.scale(losses.mean() / 2).backward()
            sampler.record(indices, logits)
            if number % 2 == 0 or number == len(loop.loader):
                scaler.step(loop.optimizer)
                scaler.update()
                loop.optimizer.zero_grad()
                scheduler.step()
                taken += 1
        sampler.select()
    assert taken == steps
    assert sampler.steps_remaining(16) == 0


@pytest.mark.parametrize("last", ["kept", "dropped", "joined"])
@given(n=st.integers(1, 40), epochs=st.integers(1, 6), size=st.integers(1, 9), seed=st.integers(0))
def test_the_steps_that_remain_are_exact_for_an_even_pace(
    last: str, n: int, epochs: int, size: int, seed: int
) -> None:
    agent = dynprune_agents.make("dynamic_random")
    seed %= 1000
    sampler = PruningSampler(n, agent, epochs=epochs, budget=(1 + seed % 10) / 10, seed=seed)
    drops, joins = last == "dropped", last == "joined"
    expected, counted = sampler.steps_remaining(size, drops, joins), 0
    ways = {"batch_size": size, "sampler": sampler, "drop_last": drops}
    loader = DataLoader(
        range(n), **({"batch_sampler": WholeBatches(sampler, size)} if joins else ways)
    )
    while not sampler.finished:
        length = len(loader)
        for number, ids in enumerate(loader, start=1):
            assert number <= length
            sampler.record(ids, losses=torch.ones(len(ids)))
            counted += 1
        if not counted and len(sampler):
            return  # no batch at all: a mistake that `select` tells of
        sampler.select()
    assert counted == expected


def test_whole_batches_need_a_positive_size() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        WholeBatches(new_sampler("ucb"), 0)


def test_progress_rises_with_every_record_to_one() -> None:
    loop = Loop(new_sampler("infobatch", budget=0.3))
    seen = [loop.sampler.progress]
    while not loop.sampler.finished:
        for indices, (x, y) in loop.loader:
            loop.step(indices, x, y)
            seen.append(loop.sampler.progress)
        end = loop.sampler.progress
        loop.sampler.select()
        assert loop.sampler.progress == pytest.approx(end)
    assert seen[0] == 0
    assert all(a < b for a, b in pairwise(seen))
    assert seen[-1] == pytest.approx(1)


def test_records_leave_the_graph_and_the_callers_tensors_alone() -> None:
    sampler = new_sampler("ucb", budget=1.0)
    logits = torch.randn(N, CLASSES, requires_grad=True)
    values = (logits * 1).clone()
    sampler.record(torch.arange(N), values)
    with torch.no_grad():
        values.zero_()  # as a captured graph overwrites its output
    sampler.select()
    assert sampler._statistics.loss.std() > 0
    assert logits.grad is None


# -- losses instead of logits -------------------------------------------------------------------


def test_losses_of_two_classes_say_all_that_logits_say() -> None:
    logits = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 4
    labels = torch.arange(50) % 2
    losses = F.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(
        from_losses(losses, 2).numpy(), sample_values(logits, labels), rtol=1e-3, atol=1e-5
    )


@given(loss=st.floats(0, 1000), classes=st.integers(2, 100))
def test_values_from_any_loss_are_finite(loss: float, classes: int) -> None:
    assert from_losses(torch.tensor([loss]), classes).isfinite().all()


def test_values_from_the_loss_of_a_uniform_prediction_are_those_of_the_unvisited() -> None:
    loss, confidence, _, el2n, correct = from_losses(torch.tensor([np.log(10)]), 10)[:, 0].tolist()
    assert (loss, confidence) == (pytest.approx(np.log(10)), pytest.approx(0.1))
    assert (el2n, correct) == (pytest.approx(np.sqrt(0.9)), 0)


def test_a_regression_without_labels_can_be_pruned() -> None:
    sampler = PruningSampler(N, dynprune_agents.make("ucb"), epochs=4, budget=0.5)
    x = torch.arange(N) / N
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(Indexed(TensorDataset(x[:, None], 3 * x)), 10, sampler=sampler)
    while not sampler.finished:
        for indices, (inputs, targets) in loader:
            losses = (model(inputs)[:, 0] - targets) ** 2
            losses.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            sampler.record(indices, losses=losses)
        sampler.select()
    assert sampler.visits == 120


# -- resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEVERAL)
def test_a_run_stopped_after_any_epoch_goes_on_with_the_same_visits(
    name: str, tmp_path: Path
) -> None:
    loop, states, visits = Loop(new_sampler(name)), [], []
    while not loop.sampler.finished:
        states.append(loop.state())
        torch.save(states[-1], tmp_path / f"{len(visits)}.pt")
        visits.append(loop.epoch())
    for epoch in range(len(visits)):
        other = Loop(new_sampler(name))
        other.load(torch.load(tmp_path / f"{epoch}.pt", weights_only=True))
        assert other.run() == visits[epoch:]


@pytest.mark.parametrize("name", ["dynamic_random", "ucb", "infobatch", "learned", "thompson"])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_with_the_same_visits(
    name: str, batches: int
) -> None:
    whole = Loop(new_sampler(name)).run()
    loop = Loop(new_sampler(name))
    loop.epoch()
    begun = []
    for _, (indices, (x, y)) in zip(range(batches), loop.loader, strict=False):
        begun += loop.step(indices, x, y)
    state = loop.state()
    other = Loop(new_sampler(name))
    other.load(state)
    assert len(other.sampler) == len(whole[1]) - len(begun)
    rest = other.run()
    assert [begun + rest[0], *rest[1:]] == whole[1:]


def test_a_state_of_another_run_is_refused() -> None:
    state = new_sampler("ucb").state_dict()
    for other in (new_sampler("ucb(c=2.0)"), new_sampler("ucb", seed=4), new_sampler(budget=0.5)):
        with pytest.raises(ValueError, match="the state is of a run with"):
            other.load_state_dict(state)


# -- mistakes -----------------------------------------------------------------------------------


def everything(sampler: PruningSampler) -> tuple[Tensor, Tensor]:
    kept = torch.from_numpy(sampler.kept)
    return kept, torch.zeros(len(kept), CLASSES)


def too_often(sampler: PruningSampler) -> None:
    sampler.record(*everything(sampler))
    sampler.record(*everything(sampler))


def twice(sampler: PruningSampler) -> None:
    sampler.record(sampler.kept[[0, 0]], torch.zeros(2, CLASSES))
    sampler.select()


def dropped(sampler: PruningSampler) -> None:
    sampler.record(np.setdiff1d(np.arange(N), sampler.kept)[:2], torch.zeros(2, CLASSES))
    sampler.select()


def broken(sampler: PruningSampler) -> None:
    kept, logits = everything(sampler)
    logits[3] = torch.nan
    sampler.record(kept, logits)
    sampler.select()


MISTAKES: dict[str, tuple[Callable[[PruningSampler], Any], str]] = {
    "never recorded": (lambda s: s.select(), "nothing was recorded in this epoch"),
    "never selected": (too_often, "call select() once at the end of every epoch"),
    "recorded twice": (twice, "hand them out, or only once"),
    "not handed out": (dropped, "this epoch does not hand them out"),
    "out of range": (
        lambda s: s.record([N], torch.zeros(1, CLASSES)),
        f"indices are in [0, {N}), got {N}",
    ),
    "negative": (
        lambda s: s.record([-1], torch.zeros(1, CLASSES)),
        f"indices are in [0, {N}), got -1",
    ),
    "no indices": (lambda s: s.record(torch.zeros(2), torch.zeros(2, 3)), "indices are (B,)"),
    "other length": (
        lambda s: s.record([0, 1], torch.zeros(3, CLASSES)),
        "logits are (B, C) for B = 2 indices, got (3, 3)",
    ),
    "mean loss": (lambda s: s.record([0, 1], losses=torch.tensor(1.0)), 'use reduction="none"'),
    "few logits": (lambda s: s.record([0], torch.zeros(1, 2)), "a column for each of 3 classes"),
    "neither": (lambda s: s.record([0]), "either logits or losses"),
    "NaN": (broken, "the losses of 1 samples are not finite"),
    "NaN on val": (
        lambda s: (s.record(*everything(s)), s.select(val_loss=float("nan"))),
        "val_loss and val_accuracy are finite, got nan",
    ),
    "wrong rank": (lambda _: new_sampler(rank=1), "rank is in [0, num_replicas), got 1 of 1"),
    "wrong rank count": (
        lambda _: new_sampler(num_replicas=2, rank=0),
        "shared by 2 processes, but torch.distributed runs 1",
    ),
    "a spec": (
        lambda _: PruningSampler(N, "ucb", epochs=3),  # type: ignore[arg-type]
        "pass an agent, such as dynprune_agents.make(\"ucb\"), got 'ucb'",
    ),
    "labels": (
        lambda _: PruningSampler([0, 5], Agent, epochs=3, num_classes=3),  # type: ignore[arg-type]
        "labels are in [0, 3), got values from 0 to 5",
    ),
    "float labels": (
        lambda _: PruningSampler(torch.rand(5), Agent, epochs=3),  # type: ignore[arg-type]
        "labels are (n,) integers",
    ),
    "budget": (lambda _: new_sampler(budget=0.0), "budget is a share of a full run in (0, 1]"),
    "epochs": (lambda _: new_sampler(epochs=0), "epochs is at least 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_meets_one_clear_sentence(mistake: str) -> None:
    make_it, sentence = MISTAKES[mistake]
    with pytest.raises((ValueError, RuntimeError), match=re.escape(sentence)) as caught:
        make_it(new_sampler("dynamic_random"))
    assert "\n" not in str(caught.value)


def test_a_run_that_is_over_selects_no_more() -> None:
    loop = Loop(new_sampler("dynamic_random"))
    loop.run()
    assert list(loop.sampler) == []
    with pytest.raises(RuntimeError, match="the run is over"):
        loop.sampler.select()


# -- shares of processes ------------------------------------------------------------------------


@given(k=st.integers(0, 50), number=st.integers(1, 7), drop_last=st.booleans())
def test_shares_are_those_of_torchs_distributed_sampler(
    k: int, number: int, drop_last: bool
) -> None:
    order = np.random.default_rng(0).permutation(100)[:k]
    for rank in range(number):
        mine = Ranks(number, rank, drop_last).share(order)
        if k >= number:  # with fewer DistributedSampler's drop_last is not defined
            theirs = DistributedSampler(
                order,  # type: ignore[arg-type]
                number,
                rank,
                shuffle=False,
                drop_last=drop_last,
            )
            assert mine.tolist() == order[list(theirs)].tolist()
        assert len(mine) == (k // number if drop_last else -(-k // number))
