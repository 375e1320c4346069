"""What a model keeps outside its state_dict: fresh at a reset, saved and forked, or refused."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, differs, go_on, play, random_masks
from torch import Tensor, nn

from dynprune_env import DynPruneVectorEnv, Recipe, own_task
from dynprune_env.tasks.registry import TASKS
from dynprune_env.training.learner import LEARNERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype(np.float32)
Y = (X[:, 0] + 0.5 * RNG.normal(size=200) > 0).astype(np.int64)
SCALE = torch.tensor(1.0)  # what a user's module keeps once for all models


class Base(nn.Module):
    """A small net whose hidden layer is scaled by something that each training pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.begin()

    def begin(self) -> None:
        """Sets up what is changed."""

    def factor(self) -> Any:
        """Changes it, and reads it."""
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)) * self.factor())


class Counter(Base):
    def begin(self) -> None:
        self.passes = 0

    def factor(self) -> float:
        self.passes += self.training
        return 1 + self.passes / 4


class EvaluationCounter(Base):
    def begin(self) -> None:
        self.passes = 0

    def factor(self) -> float:
        self.passes += 1
        return 1 + self.passes / 50


class Buffer(Base):
    def begin(self) -> None:
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def factor(self) -> Tensor:
        if self.training:
            self.scale *= 1.1
        return self.scale


class ReplacedBuffer(Base):
    """First there is none, then one of another shape at every pass."""

    def begin(self) -> None:
        self.register_buffer("scale", None)

    def factor(self) -> Tensor:
        old = torch.ones(1) if self.scale is None else self.scale
        if self.training:
            self.scale = torch.cat([old, old[:1] * 1.1])
        return old.mean()


class LateBuffer(Base):
    def factor(self) -> Tensor:
        if "late" not in self._buffers:
            self.register_buffer("late", torch.ones(()))
        if self.training:
            self.late += 0.1
        return self.late


class PlainTensor(Base):
    def begin(self) -> None:
        self.scale = torch.ones(1)

    def factor(self) -> Tensor:
        if self.training:
            self.scale.mul_(1.1)
        return self.scale


class SharedTensor(Base):
    """The factory's own tensor is in every model."""

    def begin(self) -> None:
        self.scale = SCALE
        self.register_buffer("other", SCALE)

    def factor(self) -> Tensor:
        if self.training:
            self.scale.mul_(1.1)
            self.other.add_(0.1)
        return self.scale * self.other


class Nested(Base):
    def __init__(self, history: list[Any] = []) -> None:  # noqa: B006, as users do
        self._history = history
        super().__init__()

    def begin(self) -> None:
        self.memory = {"mean": torch.ones(()), "steps": (0, [0.0]), "history": self._history}

    def factor(self) -> Tensor:
        steps, trace = self.memory["steps"]
        if self.training:
            self.memory["mean"] = self.memory["mean"] * 1.05
            self.memory["steps"] = (steps + 1, [*trace, 1.0])
            self.memory["history"].append(steps)
        return self.memory["mean"] + steps / 10 + len(trace) / 10 + len(self.memory["history"]) / 9


class Activations(Base):
    """Keeps its last activations, gradients and all, as `self.features = h` does."""

    def begin(self) -> None:
        self.features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.training:
            self.drift = 0.0 if self.features is None else float(self.features.detach().mean())
            self.features = h
        return self.last(h + getattr(self, "drift", 0.0))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.passes, self.limit = 0, None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes, self.limit = self.passes + 1, "some"
        return x * (1 + self.passes / 4)


class InAPart(Base):
    def begin(self) -> None:
        self.part = nn.Sequential(Inner(), Inner())

    def factor(self) -> Any:
        return self.part(torch.ones(()))


class Deleted(Base):
    def begin(self) -> None:
        self.left = [1.0, 2.0]

    def factor(self) -> float:
        if self.training and hasattr(self, "left"):
            del self.left
        return 2.0 if hasattr(self, "left") else 1.0


class Freezing(Base):
    """Its first layer trains for an epoch and a half."""

    def begin(self) -> None:
        self.passes = 0

    def factor(self) -> float:
        self.passes += self.training
        if self.passes > 7:
            self.first.requires_grad_(False)
        return 1.0


class Recurrent(nn.Module):
    """Torch's own module with references to its parameters in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x[..., None])[0][:, -1])


class Hooked(Base):
    """A hook that reaches the module through a closure."""

    def begin(self) -> None:
        self.seen = 1.0
        self.first.register_forward_hook(lambda *_: setattr(self, "seen", self.seen * 1.1))

    def factor(self) -> float:
        return self.seen


class Drawing(Base):
    """Draws in evaluation mode too."""

    def factor(self) -> Tensor:
        return 1 + torch.rand(()) / 2


SAVED = [
    *(Counter, EvaluationCounter, Buffer, ReplacedBuffer, LateBuffer, PlainTensor, SharedTensor),
    *(Nested, Activations, InAPart, Deleted, Freezing, Recurrent, Drawing),
]


class Queue(Base):
    def begin(self) -> None:
        self.queue = deque([1.0], maxlen=3)

    def factor(self) -> float:
        if self.training:
            self.queue.append(self.queue[-1] * 1.1)
        return sum(self.queue)


class NumpyDraws(Base):
    def begin(self) -> None:
        self.rng = np.random.default_rng(0)

    def factor(self) -> float:
        return 1 + self.rng.random() / 2 if self.training else 1.0


class TorchDraws(Base):
    def begin(self) -> None:
        self.rng = torch.Generator().manual_seed(0)

    def factor(self) -> Any:
        return 1 + torch.rand((), generator=self.rng) / 2 if self.training else 1.0


class Held:
    def __init__(self) -> None:
        self.value = 1.0


class Holder(Base):
    def begin(self) -> None:
        self.held = Held()

    def factor(self) -> float:
        if self.training:
            self.held.value *= 1.1
        return self.held.value


class Stream(Base):
    def begin(self) -> None:
        self.values: Iterator[float] = (1 + i / 10 for i in itertools.count())

    def factor(self) -> float:
        return next(self.values) if self.training else 1.0


class Unlisted(Base):
    """A layer that torch does not know of."""

    def begin(self) -> None:
        self.layers = [nn.BatchNorm1d(8)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers[0](self.first(x)))


REFUSED = {
    Queue: "'queue' (deque)",
    NumpyDraws: "'rng' (Generator)",
    TorchDraws: "'rng' (Generator)",
    Holder: "'held' (Held)",
    Stream: "'values' (generator)",
    Unlisted: "'layers' (list)",
}


class Unchanged(Base):
    """Has much that cannot be saved, and never changes it."""

    def begin(self) -> None:
        self.queue, self.lock, self.kind = deque([1]), threading.Lock(), Held
        self.rng, self.activation = np.random.default_rng(0), lambda x: x
        self.parts = [self.first, self.last.weight]
        self.method, self.held = self.factor, Held()


def envs_of(
    model: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch, replicas: int = 2, **given: Any
) -> DynPruneVectorEnv:
    recipe = Recipe(epochs=4, batch_size=16, learning_rate=0.05)
    task = own_task((X[:140], Y[:140]), (X[140:], Y[140:]), model, recipe)
    monkeypatch.setitem(TASKS, "Hidden", task)
    return DynPruneVectorEnv(replicas, "Disabled", task="Hidden", device="cpu", **given)


@pytest.fixture(autouse=True)
def _as_at_first() -> Iterator[None]:
    yield
    SCALE.fill_(1.0)
    Nested.__init__.__defaults__[0].clear()


@pytest.mark.parametrize("model", [*SAVED, *REFUSED, Hooked])
def test_a_reset_leaves_nothing_of_the_model_before(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = envs_of(model, monkeypatch)
    masks = random_masks(env, 3)
    expected = play(env, masks, seed=1)
    assert_same(play(env, masks, seed=1), expected)
    assert differs(play(env, masks, seed=7), expected)
    assert_same(play(envs_of(model, monkeypatch), masks, seed=1), expected)


@pytest.mark.parametrize("model", [*SAVED, *REFUSED, Hooked])
def test_a_model_is_the_same_alone_and_in_company(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, alone = envs_of(model, monkeypatch, 3), envs_of(model, monkeypatch, 1)
    masks = random_masks(company, 3)
    together, single = play(company, masks, seed=1), play(alone, masks[:, 2:], seed=3)
    for (*_, infos), (*_, its_infos) in zip(together, single, strict=True):
        assert infos["val_loss"][2] == its_infos["val_loss"][0]


def test_the_factory_keeps_what_it_lends(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (SharedTensor, Nested):
        env = envs_of(model, monkeypatch)
        play(env, random_masks(env, 2), seed=1)
    assert SCALE == 1
    assert Nested.__init__.__defaults__ == ([],)


@pytest.mark.parametrize("used", [False, True], ids=["into a new one", "over another run"])
@pytest.mark.parametrize("model", SAVED)
def test_a_saved_run_goes_on_with_all_that_its_model_held(
    model: type[nn.Module], used: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env, other = (envs_of(model, monkeypatch, averaging=0.9) for _ in range(2))
    masks = random_masks(env, 7)
    play(env, masks[:2], seed=1)
    if used:
        play(other, masks[4:], seed=5)
    env.save(tmp_path / "run.pt")
    other.load(tmp_path / "run.pt")
    torch.load(tmp_path / "run.pt", weights_only=True)
    fork = env.fork()
    expected = go_on(env, masks[2:4])
    for copy in (other, fork):
        assert_same(go_on(copy, masks[2:4]), expected)
        assert copy.evaluate("test").loss.tolist() == env.evaluate("test").loss.tolist()
        assert_same(copy.get_state(), env.get_state())


@pytest.mark.parametrize("model", [Counter, Nested, Buffer, PlainTensor])
def test_what_models_hold_is_not_shared_by_state_and_copies(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = envs_of(model, monkeypatch)
    masks = random_masks(env, 4)
    play(env, masks[:2], seed=1)
    state, one = env.get_state(), env.fork()
    go_on(one, masks[2:])
    for copied in env.episode([1, 2]).probe.models():
        copied.train()(torch.from_numpy(X))
    expected = go_on(env, masks[2:])
    env.set_state(state)
    assert_same(go_on(env, masks[2:]), expected)


@pytest.mark.parametrize("model", REFUSED)
def test_what_cannot_be_saved_is_refused_by_name(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = envs_of(model, monkeypatch)
    play(env, random_masks(env, 2), seed=1)
    for way in (env.get_state, env.fork, lambda: env.save(tmp_path / "run.pt")):
        with pytest.raises(ValueError) as refused:
            way()
        assert f"the state of {model.__name__} cannot be saved" in str(refused.value)
        assert REFUSED[model] in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_never_changed_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(Unchanged, monkeypatch)
    masks = random_masks(env, 4)
    play(env, masks[:2], seed=1)
    fork = env.fork()
    assert_same(go_on(fork, masks[2:]), go_on(env, masks[2:]))


@pytest.mark.parametrize("model", [Counter, EvaluationCounter, Buffer, Nested, Drawing])
def test_a_run_does_not_depend_on_who_looks_at_it(
    model: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, watched = envs_of(model, monkeypatch), envs_of(model, monkeypatch)
    masks = random_masks(calm, 4)
    expected = play(calm, masks, seed=1)
    found = [watched.reset(seed=1)]
    for mask in masks:
        torch.rand(3)  # somebody else draws
        watched.evaluate("test")
        probe = watched.episode([1, 2]).probe
        for model in probe.models():
            model.train()(torch.ones(2, 6))
        state = torch.get_rng_state()
        watched.evaluate("train")
        assert_same(torch.get_rng_state(), state)
        found.append(watched.step(mask))
    assert_same(found, expected)


def test_optimizers_and_averages_belong_to_the_new_model(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(Counter, monkeypatch, averaging=0.5)
    play(env, random_masks(env, 2), seed=1)
    env.reset(seed=2)
    learner = env.trainer.learner
    for row, (model, optimizer) in enumerate(zip(learner.models, learner.optimizers, strict=True)):
        (group,) = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
        assert not optimizer.state
        for fresh, average in zip(
            learner.module(row).parameters(), learner.module(row, True).parameters(), strict=True
        ):
            torch.testing.assert_close(average, fresh, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_starts_afresh_too(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(Buffer, monkeypatch, 1, compile=True)
    masks = np.ones((2, 1, env.settings.num_samples), dtype=bool)
    expected = play(env, masks, seed=1)
    addresses = [tensor.data_ptr() for tensor in env.trainer.learner.models[0].parameters()]
    with torch.compiler.set_stance("fail_on_recompile"):
        assert differs(play(env, masks, seed=2), expected)
        assert_same(play(env, masks, seed=1), expected)
        fork = env.fork()
        assert_same(play(fork, masks, seed=1), expected)
    (model,) = env.trainer.learner.models
    assert [tensor.data_ptr() for tensor in model.parameters()] == addresses
    assert model.scale == pytest.approx(1.1 ** (2 * 8))


# -- factories that give the same again ---------------------------------------------------------

SAME = Base()
PAIR = itertools.cycle([Base(), Base(), Base()])
LAYER, NORM, PART = nn.Linear(6, 8), nn.BatchNorm1d(6, affine=False), Inner()
WEIGHT = torch.randn(2, 6)


class OwnWeight(nn.Module):
    """A parameter over a tensor of the factory: training changes that tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(WEIGHT)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


TIED = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
NOT_NEW: dict[str, Callable[[], nn.Module]] = {
    "the same module": lambda: SAME,
    "the same plain net": lambda: TIED,
    "a shared layer": lambda: nn.Sequential(LAYER, nn.Tanh(), nn.Linear(8, 2)),
    "a shared layer of a plain net": lambda: nn.Sequential(LAYER, nn.ReLU(), nn.Linear(8, 2)),
    "a shared batch norm": lambda: nn.Sequential(NORM, nn.Linear(6, 2)),
    "a shared part with a counter": lambda: nn.Sequential(PART, nn.Linear(6, 2)),
    "parameters over one tensor": OwnWeight,
    "one of three in turn": lambda: next(PAIR),
}


@pytest.mark.parametrize("factory", NOT_NEW.values(), ids=NOT_NEW)
def test_a_factory_that_gives_the_same_again_is_refused_in_one_sentence(
    factory: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = envs_of(factory, monkeypatch)
    with pytest.raises(ValueError, match="must build a new one at every call") as refused:
        for seed in range(3):
            env.reset(seed=seed)
    assert "\n" not in str(refused.value)


ACT = nn.ReLU()


def test_parts_without_a_state_may_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs_of(lambda: nn.Sequential(nn.Linear(6, 8), ACT, nn.Linear(8, 2)), monkeypatch)
    play(env, random_masks(env, 2), seed=1)


# -- nets that only look plain ------------------------------------------------------------------


class OwnForward(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul(3))


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


def hooked() -> nn.Module:
    net = plain()
    net[0].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 3,))
    return net


def frozen() -> nn.Module:
    net = plain()
    net[0].requires_grad_(False)
    return net


def twice() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 2))


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    net[2].weight = net[0].weight
    return net


@pytest.mark.parametrize(
    "factory", [lambda: OwnForward(*plain()), hooked, frozen, twice, tied], ids=str
)
def test_a_net_that_only_looks_plain_is_trained_as_it_is(
    factory: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for learner in ("auto", "modules"):
        env = envs_of(factory, monkeypatch, learner=learner)
        found.append(play(env, random_masks(env, 3), seed=1))
    assert_same(*found)
    for learner in set(LEARNERS) - {"auto", "modules"}:
        with pytest.raises(ValueError, match="plain ReLU nets"):
            envs_of(factory, monkeypatch, learner=learner).reset(seed=1)
