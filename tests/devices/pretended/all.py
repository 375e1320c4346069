"""On an accelerator the numbers are the CPU's, nothing mixes, and a step waits for it once."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import own
from helpers.episodes import SMALL, assert_same, go_on, make, make_vector, play, random_masks
from helpers.pretend_device import MISSING, pretended
from stable_baselines3 import PPO
from torch import Tensor, nn

from dynprune_agents import Agent, names
from dynprune_agents import make as make_rule
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_env import DynPruneVectorEnv, PruningSampler, own_task, run_episodes
from dynprune_env.tasks.models import MODELS
from dynprune_env.tasks.registry import TASKS

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
CLOSE = 1e-4
DIGITS = "DynPrune-Digits-v0"
NETS = (
    "stacked",
    "wide",
    "modules",
    "pixels in a stack",
    "convolutional",
    "residual",
    "drawing",
    "tokens",
    "streamed",
    "dropout",
)
ACTIONS = ("mask", "weights", "quantiles", "strategy", "tilts", "weighted_tilts")
GAMES: dict[str, dict[str, Any]] = {
    **{f"action {name}": {"action": name} for name in ACTIONS},
    **{f"observation {name}": {"observation": name} for name in ("samples", "summary", "run")},
    "all": {"observe": "all"},
    "averages": {"averaging": 0.9},
    "raw weights": {"weights": "raw", "action": "weights"},
    "noise": {"label_noise": 0.4, "duplicates": 0.2},
    "a loss that is not finite": {"learning_rate": 1e9},
}


def drawing_model(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Draws while it trains."""
    linear = nn.Linear(math.prod(input_shape), num_classes)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), linear)


@pytest.fixture
def nets(pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Settings by what is trained."""
    seen, unseen = own.Pictures(60, jitter=True), own.Pictures(20)
    for name, task in {
        "Words": own.own_words(),
        "Streamed": own_task(seen, unseen, own.cnn, own.RECIPE, stream=True),
        "Dropping": own_task(own.Pictures(60), unseen, own.cnn, own.RECIPE),
    }.items():
        monkeypatch.setitem(TASKS, name, task)
    monkeypatch.setitem(MODELS, "drawing", drawing_model)
    few = {"train_size": 40, "epochs": 3, "precision": "fp32"}
    found = (
        {},
        {"model": "mlp(width=8, depth=3)"},
        {"learner": "modules"},
        {**pictures, "model": "mlp(width=8)"},
        pictures,
        {**pictures, "model": "resnet9(width=2)", "epochs": 2},
        {**pictures, "model": "drawing"},
        {"task": "Words", **few},
        {"task": "Streamed", **few},
        {"task": "Dropping", **few},
    )
    return dict(zip(NETS, found, strict=True))


def there(num_envs: int = 2, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    return here(num_envs, mode, **{**settings, "device": "pretend"})


def here(num_envs: int = 2, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    """On the CPU, by the learner that accelerators have."""
    learner = {"learner": "stacked"} if settings.get("task", "Digits") == "Digits" else {}
    return make_vector(num_envs, mode, **{**learner, **settings})


def some_actions(env: DynPruneVectorEnv, steps: int) -> list[np.ndarray]:
    if env.settings.action in ("mask", "weights"):
        return list(random_masks(env, steps, np.linspace(0.4, 1, env.num_envs)[:, None]))
    env.action_space.seed(3)
    return [env.action_space.sample() for _ in range(steps)]


def check(settings: dict[str, Any], copies: int = 1) -> None:
    """Plays here and there; there a reset waits once, and so does each step."""
    env = here(3, **settings)
    actions = some_actions(env, 5)
    expected = [*play(env, actions, seed=3), env.evaluate("test"), env.evaluate("train")]
    with pretended() as log:
        env = there(3, **settings)
        env.reset(seed=8)  # reads the data
        log.clear()
        found: list[Any] = [env.reset(seed=3)]
        assert len(log.waits) == 1, log.waits
        for action in actions[: len(expected) - 3]:
            log.clear()
            found.append(env.step(action))
            assert len(log.waits) == 1, log.waits
            assert all(copy.non_blocking for copy in log.copies)
            if settings.get("task") != "Streamed":  # whose batches a DataLoader pins
                assert len(log.copies) <= copies
                assert all(copy.pinned for copy in log.copies)
        found += [env.evaluate("test"), env.evaluate("train")]
    assert_same(found, expected, CLOSE)


@pytest.mark.parametrize("net", NETS)
def test_every_net_trains_as_on_the_cpu_and_a_step_copies_and_waits_once(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check(nets[net])


@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_that_of_the_cpu_and_a_step_waits_once(game: str) -> None:
    check(GAMES[game], copies=4 if game == "all" else 1)


@pytest.mark.parametrize("net", ["modules", "convolutional", "streamed"])
def test_scoring_what_was_dropped_costs_no_further_wait(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    check({**nets[net], "observe": "all"}, copies=4)


def test_a_step_that_starts_the_next_run_waits_once_more() -> None:
    env = here(2, "SameStep")
    masks = random_masks(env, 5, np.array([[0.4], [1.0]]))
    expected = [env.reset(seed=3), *map(env.step, masks)]
    with pretended() as log:
        env, waits = there(2, "SameStep"), []
        found = [env.reset(seed=3)]
        for mask in masks:
            log.clear()
            found.append(env.step(mask))
            waits.append(len(log.waits))
    assert_same(found, expected, CLOSE)
    assert waits == [1 + bool(step[2].any()) for step in found[1:]]
    assert 2 in waits


def test_twins_go_on_there_as_on_the_cpu() -> None:
    small = {"train_size": 48, "epochs": 3, "batch_size": 16, "twins": 2}
    env = DynPruneVectorEnv(4, "Disabled", device="cpu", learner="stacked", **small)
    masks = random_masks(env, 3, np.linspace(0.3, 1, 4)[:, None])
    expected = play(env, masks, seed=3)
    with pretended():
        found = play(DynPruneVectorEnv(4, "Disabled", device="pretend", **small), masks, seed=3)
    assert_same(found, expected, CLOSE)


def episode(agent: Agent, env: DynPruneVectorEnv) -> list[tuple[Any, ...]]:
    """What an agent does in one episode of each row, and what comes of it."""
    observation, _ = env.reset(seed=[3, 4])
    agent.prepare(env.scoring_runs([3, 4]))
    agent.reset(env.episode([3, 4]))
    steps: list[tuple[Any, ...]] = []
    while not env.ended.all():
        action = agent.select(observation)
        before = observation
        observation, reward, *_, infos = env.step(action)
        agent.update(before, action, reward, observation)
        steps.append((np.array(action), reward, infos["run_visits"], infos["val_loss"]))
    return steps


@pytest.mark.parametrize("name", [name for name in names() if name != "sb3"])
def test_every_agent_chooses_there_as_on_the_cpu(name: str) -> None:
    settings = {"epochs": 4, "budget": 0.6, **make_rule(name).env_kwargs}
    with warnings.catch_warnings():  # some are full data in a run this short
        warnings.filterwarnings("ignore", message=".* spend the whole budget")
        expected = episode(make_rule(name), here(**settings))
        with pretended():
            found = episode(make_rule(name), there(**settings))
    assert_same(found, expected, CLOSE)


@pytest.mark.parametrize("net", ["stacked", "convolutional", "dropout"])
@pytest.mark.parametrize("to_device", [True, False], ids=["to the device", "from the device"])
def test_a_run_saved_on_one_device_goes_on_on_another(
    net: str, to_device: bool, nets: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    settings, path = {**nets[net], "averaging": 0.8}, tmp_path / "run.pt"
    env = here(**settings)
    masks = random_masks(env, 3, 0.7)
    expected = play(env, masks, seed=3)[-1]
    with pretended():
        first, second = (here, there) if to_device else (there, here)
        run = first(**settings)
        play(run, masks[:2], seed=3)
        run.save(path)
        held = torch.load(path, weights_only=True)
        other = second(**settings)
        other.load(path)
        assert_same(go_on(other, masks[2:])[-1], expected, CLOSE)
    assert {tensor.device.type for tensor in tensors(held)} == {"cpu"}


def tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [tensor for each in inner for tensor in tensors(each)]


@pytest.mark.parametrize("net", ["stacked", "convolutional"])
def test_a_fork_with_its_agent_goes_on_like_its_original(
    net: str, nets: dict[str, dict[str, Any]]
) -> None:
    with pretended():
        env, agent = there(**nets[net]), make_rule("ucb")
        observation, _ = env.reset(seed=3)
        agent.reset(env.episode([3, 4]))
        observation = env.step(agent.select(observation))[0]
        other, copied = env.fork(agent)
        assert_same(other.step(copied.select(observation)), env.step(agent.select(observation)))


def test_whole_runs_and_panels_are_those_of_the_cpu() -> None:
    small = {name: value for name, value in SMALL.items() if name != "device"}
    ours = {"budget": 0.5, **small}
    panel = make(render_mode="rgb_array", learner="stacked")
    play(panel, np.ones((2, 48), dtype=bool), seed=3)
    runs = run_episodes(DIGITS, make_rule("infobatch"), [0, 1], env_kwargs=ours, device="cpu")
    with pretended():
        rule = make_rule("infobatch")
        there_too = run_episodes(DIGITS, rule, [0, 1], env_kwargs=ours, device="pretend")
        other = make(render_mode="rgb_array", device="pretend")
        play(other, np.ones((2, 48), dtype=bool), seed=3)
        assert np.abs(other.render().astype(int) - panel.render().astype(int)).mean() < 1
    for run, its_like in zip(there_too, runs, strict=True):
        assert run.device == "pretend"
        assert run.visits == its_like.visits
        assert run.test_loss == pytest.approx(its_like.test_loss, abs=1e-3)


def test_ppo_learns_there_what_it_learns_on_the_cpu() -> None:
    def learnt(env: DynPruneVectorEnv) -> list[Tensor]:
        made = PPO("MlpPolicy", DynPruneVecEnv(env), n_steps=4, batch_size=8, seed=0, device="cpu")
        return [*made.learn(16).policy.parameters()]

    settings = {"observation": "run", "action": "tilts"}
    expected = learnt(here(2, "SameStep", **settings))
    with pretended():
        found = learnt(there(2, "SameStep", **settings))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=CLOSE, atol=CLOSE)


def test_a_loop_of_ones_own_records_logits_where_they_are() -> None:
    def visited(device: str) -> list[list[int]]:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(40) % 3
        inputs = (torch.randn(40, 4, generator=generator) + labels[:, None]).to(device)
        sampler = PruningSampler(labels, make_rule("ucb"), epochs=4, budget=0.6, seed=3)
        weight = torch.zeros(4, 3, device=device, requires_grad=True)
        found, own_labels = [], labels.to(device)
        while not sampler.finished:
            ids = torch.tensor(list(sampler))
            there = ids.to(device)
            logits = inputs[there] @ weight
            F.cross_entropy(logits, own_labels[there]).backward()
            with torch.no_grad():
                weight -= 0.1 * weight.grad
            weight.grad = None
            sampler.record(ids, logits.detach())
            sampler.select()
            found.append(ids.tolist())
        return found

    expected = visited("cpu")
    with pretended():
        assert visited("pretend") == expected


def test_cpu_tensors_do_not_mix_with_the_devices_own() -> None:
    with pretended() as log:
        ours = torch.ones(3).to("pretend", non_blocking=True)
        with pytest.raises(RuntimeError, match="met the pretended device"):
            ours + torch.ones(3)
        with pytest.raises(TypeError, match=r"use \.cpu\(\) first"):
            ours.numpy()
        assert not log.waits
        assert (ours * 2).sum().item() == 6
        assert ours[[0, 2]].cpu().tolist() == [1, 1]
    assert [wait.split(" at ")[0] for wait in log.waits] == [
        "aten._local_scalar_dense.default",
        "indices from the host",
        "copy to the host",
    ]


@pytest.mark.parametrize(
    "device", ["cuda:7", "mps", "xpu", "meta", "banana", "cuda:x", "hpu", "privateuseone:3"]
)
def test_a_device_that_is_not_there_is_refused_in_a_sentence(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used: ") as refused:
        make(device=device).reset()
    assert "\n" not in str(refused.value)


def test_a_device_without_its_number_is_the_same_device() -> None:
    with pretended():
        unnumbered, numbered = (
            make_vector(1, device=device) for device in ("pretend", "pretend:0")
        )
        for env in (unnumbered, numbered):
            env.reset(seed=0)
        assert unnumbered.trainer.device == numbered.trainer.device == torch.device("pretend:0")
