"""Whatever runs samples through a model is charged: probes and scoring runs, method by method."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, make_vector, play, random_masks
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

import dynprune_agents
from dynprune_agents import Agent
from dynprune_env.envs.scoring import EnvScoringRuns, TrainerProbe
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.agent import Probe, ScoringRuns
from dynprune_env.tasks.models import MODELS
from dynprune_env.training.loading import InputTable

N = 48
HALF = np.arange(N) % 2 == 0

# What each public method charges a replica, in visits; None: it reads no sample.
PROBE: dict[str, tuple[Callable[[Any], Any], float | None]] = {
    "models": (lambda probe: probe.models(), None),
    "losses": (lambda probe: probe.losses(), N / 3),
    "features": (lambda probe: probe.features(), N / 3),
    "batches": (lambda probe: list(probe.batches(20)), N / 3),
}
RUNS: dict[str, tuple[Callable[[Any], Any], float | None]] = {
    "run": (lambda runs: list(runs.run(1, 2, HALF)), 2 * N / 2),
    "models": (lambda runs: runs.models(), None),
    "values": (lambda runs: runs.values(), N / 3),
    "probabilities": (lambda runs: runs.probabilities(), N / 3),
    "gradient_norms": (lambda runs: runs.gradient_norms(chunk=20), N),
    "charge": (lambda runs: runs.charge(2.0), 2 * N),
    "random_mask": (lambda runs: runs.random_mask(0.5), None),
    "as_observed": (lambda runs: runs.as_observed(np.zeros((2, 3))), None),
}


def public(*classes: type) -> set[str]:
    """The public methods and properties of these classes."""
    return {
        name
        for each in classes
        for name, value in vars(each).items()
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    }


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of samples whenever inputs are read."""
    counts: list[int] = []
    original = InputTable.batch

    def watched(self: InputTable, ids: Tensor, noise: Tensor | None = None) -> Tensor:
        counts.append(ids.numel())
        return original(self, ids, noise)

    monkeypatch.setattr(InputTable, "batch", watched)
    return counts


def started(**settings: Any) -> Any:
    """Two replicas after an epoch on half of the samples, with all but that of the budget left."""
    env = make_vector(2, **{"budget": 1.0, **settings})
    env.reset(seed=3)
    env.step(np.broadcast_to(HALF, (2, N)))
    return env


def probe_of(env: Any) -> Any:
    return env.episode([3, 4]).probe


def charged(env: Any) -> np.ndarray:
    return env.trainer.budget.charged.copy()


def test_every_public_method_has_a_row_that_says_what_it_charges() -> None:
    assert public(TrainerProbe) == public(Probe) == PROBE.keys()
    assert public(EnvScoringRuns) == public(ScoringRuns) == RUNS.keys()


@pytest.mark.parametrize("name", PROBE)
def test_a_probe_charges_what_it_reads_and_nothing_else(name: str, read: list[int]) -> None:
    call, cost = PROBE[name]
    env = started()
    before, probe = charged(env), probe_of(env)
    read.clear()
    call(probe)
    assert charged(env) - before == pytest.approx([cost or 0] * 2)
    assert bool(read) == (cost is not None)


@pytest.mark.parametrize("name", RUNS)
def test_scoring_runs_charge_what_they_read_and_nothing_else(name: str, read: list[int]) -> None:
    call, cost = RUNS[name]
    env = started(learner="modules")
    budget, runs = charged(env), env.scoring_runs([3, 4])
    list(runs.run(0, 1))
    before = runs.visits.copy()
    read.clear()
    call(runs)
    assert runs.visits - before == pytest.approx([cost or 0] * 2)
    assert bool(read) == (cost is not None and name != "charge")
    assert (charged(env) == budget).all()  # it is not the episode's budget that pays


def test_batches_are_charged_as_they_are_drawn() -> None:
    env = started()
    before, drawn = charged(env), probe_of(env).batches(20)
    for size, total in ((20, 20), (20, 40), (8, 48)):
        inputs, labels = next(drawn)
        assert len(inputs) == len(labels) == size
        assert charged(env) - before == pytest.approx([total / 3] * 2)
    assert next(drawn, None) is None


@pytest.mark.parametrize("method", ["losses", "features"])
def test_only_what_is_asked_for_is_read_and_charged(method: str, read: list[int]) -> None:
    env = started()
    everything = getattr(probe_of(env), method)()
    before = charged(env)
    where = np.stack([HALF, np.arange(N) < 5])
    read.clear()
    some = getattr(probe_of(env), method)(where=where)
    assert sum(read) == 24 + 5
    assert charged(env) - before == pytest.approx([24 / 3, 5 / 3])
    np.testing.assert_array_equal(np.isnan(some), ~np.isfinite(some))
    np.testing.assert_array_equal(~np.isnan(some).reshape(2, N, -1).any(-1), where)
    np.testing.assert_allclose(some[where], everything[where], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["losses", "features"])
def test_a_replica_may_ask_for_nothing(method: str) -> None:
    env = started()
    before = charged(env)
    where = np.stack([HALF, np.zeros(N, dtype=bool)])
    found = getattr(probe_of(env), method)(where=where)
    assert charged(env) - before == pytest.approx([24 / 3, 0])
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[0][HALF]).all()


@pytest.mark.parametrize("method", ["losses", "features"])
def test_what_the_budget_cannot_pay_for_is_refused_and_not_charged(
    method: str, read: list[int]
) -> None:
    env = started(budget=(24 + 16) / (4 * N))  # 16 visits are left: a pass, but not a visit more
    before, probe = charged(env), probe_of(env)
    read.clear()
    assert getattr(probe, method)() is None
    assert read == []
    assert (charged(env) == before).all()
    most = np.broadcast_to(np.arange(N) < 45, (2, N))  # 15 visits, which leave one to train
    assert getattr(probe, method)(where=most) is not None
    assert charged(env) - before == pytest.approx([15] * 2)
    assert getattr(probe, method)(where=most) is None


def with_one_that_can_pay() -> DynPruneVectorEnv:
    """Two runs with 24 and 8 visits left: a pass costs 16."""
    env = make_vector(2, budget=0.5)
    env.reset(seed=[3, 4])
    env.step(np.stack([np.ones(N), np.ones(N)]))
    env.step(np.stack([HALF, np.arange(N) < 40]))
    return env


@pytest.mark.parametrize("method", ["losses", "features"])
def test_a_replica_that_cannot_pay_is_nan_and_the_other_is_as_if_alone(method: str) -> None:
    env = with_one_that_can_pay()
    before = charged(env)
    found = getattr(probe_of(env), method)()
    assert charged(env) - before == pytest.approx([16, 0])
    assert np.isnan(found[1]).all()
    alone = make_vector(1, budget=0.5)
    alone.reset(seed=[3])
    for mask in (np.ones(N), HALF):
        alone.step(mask[None])
    np.testing.assert_allclose(
        found[0], getattr(alone.episode([3]).probe, method)()[0], rtol=1e-5, atol=1e-6
    )
    assert getattr(probe_of(env), method)() is None


def test_batches_are_drawn_for_all_replicas_or_none() -> None:
    env = with_one_that_can_pay()
    before, drawn = charged(env), probe_of(env).batches(30)
    with pytest.raises(RuntimeError, match="cannot pay for reading 30 samples"):
        next(drawn)
    assert (charged(env) == before).all()


def test_batches_that_the_budget_cannot_pay_for_are_an_error() -> None:
    env = started(budget=(24 + 16) / (4 * N))
    before, drawn = charged(env), probe_of(env).batches(30)
    next(drawn)
    with pytest.raises(RuntimeError, match="cannot pay for reading 18 samples"):
        next(drawn)
    assert charged(env) - before == pytest.approx([10] * 2)


def with_one_that_is_over() -> DynPruneVectorEnv:
    """Two runs; the first has spent its budget."""
    env = make_vector(2, budget=0.5)
    env.reset(seed=3)
    for _ in range(2):
        env.step(np.stack([np.ones(N), np.arange(N) < 10]))
    return env


def test_a_replica_that_is_over_is_not_charged() -> None:
    env = with_one_that_is_over()
    before = charged(env)
    assert env.trainer.finished.tolist() == [True, False]
    assert probe_of(env).losses() is not None
    assert charged(env) - before == pytest.approx([0, 16])


def test_there_must_be_a_run_before_there_is_anything_to_score() -> None:
    env = make()
    env.reset(seed=0)
    runs = env.scoring_runs(0)
    for name in ("models", "values", "probabilities", "gradient_norms"):
        with pytest.raises(RuntimeError, match="there was no run yet"):
            getattr(runs, name)()
    assert runs.visits == pytest.approx([0])


# -- passes through the models of a probe ------------------------------------------------------


def run_through(models: list[nn.Module], batches: Any) -> None:
    """A pass of every batch through every model."""
    for inputs, _ in batches:
        for model in models:
            model(inputs)


def inputs_of(env: Any) -> Tensor:
    """All inputs, as nobody has drawn them."""
    return env.dataset.train.inputs


def test_batches_that_were_kept_cost_as_much_in_every_later_epoch() -> None:
    env = started()
    before, probe = charged(env), probe_of(env)
    kept, old = list(probe.batches(20)), probe.models()
    run_through(old, kept)
    assert charged(env) - before == pytest.approx([16] * 2)
    for epoch in (1, 2):
        saved = env.step(np.broadcast_to(HALF, (2, N)))[-1]["saved"]
        assert saved == pytest.approx([1 - (24 + epoch * (16 + 24)) / (4 * N)] * 2)
        run_through(probe.models() if epoch == 1 else old, kept)
        assert charged(env) - before == pytest.approx([16 + epoch * (24 + 16)] * 2)


def test_what_was_drawn_pays_for_one_pass_through_each_model() -> None:
    env = started(averaging=0.9)
    before, probe = charged(env), probe_of(env)
    models, averaged = probe.models(), probe.models(averaged=True)
    for place, (inputs, _) in enumerate(probe.batches(16)):
        start = before + (16 + place * 32) / 3
        assert charged(env) == pytest.approx(start)
        for model in models:
            model(inputs[:10])
            model(input=inputs[10:].clone())
        assert charged(env) == pytest.approx(start)
        averaged[0](inputs)
        assert charged(env) == pytest.approx(start + np.array([16 / 3, 0]))
        models[1](inputs)
        assert charged(env) == pytest.approx(start + 16 / 3)


def test_all_that_was_drawn_may_be_run_at_once() -> None:
    env = started()
    before, probe = charged(env), probe_of(env)
    inputs = torch.cat([x for x, _ in probe.batches(20)])
    for times in (0, 1, 2):
        run_through(probe.models(), [(inputs, None)])
        assert charged(env) - before == pytest.approx([16 + times * 16] * 2)


def test_what_was_drawn_pays_until_the_next_epoch() -> None:
    env = started()
    probe = probe_of(env)
    ((inputs, _),) = probe.batches(N)
    env.step(np.broadcast_to(HALF, (2, N)))
    before = charged(env)
    probe.models()[0](inputs)
    assert charged(env) - before == pytest.approx([16, 0])
    next(probe.batches(30))
    probe.models()[0](inputs)
    assert charged(env) - before == pytest.approx([16 + 10 + 6, 10])


def test_a_new_run_owns_nothing_that_was_drawn_before() -> None:
    env = started()
    probe = probe_of(env)
    ((inputs, _),) = probe.batches(N)
    models = probe.models()
    env.reset(seed=8)
    models[1](inputs)
    assert charged(env) == pytest.approx([0, 16])


def test_a_pass_that_the_budget_cannot_pay_for_is_refused_before_it_is_made() -> None:
    env = started(budget=(24 + 16) / (4 * N))  # 16 visits are left: a pass, but not a visit more
    before, probe, made = charged(env), probe_of(env), []
    model, inputs = probe.models()[1], inputs_of(env)
    model[-1].register_forward_hook(lambda *_: made.append(1))
    for times in (0, 1):
        with pytest.raises(RuntimeError, match=r"cannot pay for a pass of 48 .* of replica 1"):
            model(inputs)
        assert len(made) == times
        assert charged(env) - before == pytest.approx([0, times])
        model(inputs[:3])
    assert charged(env) - before == pytest.approx([0, 2])


def test_a_refused_pass_leaves_what_was_drawn() -> None:
    env = started(budget=(24 + 16) / (4 * N))
    probe = probe_of(env)
    inputs, _ = next(probe.batches(30))  # 10 of 16 visits
    before, model = charged(env), probe.models()[0]
    with pytest.raises(RuntimeError, match="cannot pay for a pass of 18 samples"):
        model(inputs_of(env))
    model(inputs)
    assert (charged(env) == before).all()


def test_passes_of_a_replica_that_is_over_are_free() -> None:
    env = with_one_that_is_over()
    before = charged(env)
    run_through(probe_of(env).models(), [(inputs_of(env), None)])
    assert charged(env) - before == pytest.approx([0, 16])


@pytest.mark.parametrize("given", ["none", "models", "averages", "copies", "wrapped"])
def test_losses_of_a_probes_models_are_paid_once(given: str) -> None:
    env = started(averaging=0.9)
    probe = probe_of(env)
    models = None if given == "none" else probe.models(averaged=given == "averages")
    if given == "copies":
        models = copy.deepcopy(models)
    if given == "wrapped":
        models = [nn.Sequential(model, nn.ReLU(), nn.Linear(10, 10)) for model in models]
    before, where = charged(env), np.stack([HALF, np.arange(N) < 5])
    assert probe.losses(models) is not None
    assert charged(env) - before == pytest.approx([16] * 2)
    assert probe.losses(models, where) is not None
    assert charged(env) - before == pytest.approx([16 + 8, 16 + 5 / 3])
    for model in models or probe.models():
        model(inputs_of(env)[:6])
    assert charged(env) - before == pytest.approx([16 + 8 + 2, 16 + 5 / 3 + 2])


def test_losses_and_features_use_up_nothing_that_was_drawn() -> None:
    env = started()
    before, probe = charged(env), probe_of(env)
    kept = list(probe.batches(20))
    probe.losses()
    probe.losses(probe.models())
    probe.features()
    assert charged(env) - before == pytest.approx([4 * 16] * 2)
    run_through(probe.models(), kept)
    assert charged(env) - before == pytest.approx([4 * 16] * 2)


def test_passes_are_charged_after_losses_that_failed() -> None:
    env = started()
    probe = probe_of(env)
    with pytest.raises(RuntimeError):
        probe.losses([nn.Linear(3, 10), nn.Linear(3, 10)])
    before = charged(env)
    probe.models()[0](inputs_of(env))
    assert charged(env) - before == pytest.approx([16, 0])


def test_gradients_sample_by_sample_are_charged_for_every_sample() -> None:
    env = started()
    before, data, model = charged(env), env.dataset.train, probe_of(env).models()[1]

    def loss(parameters: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, parameters, (x[None],)), label[None])

    parameters = {name: value.detach() for name, value in model.named_parameters()}
    vmap(grad(loss), in_dims=(None, 0, 0))(parameters, data.inputs, data.labels)
    assert charged(env) - before == pytest.approx([0, 16])


def test_a_copy_of_a_model_goes_on_charging_the_same_replica() -> None:
    env = started()
    before, model, inputs = charged(env), probe_of(env).models()[1], inputs_of(env)
    for times, copied in enumerate((copy.deepcopy(model), copy.copy(model)), 1):
        assert torch.equal(copied(inputs), type(model).forward(model, inputs))
        assert charged(env) - before == pytest.approx([0, times * 16])


def test_a_model_out_of_a_pickle_belongs_to_no_run() -> None:
    env = started()
    before, model = charged(env), probe_of(env).models()[0]
    content = pickle.dumps(model)
    assert len(content) < 2 * sum(4 * p.numel() for p in model.parameters()) + 10_000
    with pytest.raises(RuntimeError, match="is a copy and belongs to no environment"):
        pickle.loads(content)(inputs_of(env))
    assert (charged(env) == before).all()


@dataclass
class Keeping(Agent):
    """Draws all batches as it begins, and runs them through the models of then in every epoch.

    Attributes:
        models_first: whether it holds the models before its access to them.
    """

    models_first: bool = False

    def __post_init__(self) -> None:
        if self.models_first:
            self.models: list[nn.Module] = []

    def reset(self, episode: Any) -> None:
        super().reset(episode)
        self.models, self.batches = episode.probe.models(), list(episode.probe.batches(20))

    def select(self, observation: Any = None) -> np.ndarray:
        run_through(self.models, self.batches)
        return np.broadcast_to(HALF, (2, N))


def begun(agent: Agent) -> Any:
    """An environment whose run this agent has begun."""
    env = make_vector(2, budget=1.0)
    env.reset(seed=3)
    agent.reset(env.episode([3, 4]))
    return env


@pytest.mark.parametrize("models_first", [False, True])
def test_passes_of_a_forked_agent_are_charged_to_the_fork(models_first: bool) -> None:
    agent = Keeping(models_first)
    env = begun(agent)
    for drawn in (True, False):  # and not run yet: the fork need not pay for it again
        fork, other = env.fork(agent)
        before = charged(env)
        mask = other.select()
        assert (charged(env) == before).all()
        assert charged(fork) - before == pytest.approx([0 if drawn else 16] * 2)
        agent.select()
        assert (charged(env) == charged(fork)).all()
        assert_same(fork.step(mask), env.step(mask))


def test_passes_of_an_agent_that_was_saved_are_charged_where_it_goes_on(tmp_path: Path) -> None:
    agent, other = Keeping(), Keeping()
    env, fresh = begun(agent), make_vector(2, budget=1.0)
    env.step(agent.select())
    env.save(tmp_path / "run.pt", agent, pickled=True)
    fresh.load(tmp_path / "run.pt", other, trust=True)
    before = charged(env)
    mask = other.select()
    assert (charged(env) == before).all()
    assert charged(fresh) - before == pytest.approx([16] * 2)
    agent.select()
    assert_same(fresh.step(mask), env.step(mask))


@pytest.mark.parametrize("name", ["molpeg", "cover(period=1)"])
def test_rules_that_ask_the_probe_run_and_pay_as_if_its_models_charged_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def played() -> list[Any]:
        agent = dynprune_agents.make(name)
        env, found = make_vector(2, budget=0.7, **agent.env_kwargs), []
        observation, _ = env.reset(seed=3)
        agent.reset(env.episode([3, 4]))
        while not env.trainer.finished.all():
            mask = agent.select(observation)
            scored = env.trainer.budget.scored.copy()
            observation, *rest = env.step(mask)
            found.append([mask, scored, observation, rest])
        return found

    steps = played()
    asked = [2 * mask.sum(1) if name == "molpeg" else [N, N] for mask, *_ in steps[:-1]]
    expected = np.cumsum([[0, 0], *asked], axis=0)  # by the selection after each epoch
    np.testing.assert_array_equal([scored for _, scored, *_ in steps], expected)
    monkeypatch.setattr(TrainerProbe, "models", TrainerProbe._copies)
    assert_same(played(), steps)


# -- what they give ----------------------------------------------------------------------------


def test_a_probes_losses_are_those_of_the_models_it_is_given() -> None:
    env = started()
    probe, data = probe_of(env), env.dataset.train
    for models in (None, [nn.Linear(64, 10), nn.Linear(64, 10)]):
        found = probe.losses(models)
        assert found.shape == (2, N)
        for row, model in enumerate(models or probe.models()):
            with torch.no_grad():
                expected = F.cross_entropy(model(data.inputs), data.labels, reduction="none")
            assert found[row] == pytest.approx(expected.numpy(), rel=1e-5)


def test_a_single_environment_has_no_replica_axis() -> None:
    env = make(budget=1.0)
    play(env, random_masks(env, 1), seed=3)
    probe = env.episode(3).probe
    assert probe.losses().shape == probe.losses(where=HALF).shape == (N,)
    assert probe.features().shape == probe.features(HALF).shape == (N, 64)


def by_hand(model: nn.Sequential, inputs: Tensor) -> np.ndarray:
    """What goes into the last layer."""
    with torch.no_grad():
        return model[:-1](inputs).numpy()


@pytest.mark.parametrize("model", ["mlp(width=12, depth=2)", "mlp(depth=0)"])
def test_features_of_a_plain_net_are_what_its_last_layer_sees(model: str) -> None:
    env = started(model=model)
    probe, inputs = probe_of(env), env.dataset.train.inputs
    found = probe.features()
    assert found.dtype == np.float32
    for row, module in enumerate(probe.models()):
        assert found[row] == pytest.approx(by_hand(module, inputs), abs=1e-5)
    if model == "mlp(depth=0)":
        assert found[0] == pytest.approx(inputs.numpy())


def test_features_of_a_convolutional_net_are_what_its_last_layer_sees(
    pictures: dict[str, Any],
) -> None:
    env = started(**pictures)
    probe = probe_of(env)
    ((inputs, _),) = probe.batches(N)
    found = probe.features()
    assert found.shape == (2, N, 12)  # four times the width of 3
    for row, module in enumerate(probe.models()):
        assert found[row] == pytest.approx(by_hand(module, inputs), abs=1e-5)


def without_linear(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Convolutions only."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def test_a_model_without_a_linear_layer_has_no_features_and_pays_for_none(
    pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "without_linear", without_linear)
    env = started(**pictures, model="without_linear")
    before = charged(env)
    with pytest.raises(ValueError, match="what the last linear layer sees: this model has none"):
        probe_of(env).features()
    assert (charged(env) == before).all()
    assert probe_of(env).losses() is not None


def test_scoring_runs_give_what_the_models_predict() -> None:
    env = make_vector(2)
    env.reset(seed=3)
    runs, data = env.scoring_runs([3, 4]), env.dataset.train
    list(runs.run(0, 2))
    values, p, norms = runs.values(), runs.probabilities(), runs.gradient_norms(chunk=7)
    assert p.shape == (2, N, 10)
    for row, model in enumerate(runs.models()):
        logits = model(data.inputs)
        expected = torch.softmax(logits, 1).detach().numpy()
        label = expected[np.arange(N), data.labels]
        assert p[row] == pytest.approx(expected, abs=1e-5)
        assert values.confidence[row] == pytest.approx(label, abs=1e-5)
        assert values.loss[row] == pytest.approx(-np.log(label), rel=1e-3, abs=1e-4)
        assert (values.correct[row] == (expected.argmax(1) == data.labels.numpy())).all()
        away = expected - np.eye(10)[data.labels]
        assert values.el2n[row] == pytest.approx(np.linalg.norm(away, axis=1), abs=1e-4)
        F.cross_entropy(logits[:1], data.labels[:1]).backward()
        gradient = nn.utils.parameters_to_vector(q.grad for q in model.parameters())
        assert norms[row, 0] == pytest.approx(gradient.norm().item(), rel=1e-4)
    other = [nn.Linear(64, 10), nn.Linear(64, 10)]
    loss = F.cross_entropy(other[1](data.inputs), data.labels, reduction="none")
    assert runs.values(other).loss[1] == pytest.approx(loss.detach().numpy(), rel=1e-4)


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "loud"}, "weights .*loud"),
        ({"averaging": 1.0}, r"averaging is a weight in \[0, 1\), got 1"),
        ({"averaging": -0.1}, r"averaging is a weight in \[0, 1\), got -0.1"),
        ({"averaging": float("nan")}, "averaging"),
    ],
)
def test_settings_are_checked_before_anything_is_made(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
    with pytest.raises(ValueError, match=message):
        make_vector(2, **settings)
