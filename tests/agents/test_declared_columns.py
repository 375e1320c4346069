"""What an agent declares to read is all that it reads, and all that its runs keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make_vector
from test_agents import play as played
from test_agents import room

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.dynamic.ucb import UCB
from dynprune_env import PruningSampler, keep_top, run_episodes
from dynprune_env.benchmark.recording import RunLog
from dynprune_env.selection.agent import columns_read
from dynprune_env.selection.statistics import SampleStatistics

FURTHER = [
    ("dynamic_random(replacement=False, period=2, warmup=1)", {}),
    ("pods(rule='rcap')", {}),
    ("random_control(rule='kakurenbo')", {"weights": "raw"}),
    ("infobatch", {"weights": "raw"}),
    ("ucb(period=1)", {"observe": "all"}),
    ("epsilon_greedy(period=1)", {"observe": "all", "label_noise": 0.3}),
    ("learned(policy='weighted')", {"observe": "all"}),
    ("sb3", {"twins": 2}),
    ("sb3", {"action": "tilts", "observe": "all"}),
]


@pytest.mark.filterwarnings("ignore:.* spend the whole budget")
@pytest.mark.parametrize(
    ("spec", "further"), [*((name, {}) for name in dynprune_agents.names()), *FURTHER]
)
def test_with_its_columns_alone_an_agent_chooses_what_it_would_with_all(
    spec: str, further: dict[str, Any]
) -> None:
    agent = dynprune_agents.make(spec)
    columns = columns_read(agent)
    settings = {"train_size": 300, "epochs": 8, **room(spec), **agent.env_kwargs, **further}
    seeds = [3, 3] if "twins" in further else [3, 9]
    whole, some = (make_vector(2, **settings, columns=kept) for kept in (None, columns))
    expected, found = (played(dynprune_agents.make(spec), env, seeds) for env in (whole, some))
    for (seen, action, ended), (all_seen, other, over) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(action, other)
        np.testing.assert_array_equal(ended, over)
        if isinstance(seen, dict) and columns is not None:
            assert seen.keys() == {*columns, "progress", "task_size"}
            assert_same(seen, {name: all_seen[name] for name in seen})
    assert_same(some.evaluate("val"), whole.evaluate("val"))


def test_every_shipped_agent_declares_what_it_reads() -> None:
    for name in dynprune_agents.names():
        assert columns_read(dynprune_agents.make(name)) is not None, name


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("dynamic_random", 0),
        ("dynamic_random(replacement=False)", 4),
        ("full_data", 0),
        ("el2n", 0),  # it asks its scoring runs for the values of a pass
        ("epsilon_greedy", 4 + 4),  # loss, visits
        ("ucb", 4 + 4),
        ("cover", 0),  # labels are the same for all replicas
        ("aum", 4),
        ("forgetting", 4 + 4),  # forgetting, correct
        ("repb", 4 + 4 + 4),  # loss, visits, age
        ("linucb", 6 * 4 + 4 + 1),  # loss and its mean with a flag, ..., visits and last visit
        ("learned", 6 * 4 + 3 * 4 + 1),  # all but EL2N
    ],
)
def test_bytes_a_sample_by_hand(spec: str, expected: int) -> None:
    agent = dynprune_agents.make(spec)
    env = make_vector(3, columns=columns_read(agent), **agent.env_kwargs)
    env.reset(seed=0)
    held = env.trainer.statistics.state().values()
    assert sum(array.numpy().nbytes for array in held) == expected * 3 * 48


@dataclass
class Watching(Agent):
    """Keeps the names of what it sees."""

    columns: ClassVar[tuple[str, ...] | None] = ("age",)

    def select(self, observation: Any) -> np.ndarray:
        """The stalest."""
        self.seen = set(observation)
        return keep_top(observation["age"], self.keep_count(observation), self.rng)


@dataclass
class Heir(Watching):
    """Says nothing of its own."""


@dataclass
class Careless(Watching):
    """Reads more than it says."""

    columns: ClassVar[tuple[str, ...] | None] = ("loss",)


GAME = {"train_size": 48, "epochs": 3, "batch_size": 16}


def test_a_run_keeps_what_its_agent_reads_and_what_is_recorded() -> None:
    agent = Watching()
    run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=GAME, device="cpu")
    assert agent.seen == {"age", *RunLog.READS, "progress", "task_size"}
    run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs={**GAME, "columns": ("age", "el2n")})
    assert agent.seen == {"age", "el2n", *RunLog.READS, "progress", "task_size"}
    run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs={**GAME, "columns": None})
    assert agent.seen == {*SampleStatistics.COLUMNS, "progress", "task_size"}


def test_a_subclass_inherits_no_declaration() -> None:
    agent = Heir()
    assert columns_read(agent) is None
    run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=GAME, device="cpu")
    assert agent.seen == {*SampleStatistics.COLUMNS, "progress", "task_size"}


def test_what_parts_read_is_read() -> None:
    assert columns_read(dynprune_agents.make("pods(rule='molpeg')")) == ("visits", "age")
    control = dynprune_agents.make("random_control(rule='repb')")
    assert columns_read(control) == ("loss", "visits", "age")
    assert columns_read(dynprune_agents.make("random_control(rule='pods')")) == ()

    @dataclass
    class Holding(Watching):
        columns: ClassVar[tuple[str, ...] | None] = ("margin",)
        part: Any = None

        def parts(self) -> list[Agent]:
            return [self.part]

    assert columns_read(Holding(part=Watching())) == ("margin", "age")
    assert columns_read(Holding(part=Heir())) is None


@pytest.mark.parametrize("spec", ["epsilon_greedy(period=1)", "aum", "kakurenbo", "sb3"])
def test_results_are_those_of_runs_that_keep_everything(spec: str) -> None:
    found, expected = (
        run_episodes(
            "DynPrune-Digits-v0",
            dynprune_agents.make(spec),
            [0, 1],
            env_kwargs={**GAME, **kept},
            device="cpu",
        )
        for kept in ({}, {"columns": None})
    )
    for one, other in zip(found, expected, strict=True):
        del one.history["seconds"], other.history["seconds"]
        assert one.history == other.history
        assert one.selections == other.selections
        assert (one.test_loss, one.test_accuracy) == (other.test_loss, other.test_accuracy)


def test_a_result_of_chosen_columns_is_read_again(tmp_path: Any) -> None:
    chosen = {**GAME, "columns": ("age", "loss")}
    (result,) = run_episodes("DynPrune-Digits-v0", Watching(), [0], env_kwargs=chosen)
    again = type(result).load(result.save(tmp_path))
    assert again == result
    assert again.config.key == result.config.key


def test_an_agent_that_reads_more_than_it_declares_is_told_so() -> None:
    words = r"Careless reads the column 'age', but its `columns` are \('loss',\): add it there"
    with pytest.raises(KeyError, match=words):
        run_episodes("DynPrune-Digits-v0", Careless(), [0], env_kwargs=GAME, device="cpu")
    with pytest.raises(KeyError, match=words):
        PruningSampler(np.arange(20) % 2, Careless(), epochs=2)


def test_an_agent_that_declares_what_is_no_column_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Careless, "columns", ("loss", "margins"))
    with pytest.raises(ValueError, match="no column is called 'margins'"):
        run_episodes("DynPrune-Digits-v0", Careless(), [0], env_kwargs=GAME, device="cpu")
    with pytest.raises(ValueError, match="no column is called 'margins'"):
        PruningSampler(np.arange(20) % 2, Careless(), epochs=2)


def sampled(sampler: PruningSampler, epochs: int) -> list[list[int]]:
    """The visits of some epochs, whose losses are made up."""
    found = []
    for _ in range(epochs):
        found.append(list(sampler))
        ids = np.array(found[-1])
        losses = np.random.default_rng(sampler.epoch).exponential(1, 40).astype(np.float32)
        sampler.record(ids, losses=torch.from_numpy(losses[ids]))
        sampler.select()
    return found


def test_a_sampler_keeps_what_its_agent_reads_and_takes_states_that_hold_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fresh() -> PruningSampler:
        return PruningSampler(np.arange(40) % 4, UCB(period=1), epochs=8)

    few = fresh()
    assert few._statistics.state().keys() == {"loss", "visits"}
    with monkeypatch.context() as patch:
        patch.setattr(UCB, "columns", None)  # as before agents declared what they read
        everything = fresh()
        assert len(everything._statistics.state()) == 11
        assert sampled(few, 4) == sampled(everything, 4)
        state = everything.state_dict()
        expected = sampled(everything, 3)
    loaded = fresh()
    loaded.load_state_dict(state)
    assert sampled(loaded, 3) == expected
