"""Every call of the function that makes the model builds a new one; it is trained as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from helpers.episodes import assert_same, play, random_masks
from helpers.hidden_state import Base, Inner, envs_of
from torch import Tensor, nn

from dynprune_env.training.learner import LEARNERS

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
    "factory",
    [lambda: OwnForward(*plain()), hooked, frozen, twice, tied],
    ids=lambda made: made.__name__,
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
