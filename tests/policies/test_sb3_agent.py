"""What Stable-Baselines3 saved plays like any other agent, in any process and for any n."""

from __future__ import annotations

import base64
import json
import os
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers.by_hand import episode, observed
from helpers.episodes import SMALL, make, make_vector, run_script
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import VecEnvWrapper

import dynprune_agents
from dynprune_agents.learning import set_policy as former_module
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_agents.policies._features import TASK_SIZE
from dynprune_agents.policies._sb3_files import save_model
from dynprune_agents.policies._set_policy import SampleFeatures, SetPolicy
from dynprune_agents.policies.sb3 import SB3
from dynprune_env import run_episodes
from dynprune_env.selection.observations import progress_entries

ENV = "DynPrune-Digits-v0"
SHORT = {"observation": "run", "action": "tilts"}


class FormerKey(VecEnvWrapper):
    """Tells of (T, C) under the key that it had when old policies were trained."""

    def __init__(self, env: DynPruneVecEnv):
        assert isinstance(env.observation_space, spaces.Dict)
        super().__init__(env, spaces.Dict(self.renamed(env.observation_space.spaces)))

    def renamed(self, entries: Any) -> Any:
        return OrderedDict(("game" if k == TASK_SIZE else k, v) for k, v in entries.items())

    def reset(self) -> Any:
        return self.renamed(self.venv.reset())

    def step_wait(self) -> Any:
        seen, *others, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self.renamed(info["terminal_observation"])
        return self.renamed(seen), *others, infos


def model(
    algorithm: Any,
    policy: Any = "MlpPolicy",
    kwargs: Any = None,
    wrapper: Any = lambda env: env,
    **kinds: Any,
) -> Any:
    """An untrained model with random weights that are not small."""
    env = wrapper(DynPruneVecEnv(make_vector(2, "SameStep", **kinds)))
    made = algorithm(policy, env, seed=0, device="cpu", **(kwargs or {}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.policy.named_parameters():
            if "spend" in name:  # at an even pace
                continue
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def saved(folder: Path, *arguments: Any, **kinds: Any) -> str:
    """Path of the file of such a model's policy."""
    path = folder / "model.npz"
    save_model(path, model(*arguments, **kinds), {})
    return str(path)


@pytest.fixture
def set_policy(tmp_path: Path) -> str:
    return saved(tmp_path, PPO, SetPolicy)


@pytest.fixture
def short_policy(tmp_path: Path) -> str:
    return saved(tmp_path, PPO, **SHORT)


def play(agent: Any, seeds: list[int], **settings: Any) -> list[np.ndarray]:
    """The actions of one episode of each replica."""
    env = make_vector(len(seeds), **settings, **agent.env_kwargs)
    seen, _ = env.reset(seed=seeds)
    agent.reset(env.episode(seeds))
    actions, ended = [], np.zeros(len(seeds), dtype=bool)
    while not ended.all():
        actions.append(agent.select(seen))
        seen, _, ended, _, _ = env.step(actions[-1])
    return actions


SAMPLES = {"observation": "samples", "action": "mask"}
MODELS: list[tuple[Any, Any, dict[str, str], dict[str, Any]]] = [
    (PPO, SetPolicy, SAMPLES, {}),
    (PPO, "MultiInputPolicy", SAMPLES, {}),
    (PPO, "MlpPolicy", SHORT, {}),
    (PPO, "MlpPolicy", {"observation": "summary", "action": "quantiles"}, {}),
    (SAC, "MlpPolicy", {"observation": "run", "action": "weighted_tilts"}, {}),
    (PPO, "MlpPolicy", SHORT, {"use_sde": True}),
    (A2C, SetPolicy, SAMPLES, {}),
    (A2C, "MlpPolicy", {"observation": "summary", "action": "strategy"}, {}),
    (SAC, "MlpPolicy", SHORT, {"policy_kwargs": {"net_arch": [8]}}),
    (SAC, "MlpPolicy", SHORT, {"policy_kwargs": {"net_arch": [8]}, "use_sde": True}),
    (SAC, "MultiInputPolicy", {"observation": "samples", "action": "weights"}, {}),
    (
        TD3,
        "MlpPolicy",
        {"observation": "summary", "action": "quantiles"},
        {"policy_kwargs": {"net_arch": [8]}},
    ),
    (DQN, "MlpPolicy", {"observation": "summary", "action": "strategy"}, {}),
]
CONTRIB = [
    ("TQC", "MlpPolicy", SHORT, {"policy_kwargs": {"net_arch": [8]}}),
    ("TRPO", SetPolicy, SAMPLES, {}),
    ("ARS", "LinearPolicy", SHORT, {}),
    ("ARS", "MlpPolicy", {"observation": "summary", "action": "strategy"}, {}),
]


def check_that_it_plays(
    tmp_path: Path, algorithm: Any, policy: Any, kinds: dict[str, str], kwargs: Any
) -> None:
    if algorithm.__name__ in ("SAC", "TD3", "DQN", "TQC"):
        kwargs = {"buffer_size": 100, **kwargs}
    path = saved(tmp_path, algorithm, policy, kwargs, **kinds)
    for deterministic in (True, False):
        agent = dynprune_agents.make(f"sb3(policy={path!r}, deterministic={deterministic})")
        assert agent.env_kwargs == kinds
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        actions = play(agent, [3, 4])
        assert random.getstate() == states[0]
        assert np.random.get_state()[1].tolist() == states[1]
        assert torch.equal(torch.get_rng_state(), states[2])
        assert len(actions) >= 2
        if kinds["action"] == "mask":
            assert {action.dtype for action in actions} == {np.dtype(bool)}
        for expected, action in zip(actions, play(agent, [3, 4]), strict=True):
            np.testing.assert_array_equal(action, expected)
    small = {name: value for name, value in SMALL.items() if name != "device"}
    results = run_episodes(ENV, agent, [0, 1], env_kwargs=small, device="cpu")
    assert all(0 < result.visits <= 96 for result in results)


@pytest.mark.parametrize(("algorithm", "policy", "kinds", "kwargs"), MODELS)
def test_models_of_any_algorithm_play(
    tmp_path: Path, algorithm: Any, policy: Any, kinds: dict[str, str], kwargs: Any
) -> None:
    check_that_it_plays(tmp_path, algorithm, policy, kinds, kwargs)


@pytest.mark.parametrize(("name", "policy", "kinds", "kwargs"), CONTRIB)
def test_models_of_contributed_algorithms_play(
    tmp_path: Path, name: str, policy: Any, kinds: dict[str, str], kwargs: Any
) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    check_that_it_plays(tmp_path, getattr(contrib, name), policy, kinds, kwargs)


PLAY = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
sys.path[:0] = ["tests", "tests/policies"]
from test_sb3_agent import SB3, play
for path in sys.argv[1:]:
    for deterministic in (True, False):
        actions = play(SB3(path, deterministic), [7, 8])
        print(np.concatenate([a.ravel() for a in actions]).astype(float).tolist())
"""


def test_trained_saved_and_loaded_in_a_new_process_it_acts_the_same(tmp_path: Path) -> None:
    paths = [str(tmp_path / "set.npz"), str(tmp_path / "short.npz")]
    settings = {"n_steps": 4, "batch_size": 8}
    for path, policy, kinds in zip(paths, (SetPolicy, "MlpPolicy"), ({}, SHORT), strict=True):
        save_model(Path(path), model(PPO, policy, settings, **kinds).learn(16), {})
    lines = run_script(PLAY, *paths).splitlines()
    for path in paths:
        for deterministic in (True, False):
            actions = play(SB3(path, deterministic), [7, 8])
            here = np.concatenate([action.ravel() for action in actions]).astype(float)
            np.testing.assert_array_equal(json.loads(lines.pop(0)), here)
            assert np.ptp(here) > 0


@pytest.mark.parametrize("n", [1, 200, 50_000])
def test_a_set_policy_acts_on_any_number_of_samples(set_policy: str, n: int) -> None:
    game = episode(n, seeds=(0, 1))
    for deterministic in (True, False):
        agent = SB3(set_policy, deterministic)
        agent.reset(game)
        rng = np.random.default_rng(0)
        columns = {name: 0 for name in ("loss_var", "forgetting", "label")}
        seen = observed(game, 2, **columns | {"loss": rng.random(n), "confidence": rng.random(n)})
        progress_entries(seen["progress"])["budget"][...] = game.budget
        mask = agent.select(seen)
        assert mask.shape == (2, n)
        assert mask.dtype == bool
        if deterministic:
            # Only ties at the threshold are broken by each row's own generator.
            assert np.count_nonzero(mask[0] != mask[1]) <= n / 1000
            assert 0.25 * n <= mask[0].sum() <= max(1, n - 1)
        elif n > 1:
            assert not np.array_equal(*mask)


def test_epochs_and_classes_of_the_game_at_hand_count(set_policy: str) -> None:
    rng = np.random.default_rng(0)
    columns = {name: 0 for name in ("loss_var", "forgetting", "label")}
    columns |= {name: rng.random(300) for name in ("loss", "loss_mean", "confidence")}
    masks = []
    for epochs in (5, 5, 200):
        game = episode(300, epochs=epochs)
        agent = SB3(set_policy)
        agent.reset(game)
        seen = observed(game, epochs // 5, **columns)
        progress_entries(seen["progress"])["budget"][...] = game.budget
        masks.append(agent.select(seen))
    assert np.array_equal(*masks[:2])
    assert not np.array_equal(*masks[1:])


def test_a_row_is_the_agent_alone_with_its_seed(set_policy: str, short_policy: str) -> None:
    for path in (set_policy, short_policy):
        for deterministic in (True, False):
            agent = SB3(path, deterministic)
            together = play(agent, [3, 9])
            for row, seed in enumerate((3, 9)):
                env = make(**agent.env_kwargs)
                seen, _ = env.reset(seed=seed)
                agent.reset(env.episode(seed))
                first = agent.select(seen)
                np.testing.assert_array_equal(first, together[0][row])
                assert first.shape == env.action_space.shape


def test_stochastic_play_depends_on_the_seed_alone(set_policy: str, short_policy: str) -> None:
    for path in (set_policy, short_policy):
        agent = SB3(path, deterministic=False)
        one, two = play(agent, [1, 2]), play(agent, [1, 5])
        np.testing.assert_array_equal(one[0][0], two[0][0])
        assert not np.array_equal(one[0][1], two[0][1])
        torch.manual_seed(123)
        np.testing.assert_array_equal(play(agent, [1, 2])[0], one[0])


def test_where_all_samples_are_alike_no_position_is_preferred(set_policy: str) -> None:
    game = episode(20, budget=0.5, seeds=tuple(range(400)))
    columns = {name: 0 for name in ("loss_var", "forgetting", "label")}
    seen = observed(game, 0, **columns, visits=0)
    progress_entries(seen["progress"])["budget"][...] = game.budget
    agent = SB3(set_policy, deterministic=True)
    agent.reset(game)
    mask = agent.select(seen)
    assert len(set(mask.sum(axis=1))) == 1
    share = mask.mean()
    assert 0.2 < share < 0.8
    error = 5 * np.sqrt(share * (1 - share) / 400)
    assert mask.mean(axis=0) == pytest.approx(np.full(20, share), abs=error)


def test_an_agent_of_a_model_in_memory_keeps_what_it_was(short_policy: str) -> None:
    trained = model(PPO, "MlpPolicy", {"n_steps": 4, "batch_size": 8}, **SHORT)
    agent = SB3.of(trained, "mine")
    assert repr(agent) == "sb3(policy='mine')"
    before = play(agent, [0])
    np.testing.assert_array_equal(before[0], play(SB3(short_policy), [0])[0])
    trained.learn(32)
    np.testing.assert_array_equal(play(agent, [0])[0], before[0])
    assert not np.array_equal(play(SB3.of(trained, "mine"), [0])[0], before[0])
    assert trained.policy.training is not None


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = saved(tmp_path, PPO, **SHORT)
    assert SB3(path).env_kwargs == SHORT
    saved(tmp_path, PPO, SetPolicy)
    os.utime(path, ns=(1, 1))
    assert SB3(path).env_kwargs == SAMPLES


# -- files of before 0.2 ------------------------------------------------------------------------


def test_a_set_policy_whose_file_names_its_former_module_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = {"policy_kwargs": {"features_extractor_class": SampleFeatures}}
    today, former = tmp_path / "today.zip", tmp_path / "former.zip"
    trained = model(PPO, SetPolicy, kwargs)
    trained.save(today)
    for pickled in (SetPolicy, SampleFeatures):
        monkeypatch.setattr(pickled, "__module__", former_module.__name__)
    trained.save(former)
    monkeypatch.undo()
    with zipfile.ZipFile(former) as archive:
        data = json.loads(archive.read("data"))
    for entry in ("policy_class", "policy_kwargs"):
        pickle = base64.b64decode(data[entry][":serialized:"])
        assert former_module.__name__.encode() in pickle
        assert SetPolicy.__module__.encode() not in pickle
    actions = play(SB3(str(today), trust=True), [3, 4])
    for expected, action in zip(actions, play(SB3(str(former), trust=True), [3, 4]), strict=True):
        np.testing.assert_array_equal(action, expected)
    seen = trained.env.reset()
    expected, _ = trained.predict(seen, deterministic=True)
    loaded = PPO.load(former, device="cpu")
    assert type(loaded.policy) is SetPolicy
    np.testing.assert_array_equal(loaded.predict(seen, deterministic=True)[0], expected)


def test_a_set_policy_that_knows_the_task_size_by_its_former_key_plays_the_same(
    tmp_path: Path,
) -> None:
    today, former = str(tmp_path / "today.zip"), str(tmp_path / "former.zip")
    model(PPO, SetPolicy).save(today)
    model(PPO, SetPolicy, wrapper=FormerKey).save(former)
    assert "game" in PPO.load(former, device="cpu").observation_space.spaces  # type: ignore[attr-defined]
    assert SB3(former, trust=True).env_kwargs == SAMPLES
    actions = play(SB3(today, trust=True), [3, 4])
    for expected, action in zip(actions, play(SB3(former, trust=True), [3, 4]), strict=True):
        np.testing.assert_array_equal(action, expected)


def test_a_stock_policy_that_knows_the_task_size_by_its_former_key_sees_it(
    tmp_path: Path,
) -> None:
    trained = model(PPO, "MultiInputPolicy", {"n_steps": 4, "batch_size": 8}, FormerKey).learn(8)
    trained.save(tmp_path / "former.zip")
    seen = trained.env.reset()
    agent = SB3(str(tmp_path / "former.zip"), trust=True)
    agent.reset(episode(48, epochs=4, seeds=(0, 1)))
    action = agent.select({name: value for name, value in seen.items() if name != "game"})
    for size in ([4, 10], [400, 1000]):
        known = {**seen, "game": np.array([size] * 2, dtype=np.float32)}
        expected, _ = trained.predict(known, deterministic=True)
        assert np.array_equal(action, expected) == (size == [4, 10])


# -- what cannot play ---------------------------------------------------------------------------


def test_making_one_needs_no_file() -> None:
    agent = dynprune_agents.make("sb3(policy='nowhere')")
    assert repr(agent) == "sb3(policy='nowhere')"
    with pytest.raises(ValueError, match="no policy file 'nowhere'"):
        agent.env_kwargs  # noqa: B018


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"other\.zip is not a model that Stable-Baselines3"):
        SB3(str(path)).env_kwargs  # noqa: B018
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "world")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match=r"other\.zip is not a model that Stable-Baselines3"):
        SB3(str(path)).env_kwargs  # noqa: B018


def test_models_of_other_environments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cart.zip"
    PPO("MlpPolicy", gym.make("CartPole-v1"), device="cpu").save(path)
    with pytest.raises(ValueError, match=r"observations Box.*keep it with model\.save"):
        SB3(str(path), trust=True).env_kwargs  # noqa: B018


def test_recurrent_policies_are_refused(tmp_path: Path) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    path = tmp_path / "model.zip"
    made = model(contrib.RecurrentPPO, "MlpLstmPolicy", **SHORT)
    made.save(path)
    with pytest.raises(ValueError, match="cannot play here"):
        SB3(str(path), trust=True).env_kwargs  # noqa: B018
    with pytest.raises(ValueError, match=r"RecurrentActorCriticPolicy cannot be kept as arrays"):
        save_model(tmp_path / "model.npz", made, {})


def test_stock_policies_act_on_no_other_number_of_samples(tmp_path: Path) -> None:
    agent = SB3(saved(tmp_path, PPO, "MultiInputPolicy", **SAMPLES))
    with pytest.raises(ValueError, match=r"trained on 48 samples .* got 50; a SetPolicy acts on"):
        play(agent, [0], train_size=50)


@pytest.mark.parametrize(("fixture", "drawn"), [("set_policy", True), ("short_policy", False)])
def test_masks_of_a_set_policy_are_drawn_and_short_actions_are_not(
    fixture: str, drawn: bool, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(fixture)
    unsaid = play(SB3(path), [7, 8])
    said = play(SB3(path, deterministic=not drawn), [7, 8])
    other = play(SB3(path, deterministic=drawn), [7, 8])
    assert all(np.array_equal(*pair) for pair in zip(unsaid, said, strict=True))
    assert not np.array_equal(unsaid[0], other[0])
