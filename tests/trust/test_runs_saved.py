"""A run is an environment and who plays it: saved, loaded and forked, both go on as they would."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, make_vector, run_script

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_env import Episode, run_episodes
from dynprune_env.benchmark.checkpoints import Checkpoint
from dynprune_env.common.plain import plain_hash

every_agent = pytest.mark.parametrize("name", dynprune_agents.names())
pytestmark = pytest.mark.filterwarnings("ignore:.* spend the whole budget")

LONG = ("ies", "es", "eswp", "progressive_dropout", "random_progressive")
SEEDS = {"single": 7, "vector": (7, 8)}


def new_game(agent: Agent, kind: str) -> Any:
    """An environment with what the agent asks of it."""
    name = repr(agent).partition("(")[0]
    longer = {"epochs": 10, "budget": 0.8} if name in LONG else {"epochs": 6}
    settings = {**agent.env_kwargs, **longer}
    return make(**settings) if kind == "single" else make_vector(2, **settings)


def begin(agent: Agent, kind: str) -> tuple[Any, Any]:
    """The environment, and the first observation of an agent that is ready to play."""
    env, seed = new_game(agent, kind), SEEDS[kind]
    observation, _ = env.reset(seed=seed if kind == "single" else list(seed))
    agent.prepare(env.scoring_runs(seed))
    agent.reset(env.episode(seed))
    return env, observation


def go_on(env: Any, agent: Any, observation: Any, epochs: int = 99) -> Iterator[tuple[Any, ...]]:
    """Each epoch's action, observation, reward and what the agent was charged."""
    for _ in range(epochs):
        action = np.array(agent.select(observation))
        after, reward, ended, _, info = env.step(action)
        agent.update(observation, action, reward, after)
        observation = after
        yield action, after, reward, info
        if np.all(ended):
            return


def saved_midway(name: str, kind: str, path: Path, epochs: int) -> list[tuple[Any, ...]]:
    """Plays some epochs, saves the run, and says what came after that."""
    agent = dynprune_agents.make(name)
    env, observation = begin(agent, kind)
    for _, after, _, _ in go_on(env, agent, observation, epochs):
        observation = after
    env.save(path, agent=agent)
    return list(go_on(env, agent, observation))


@every_agent
@pytest.mark.parametrize("kind", ["single", "vector"])
def test_a_saved_run_of_any_agent_goes_on_bit_for_bit(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    expected = saved_midway(name, kind, path, 2)
    assert expected
    again = dynprune_agents.make(name)
    env = new_game(again, kind)
    observation = env.load(path, agent=again)
    assert_same(list(go_on(env, again, observation)), expected)


@pytest.mark.parametrize("name", ["ucb", "cover", "thompson", "learned", "sb3"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_goes_on_from_its_beginning_and_over_an_agent_that_plays_another(
    name: str, epochs: int, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    expected = saved_midway(name, "single", path, epochs)
    again = dynprune_agents.make(name)
    env, observation = begin(again, "single")
    list(go_on(env, again, observation, 3))
    assert_same(list(go_on(env, again, env.load(path, again))), expected)


def digest(steps: list[tuple[Any, ...]]) -> str:
    """One hash of all that was done and seen."""
    found = hashlib.sha256()
    for action, observation, reward, _ in steps:
        columns = observation.values() if isinstance(observation, dict) else [observation]
        for part in (action, *columns, np.float64(reward)):
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


IN_A_NEW_PROCESS = """
import sys
sys.path[:0] = [sys.argv[2] + "/trust", sys.argv[2]]
import torch
torch.set_num_threads(1)
import dynprune_agents
from test_runs_saved import digest, go_on, new_game
for name in sys.argv[3:]:
    agent = dynprune_agents.make(name)
    env = new_game(agent, "single")
    observation = env.load(f"{sys.argv[1]}/{name}.pt", agent=agent)
    print(digest(list(go_on(env, agent, observation))))
"""


@pytest.mark.slow
def test_a_new_process_goes_on_with_every_agent_bit_for_bit(tmp_path: Path) -> None:
    names = dynprune_agents.names()
    here = [digest(saved_midway(name, "single", tmp_path / f"{name}.pt", 2)) for name in names]
    folder = str(Path(__file__).parents[1])
    there = run_script(IN_A_NEW_PROCESS, str(tmp_path), folder, *names).split()
    assert dict(zip(names, there, strict=True)) == dict(zip(names, here, strict=True))


@every_agent
def test_a_fork_of_both_goes_on_bit_for_bit_and_pays_for_itself(name: str) -> None:
    agent = dynprune_agents.make(name)
    env, observation = begin(agent, "single")
    for _, after, _, _ in go_on(env, agent, observation, 2):
        observation = after
    other, player = env.fork(agent)
    assert player is not agent
    before = env.trainer.budget.scored.copy()
    forked = list(go_on(other, player, observation))
    assert (env.trainer.budget.scored == before).all()
    assert_same(list(go_on(env, agent, observation)), forked)


def test_a_fork_without_an_agent_is_an_environment() -> None:
    env = make()
    env.reset(seed=0)
    assert type(env.fork()) is type(env)
    assert type(env.vector.fork()) is type(env.vector)


def test_an_agent_that_is_copied_alone_scores_nothing_at_anothers_cost() -> None:
    agent = dynprune_agents.make("cover")
    env, observation = begin(agent, "single")
    lonely = copy.deepcopy(agent)
    with pytest.raises(RuntimeError, match=r"env\.fork\(agent\) copies both"):
        lonely.episode.probe.losses()
    both = copy.deepcopy((env.vector, agent))
    both[1].episode.probe.losses()
    assert both[0].trainer.budget.scored.sum() == env.settings.num_samples
    assert env.vector.trainer.budget.scored.sum() == 0
    lonely.reset(env.episode(3))
    lonely.select(observation)


@pytest.mark.parametrize("way", ["save", "fork"])
def test_an_agent_that_plays_for_another_environment_is_noticed(way: str, tmp_path: Path) -> None:
    agent = dynprune_agents.make("ucb")
    env, _ = begin(agent, "single")
    begin(agent, "single")
    with pytest.raises(ValueError, match="plays for another environment"):
        env.fork(agent) if way == "fork" else env.save(tmp_path / "run.pt", agent)
    assert not list(tmp_path.iterdir())


def test_the_file_holds_no_code_and_may_be_loaded_without_the_agent(tmp_path: Path) -> None:
    expected = saved_midway("ucb", "single", tmp_path / "run.pt", 2)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert state["agent"]["agent"] == "ucb"
    assert state["agent"]["pickled"] is False
    env = new_game(dynprune_agents.make("ucb"), "single")
    env.load(tmp_path / "run.pt")
    after, reward, *_ = env.step(expected[0][0])
    assert_same((after, reward), expected[0][1:3])


def other_agent(path: Path) -> str:
    return "ucb(c=2.0)"


def resave(state: dict[str, Any], path: Path) -> None:
    """As somebody would who knows how files are made."""
    del state["hash"]
    torch.save({**state, "hash": plain_hash(state)}, path)


def without(path: Path) -> str:
    state = torch.load(path, weights_only=True)
    del state["agent"]
    resave(state, path)
    return "ucb"


def damaged(path: Path) -> str:
    state = torch.load(path, weights_only=True)
    del state["agent"]["state"]["parts"]["moments"]
    resave(state, path)
    return "ucb"


REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "another agent": (other_agent, r"of the agent ucb, this one is ucb\(c=2.0\)"),
    "no agent": (without, "holds no agent"),
    "a damaged agent": (damaged, "the state of the agent ucb is damaged"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_run_that_does_not_fit_changes_neither(why: str, tmp_path: Path) -> None:
    change, sentence = REFUSED[why]
    path = tmp_path / "run.pt"
    saved_midway("ucb", "single", path, 2)
    agent = dynprune_agents.make(change(path))
    env, observation = begin(agent, "single")
    twin, player = env.fork(agent)
    with pytest.raises(ValueError, match=sentence):
        env.load(path, agent)
    assert_same(list(go_on(env, agent, observation)), list(go_on(twin, player, observation)))


# -- an agent of one's own that holds what is no plain value ---------------------------------------


@dataclass
class Numbering(DynamicRandom):
    """Holds a generator, of which no copy can be made."""

    def reset(self, episode: Episode) -> None:
        super().reset(episode)
        self.numbers = (number for number in range(99))


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


@dataclass
class Armed(DynamicRandom):
    """Holds what a pickle would run."""

    target: str = ""

    def reset(self, episode: Episode) -> None:
        super().reset(episode)
        self.bomb = Bomb(self.target)


def test_what_is_no_plain_value_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    agent = Numbering()
    env, _ = begin(agent, "single")
    with pytest.raises(TypeError, match=r"the agent\.numbers is a generator, which is no plain"):
        env.save(tmp_path / "run.pt", agent)
    with pytest.raises(TypeError, match="cannot be saved"):
        env.save(tmp_path / "run.pt", agent, pickled=True)
    with pytest.raises(TypeError, match="cannot be copied"):
        env.fork(agent)
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_made_where_it_is_allowed_and_opened_where_it_is_trusted(
    tmp_path: Path,
) -> None:
    path, target = tmp_path / "run.pt", tmp_path / "exploded"
    agent = Armed(target=str(target))
    env, observation = begin(agent, "single")
    with pytest.raises(TypeError, match="pickled=True"):
        env.save(path, agent)
    env.save(path, agent, pickled=True)
    expected = list(go_on(env, agent, observation))
    assert torch.load(path, weights_only=True)["agent"]["pickled"] is True
    again = Armed(target=str(target))
    fresh = new_game(again, "single")
    with pytest.raises(ValueError, match=r"a pickle, which runs code .* trust=True"):
        fresh.load(path, again)
    assert not target.exists()
    assert_same(list(go_on(fresh, again, fresh.load(path, again, trust=True))), expected)
    assert target.exists()


def torn(path: Path, target: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pickled_bomb(path: Path, target: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(str(target))))


def bomb_of_torch(path: Path, target: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "agent": Bomb(str(target))}, path)


def a_list(path: Path, target: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize("change", [torn, pickled_bomb, bomb_of_torch, a_list])
def test_a_file_of_something_else_meets_one_sentence_and_runs_nothing(
    change: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    path, target = tmp_path / "run.pt", tmp_path / "exploded"
    saved_midway("ucb", "single", path, 2)
    change(path, target)
    agent = dynprune_agents.make("ucb")
    env, observation = begin(agent, "single")
    twin, player = env.fork(agent)
    for kwargs in ({}, {"agent": agent, "trust": True}):
        with pytest.raises(ValueError, match=r"run\.pt (is damaged|holds a list)") as caught:
            env.load(path, **kwargs)
        assert "\n" not in str(caught.value)
    assert not target.exists()
    with pytest.raises(FileNotFoundError):
        env.load(tmp_path / "nothing.pt", agent)
    assert_same(list(go_on(env, agent, observation)), list(go_on(twin, player, observation)))


# -- the states of a benchmark's unfinished runs ---------------------------------------------------


class Interrupted(Exception):
    """Stands for a kill."""


def interrupted(agent: Agent, checkpoint: Checkpoint, epochs: int = 2) -> None:
    """Plays some epochs of a group of runs, and leaves their state."""
    left = iter(range(epochs))

    def stop_at_last(progress: np.ndarray) -> None:
        if next(left, None) is None:
            raise Interrupted

    with pytest.raises(Interrupted):
        play_group(agent, checkpoint, stop_at_last)


def play_group(agent: Agent, checkpoint: Checkpoint, on_epoch: Any) -> list[Any]:
    settings = {"train_size": 60, "epochs": 5, "budget": 0.7}
    return run_episodes(
        "DynPrune-Digits-v0",
        agent,
        (3, 4),
        env_kwargs=settings,
        device="cpu",
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize("name", ["pods", "thompson", "infobatch", "sb3"])
def test_the_state_of_unfinished_runs_holds_no_code(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.state", every=0)
    interrupted(dynprune_agents.make(name), checkpoint)
    torch.load(checkpoint.path, weights_only=True)
    epochs: list[Any] = []
    play_group(dynprune_agents.make(name), checkpoint, epochs.append)
    assert len(epochs) == 3
    torch.load(checkpoint.path, weights_only=True)  # their results


def test_a_strangers_pickle_among_unfinished_runs_is_not_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, target = tmp_path / "run.state", tmp_path / "exploded"
    path.write_bytes(pickle.dumps({"seeds": [3, 4], "agent": Bomb(str(target))}))
    epochs: list[Any] = []
    play_group(dynprune_agents.make("ucb"), Checkpoint(path), epochs.append)
    assert not target.exists()
    assert len(epochs) == 5
    assert "the run starts again" in caplog.text


@pytest.mark.parametrize(("saved", "loaded"), [(False, False), (True, False), (True, True)])
def test_an_agent_that_is_no_plain_value_goes_on_only_where_its_pickle_is_trusted(
    saved: bool, loaded: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, target = tmp_path / "run.state", tmp_path / "exploded"
    interrupted(Armed(target=str(target)), Checkpoint(path, every=0, trust=saved))
    assert path.exists() == saved
    epochs: list[Any] = []
    checkpoint = Checkpoint(path, every=1e9, trust=loaded)
    results = play_group(Armed(target=str(target)), checkpoint, epochs.append)
    assert target.exists() == loaded
    assert len(epochs) == (3 if loaded else 5)
    assert ("state_dict() and load_state_dict()" in caplog.text) == (not loaded)
    assert ("trust=True" in caplog.text) == (saved and not loaded)
    assert [len(result.history["kept"]) for result in results] == [5, 5]


def test_a_state_of_something_else_starts_the_runs_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.state"
    torch.save({"type": "dict", "keys": ["seeds"], "values": [3]}, path)
    epochs: list[Any] = []
    play_group(dynprune_agents.make("ucb"), Checkpoint(path), epochs.append)
    assert len(epochs) == 5
    assert "it is no state of runs" in caplog.text
