"""`attach` in ignite: every epoch as long as it is, an exact resume."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.digits import EPOCHS, Growing, dataset, net, new_sampler, plain_visits
from torch.utils.data import DataLoader

from dynprune_env import Indexed, PruningSampler

engines = pytest.importorskip("ignite.engine", reason="pytorch-ignite is not installed")

from dynprune_env.integrations.ignite import attach  # noqa: E402


class Run:
    """An engine, and what it trained."""

    def __init__(self, sampler: PruningSampler, metrics: Any = None, returns: str = "logits"):
        self.model = net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.loader = DataLoader(Indexed(dataset()), 16, sampler=sampler)
        self.visits: list[int] = []
        self.returns = returns
        self.engine = engines.Engine(self.step)
        self.pruning = attach(self.engine, self.loader, metrics)

    def step(self, engine: Any, batch: Any) -> dict[str, Any]:
        ids, (inputs, labels) = batch
        logits = self.model(inputs)
        self.optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        losses.mean().backward()
        self.optimizer.step()
        self.visits += ids.tolist()
        return {"logits": {"logits": logits}, "losses": {"losses": losses}, "": {}}[self.returns]

    def go(self, max_epochs: int = EPOCHS) -> Run:
        self.engine.run(self.loader, max_epochs=max_epochs)
        return self


@pytest.mark.parametrize("most", [EPOCHS, 50])
@pytest.mark.parametrize("agent", ["selective_backprop", "growing"])
def test_the_engine_trains_what_a_plain_loop_trains(agent: str, most: int) -> None:
    make: Any = Growing if agent == "growing" else lambda: agent
    sampler = new_sampler(make())
    run = Run(sampler).go(most)
    plain = plain_visits(make())
    assert run.visits == [i for epoch in plain for i in epoch]
    assert sampler.finished
    assert run.engine.state.epoch == len(plain)


def test_losses_of_samples_may_be_returned() -> None:
    sampler = new_sampler("dynamic_random")
    Run(sampler, returns="losses").go()
    assert sampler.visits == 500
    with pytest.raises(RuntimeError, match="the step returns a dict"):
        Run(new_sampler(), returns="").go()


def test_metrics_reach_the_agent() -> None:
    sampler = new_sampler("dynamic_random")
    Run(sampler, lambda: {"val_loss": 0.25}).go()
    assert float(sampler._metrics.val_loss[0]) == 0.25


@pytest.mark.parametrize("where", ["ITERATION_COMPLETED", "EPOCH_COMPLETED"])
@pytest.mark.parametrize("validates", [False, True])
def test_a_run_goes_on_from_any_state_exactly_or_says_that_it_cannot(
    where: str, validates: bool
) -> None:
    metrics = (lambda: {"val_loss": 0.25}) if validates else None
    whole = Run(new_sampler(Growing()), metrics)
    states: list[Any] = []

    def save() -> None:
        parts = whole.model.state_dict(), whole.pruning.state_dict()
        states.append(copy.deepcopy(parts))

    whole.engine.add_event_handler(engines.Events[where], save)
    whole.go()
    refused = 0
    for weights, state in states:
        other = Run(new_sampler(Growing()), metrics)
        other.model.load_state_dict(weights)
        try:
            other.pruning.load_state_dict(state)
        except ValueError as error:
            assert "between an epoch's last batch and its val values" in str(error)
            refused += 1
            continue
        if not other.pruning.sampler.finished:
            other.go()
        assert other.visits == whole.visits[len(whole.visits) - len(other.visits) :]
        assert other.pruning.sampler.visits == whole.pruning.sampler.visits
        assert other.model.weight.equal(whole.model.weight)
    assert refused == (EPOCHS if validates and where == "ITERATION_COMPLETED" else 0)
    assert len(states) - refused >= EPOCHS


@pytest.mark.parametrize(
    ("metrics", "got"),
    [
        (lambda: {"val_loss": 0.25, "loss": 1.0}, "val_loss, loss"),
        (lambda: {"loss": 1.0, "accuracy": 1.0}, "loss, accuracy"),
        (lambda: None, "None"),
    ],
)
def test_metrics_of_other_names_are_refused(metrics: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"metrics gives val_loss and/or val_accuracy, got {got}$"):
        Run(new_sampler(), metrics).go()


def test_metrics_are_a_function() -> None:
    with pytest.raises(ValueError, match=r"metrics is a function that gives .*, got \{'val_loss'"):
        Run(new_sampler(), {"val_loss": 1.0})


@pytest.mark.parametrize("most", [None, 2])
def test_fewer_epochs_than_the_samplers_meet_a_warning(most: Any) -> None:
    run = Run(new_sampler("dynamic_random"))
    sentence = f"max_epochs={most or 1} ends the training before the sampler's {EPOCHS} epochs"
    with pytest.warns(UserWarning, match=sentence):
        run.go(most)
    assert run.pruning.sampler.epoch == (most or 1)


@pytest.mark.parametrize("count", [150, 250])
def test_a_sampler_of_another_length_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"of {count} samples, the train data set is of 200"):
        Run(PruningSampler(count, Growing(), epochs=EPOCHS))


def test_another_loader_is_refused() -> None:
    run = Run(new_sampler())
    other = DataLoader(Indexed(dataset()), 16, sampler=new_sampler())
    with pytest.raises(RuntimeError, match="another loader than attach was given"):
        run.engine.run(other, max_epochs=EPOCHS)
    with pytest.raises(ValueError, match="sampler=a PruningSampler"):
        attach(run.engine, DataLoader(dataset()))
