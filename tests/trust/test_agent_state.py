"""What agents have learned is kept as plain values: no code lies in a state, nothing is lost."""

from __future__ import annotations

import io
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from helpers.episodes import make
from hypothesis import given
from hypothesis.extra import numpy as arrays_of
from torch import nn

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_env import Episode, ReplicaRandom
from dynprune_env.common.plain import Packer, Unpacker, plain_hash
from dynprune_env.selection.agent_state import pack_agent, unpack_agent

ROOM = {"epochs": 10, "budget": 0.8}


def through_a_file(state: Any) -> Any:
    """What `torch.load` gives without unpickling anything."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def again(value: Any) -> Any:
    """A value after it lay in a file."""
    node = through_a_file(Packer([__name__]).pack(value, "it"))
    return Unpacker([__name__]).unpack(node)


def probe_of(seeds: Any) -> Any:
    """Stands for access to other models."""
    return ("probe", seeds)


def carried(agent: Any, fresh: Any, probe: Callable[[Any], Any] = probe_of) -> Any:
    """A fresh agent that goes on where the other stands."""
    unpack_agent(through_a_file(pack_agent(agent)), fresh, probe)()
    return fresh


def episode(**changes: Any) -> Episode:
    return Episode(
        **{
            "num_samples": 9,
            "num_classes": 3,
            "epochs": 5,
            "budget": 0.5,
            "seeds": 1,
            "probe": object(),
            **changes,
        }
    )


def resealed(packed: dict[str, Any]) -> dict[str, Any]:
    """A state that somebody changed, who also made its hash anew."""
    return {**packed, "hash": plain_hash(packed["state"])}


# -- values ------------------------------------------------------------------------------------

VALUES = [
    None,
    True,
    3,
    2**100,
    -(2**100),
    0.1,
    float("inf"),
    "text \ud800",
    b"bytes",
    b"",
    bytearray(b"more"),
    1 + 2j,
    range(3, 9, 2),
    slice(None, 4),
    [1, [2, []]],
    (1, (2,), ()),
    {1, "a"},
    frozenset([3]),
    {"a": 1, 2: [3], (4, 5): None, None: {}},
    OrderedDict(b=1, a=2),
    Counter("hello"),
    deque([1, 2], maxlen=5),
    deque([1]),
    np.float32(0.1),
    np.int16(-3),
    np.bool_(True),
    np.str_("x"),
    np.datetime64("2020-01-01"),
    np.complex64(1j),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = again(value)
    assert type(found) is type(value)
    assert found == value
    assert getattr(found, "maxlen", None) == getattr(value, "maxlen", None)
    assert getattr(found, "dtype", None) == getattr(value, "dtype", None)


@pytest.mark.parametrize("factory", [None, int, list, dict])
def test_a_default_dict_keeps_its_default(factory: Any) -> None:
    found = again(defaultdict(factory, {1: 2}))
    assert (found, found.default_factory) == ({1: 2}, factory)


@given(
    arrays_of.arrays(
        arrays_of.array_dtypes() | arrays_of.scalar_dtypes(),
        arrays_of.array_shapes(min_dims=0, min_side=0),
    )
)
def test_an_array_of_any_type_comes_back_bit_for_bit(array: np.ndarray) -> None:
    found = again(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_an_array_lies_in_memory_as_it_did(axes: tuple[int, ...]) -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(axes)
    assert again(array).strides == array.strides


def test_arrays_of_objects_and_records_come_back() -> None:
    found = again(np.array([[1, "a"], [None, [2]]], dtype=object))
    assert found.tolist() == [[1, "a"], [None, [2]]]
    records = np.zeros(2, dtype=[("a", "<i4"), ("b", ">f8", (2,))])
    assert again(records).dtype == records.dtype


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_a_generator_draws_on_and_spawns_on(kind: str) -> None:
    rng = np.random.Generator(getattr(np.random, kind)(5))
    rng.integers(0, 9, 3, dtype=np.uint32)
    rng.spawn(1)
    found = again(rng)
    assert found.random(5).tolist() == rng.random(5).tolist()
    assert found.spawn(1)[0].random() == rng.spawn(1)[0].random()


def test_other_generators_draw_on() -> None:
    python, legacy, gpu = random.Random(3), np.random.RandomState(3), torch.Generator()
    gpu.manual_seed(3)
    python.gauss(0, 1)
    legacy.standard_normal()
    for rng, draw in (
        (python, lambda g: [g.random(), g.gauss(0, 1)]),
        (legacy, lambda g: [g.random_sample(), g.standard_normal()]),
        (gpu, lambda g: torch.rand(3, generator=g).tolist()),
    ):
        found = again(rng)
        assert draw(found) == draw(rng)


def test_tensors_and_parameters_come_back() -> None:
    for value in (
        torch.arange(3),
        torch.ones(2, dtype=torch.bfloat16),
        nn.Parameter(torch.ones(2)),
    ):
        found = again(value)
        assert type(found) is type(value)
        assert found.equal(value)
        assert found.requires_grad == value.requires_grad
    assert again(torch.ones(2, requires_grad=True) * 2)[0] == 2


def test_what_is_shared_stays_shared_and_what_holds_itself_does_too() -> None:
    rng, table = np.random.default_rng(1), np.zeros(3)
    first, second, (third, fourth) = again([rng, table, [rng, table]])
    assert first is third
    assert second is fourth
    loop: list[Any] = [1]
    loop.append(loop)
    found = again(loop)
    assert found[1] is found


def test_a_state_is_a_copy_and_can_be_used_twice() -> None:
    table = np.zeros(3)
    node = Packer().pack([table], "it")
    table += 1
    one, other = Unpacker().unpack(node), Unpacker().unpack(node)
    one[0] += 5
    assert other[0].tolist() == [0, 0, 0]


class Pair(NamedTuple):
    left: int
    right: Any


class Helper:
    """An ordinary class beside the agent."""

    def __init__(self) -> None:
        self.table, self.pair = np.arange(3), Pair(1, [2])


@dataclass(frozen=True)
class Frozen:
    value: float = 0.5


class Counts(dict):  # type: ignore[type-arg]
    """Holds more than attributes."""


class Slotted:
    __slots__ = ("x",)


class Runs:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> Any:
        raise AssertionError


def test_classes_of_the_agents_own_file_come_back() -> None:
    helper = again([Helper(), Frozen(0.7)])
    assert type(helper[0]) is Helper
    assert helper[0].table.tolist() == [0, 1, 2]
    assert helper[0].pair == Pair(1, [2])
    assert type(helper[0].pair) is Pair
    assert helper[1] == Frozen(0.7)


NOT_PLAIN: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (lambda: (i for i in range(3)), "it is a generator"),
    "a function": (lambda: [len], r"it\[0\] is a builtin_function"),
    "a lambda": (lambda: {"f": lambda: 1}, r"it\['f'\] is a function"),
    "a module": (lambda: nn.Linear(2, 2), "is a torch.nn.modules.linear:Linear"),
    "a subclass of dict": (Counts, "Counts, which is no plain value"),
    "slots": (Slotted, "Slotted, which is no plain value"),
    "its own pickling": (Runs, "Runs, which is no plain value"),
    "a class": (lambda: Helper, "it is a type"),
    "a masked array": (lambda: np.ma.zeros(3), "MaskedArray"),
    "a default that is code": (lambda: defaultdict(lambda: 1), "it is a defaultdict of"),
    "records with objects": (lambda: np.zeros(1, dtype=[("a", "O")]), "it is an array of"),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_is_no_plain_value_is_named(what: str) -> None:
    value, sentence = NOT_PLAIN[what]
    with pytest.raises(TypeError, match=sentence):
        Packer([__name__]).pack(value(), "it")


@pytest.mark.parametrize(
    "name", ["subprocess:Popen", "os:system", "builtins:eval", f"{__name__}:Runs", "pathlib:Path"]
)
def test_a_state_makes_no_class_of_elsewhere(name: str) -> None:
    node = {"type": "object", "class": name, "parts": {}}
    with pytest.raises(ValueError, match="there is no class"):
        Unpacker([__name__]).unpack(node)


# -- agents ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* spend the whole budget")
@pytest.mark.parametrize("name", dynprune_agents.names())
def test_every_agent_of_the_package_is_kept_without_a_pickle(name: str) -> None:
    agent = dynprune_agents.make(name)
    env = make(**{**agent.env_kwargs, **ROOM})
    observation, _ = env.reset(seed=3)
    agent.prepare(env.scoring_runs(3))
    agent.reset(env.episode(3))
    for _ in range(7):
        action = agent.select(observation)
        after, reward, ended, _, _ = env.step(action)
        agent.update(observation, action, reward, after)
        observation = after
        if ended:
            break
    packed = through_a_file(pack_agent(agent, pickled=True))
    assert packed["pickled"] is False
    fresh = dynprune_agents.make(name)
    unpack_agent(packed, fresh, lambda seeds: env.episode(seeds).probe)()
    assert set(vars(fresh)) == set(vars(agent))
    other = through_a_file(pack_agent(fresh))
    assert _flat(other) == _flat(packed)


def _flat(tree: Any) -> Any:
    """A state with its tensors as bytes."""
    if isinstance(tree, dict):
        return {name: _flat(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_flat(value) for value in tree]
    return tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else tree


@dataclass
class Holding(Agent):
    """Holds an agent that it made, one in a list, and one made when the episode began."""

    late: str = "ucb(c=2.0)"
    parts: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.first = dynprune_agents.make("thompson")
        self.several = [dynprune_agents.make("exp3"), dynprune_agents.make("ucb1")]

    def reset(self, episode: Episode) -> None:
        super().reset(episode)
        self.last = dynprune_agents.make(self.late)
        self.probe = episode.probe
        for each in (self.first, self.last, *self.several):
            each.reset(episode)
            each.rng = self.rng  # shared

    def select(self, observation: Any) -> np.ndarray:
        return self.first.select(observation)


def test_agents_that_an_agent_holds_go_on_too_and_share_what_they_shared() -> None:
    agent, fresh = Holding(), Holding()
    agent.reset(episode())
    agent.rng.random(3)
    agent.several[1].sums[0, 2] = 7
    held = fresh.several[1]
    carried(agent, fresh)
    assert fresh.several[1] is held
    assert held.sums[0, 2] == 7
    assert repr(fresh.last) == "ucb(c=2.0)"
    assert fresh.last.rng is fresh.rng is fresh.first.rng
    assert fresh.rng.random(4).tolist() == agent.rng.random(4).tolist()
    assert fresh.episode is fresh.last.episode
    assert fresh.probe == fresh.episode.probe == ("probe", 1)


def test_no_state_makes_an_agent_that_names_a_file() -> None:
    agent = Holding(late="sb3(policy='somewhere.zip')")
    with pytest.raises(ValueError, match="where a freshly made one holds none"):
        packed = pack_agent(agent)
        parts = packed["state"]["parts"]
        parts["last"] = {"type": "agent", "agent": "sb3(policy='somewhere.zip')", "parts": {}}
        unpack_agent(resealed(packed), Holding(late=agent.late), probe_of)


def test_a_text_among_the_parameters_is_not_taken_from_a_state() -> None:
    agent, packed = dynprune_agents.make("learned"), None
    agent.reset(episode())
    packed = pack_agent(agent)
    packed["state"]["parts"]["policy"] = "/tmp/of_a_stranger.npz"
    fresh = dynprune_agents.make("learned")
    unpack_agent(resealed(packed), fresh, probe_of)()
    assert fresh.policy == "cautious"


@dataclass
class Net(DynamicRandom):
    """Holds a network and its optimiser, and says how they are kept."""

    def reset(self, episode: Episode) -> None:
        super().reset(episode)
        self._begin()
        loss = self.net(torch.ones(1, 2)).sum()
        loss.backward()
        self.optimizer.step()

    def _begin(self) -> None:
        self.net = nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(self.net.parameters(), 0.1)

    def state_dict(self) -> dict[str, Any]:
        parts = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**super().state_dict(), **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        parts = {name: state.pop(name) for name in ("net", "optimizer")}
        super().load_state_dict(state)
        self._begin()
        self.net.load_state_dict(parts["net"])
        self.optimizer.load_state_dict(parts["optimizer"])


def test_an_agent_may_say_how_it_is_kept() -> None:
    agent, fresh = Net(), Net()
    agent.reset(episode())
    agent.rng.random(3)
    carried(agent, fresh)
    assert fresh.net.weight.equal(agent.net.weight)
    assert fresh.optimizer.state_dict()["state"][0]["step"] == 1
    assert fresh.rng.random(2).tolist() == agent.rng.random(2).tolist()


@dataclass
class Stubborn(DynamicRandom):
    """Refuses to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.period = 99
        raise ValueError("not from there")


def test_an_agent_that_refuses_a_state_is_as_before() -> None:
    agent, fresh = Stubborn(), Stubborn()
    agent.reset(episode())
    with pytest.raises(ValueError, match="not from there"):
        carried(agent, fresh)
    assert vars(fresh) == vars(Stubborn())


class Duck:
    """An agent by its methods alone, whose repr says where it lies in memory."""

    env_kwargs: ClassVar[dict[str, Any]] = {}

    def prepare(self, runs: Any) -> None: ...

    def reset(self, episode: Episode) -> None:
        self.rng, self.history = ReplicaRandom(episode.seeds), Helper()

    def select(self, observation: Any) -> np.ndarray:
        return self.rng.random(3) > 0.5

    def update(self, *step: Any) -> None: ...


def test_an_agent_that_is_none_of_the_packages_goes_on() -> None:
    agent, fresh = Duck(), Duck()
    agent.reset(episode())
    agent.select(None)
    carried(agent, fresh)
    assert fresh.select(None).tolist() == agent.select(None).tolist()
    assert fresh.history.pair == Pair(1, [2])


def test_a_policy_that_changed_meanwhile_is_noticed() -> None:
    agent, fresh = (dynprune_agents.make("sb3") for _ in range(2))
    agent.reset(episode())
    packed = pack_agent(agent)
    packed["state"]["parts"]["_player"] = "another"
    with pytest.raises(ValueError, match="another one than when it was saved"):
        unpack_agent(resealed(packed), fresh, probe_of)()


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not a dict": lambda packed: [packed],
    "no state": lambda packed: {"agent": "ucb", "pickled": False},
    "another hash": lambda packed: {**packed, "hash": "0"},
    "a state that is none": lambda packed: {**packed, "state": torch.zeros(3)},
    "parts that are none": lambda packed: {**packed, "state": {**packed["state"], "parts": 3}},
    "an unknown type": lambda packed: {**packed, "state": {"type": "mystery"}},
    "no agent": lambda packed: {**packed, "state": {"type": "list", "items": []}},
    "a dangling reference": lambda packed: {**packed, "state": {"type": "again", "id": 9}},
    "a pickle that says it is none": lambda packed: {
        **packed,
        "state": torch.zeros(9, dtype=torch.uint8),
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_meets_one_value_error_and_changes_nothing(damage: str) -> None:
    agent, fresh = (dynprune_agents.make("ucb") for _ in range(2))
    agent.reset(episode())
    packed = DAMAGES[damage](pack_agent(agent))
    if isinstance(packed, dict) and "state" in packed and damage != "another hash":
        packed = resealed(packed)
    with pytest.raises(ValueError, match=r"state of an agent has the keys|is damaged"):
        unpack_agent(packed, fresh, probe_of)
    assert vars(fresh) == vars(dynprune_agents.make("ucb"))


def test_whatever_is_missing_or_different_in_a_state_is_noticed() -> None:
    agent, fresh = (dynprune_agents.make("ucb") for _ in range(2))
    agent.reset(episode())
    agent.moments.watch({"loss": np.ones(9), "visits": np.zeros(9)})
    packed = pack_agent(agent)
    mean = packed["state"]["parts"]["moments"]["parts"]["mean"]
    for value in (mean["data"][:-1], mean["data"].float(), mean["data"] + 1e-9, None):
        before, mean["data"] = mean["data"], value
        with pytest.raises(ValueError, match="damaged: its hash"):
            unpack_agent(packed, fresh, probe_of)
        mean["data"] = before
    unpack_agent(packed, fresh, probe_of)()
    assert fresh.moments.mean.tolist() == [1.0] * 9
