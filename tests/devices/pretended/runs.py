"""Runs are saved, forked, drawn, learnt from and looped over on an accelerator as on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.episodes import SMALL, assert_same, go_on, make, make_vector, play, random_masks
from helpers.pretend_device import MISSING, pretended
from helpers.two_devices import CLOSE, here, there
from stable_baselines3 import PPO
from torch import Tensor

from dynprune_agents import make as make_rule
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_env import DynPruneVectorEnv, PruningSampler, run_episodes
from dynprune_env.training import step_graphs

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
DIGITS = "DynPrune-Digits-v0"


@pytest.mark.parametrize("net", ["stacked", "convolutional", "dropout", "several labels"])
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
    def played(env: DynPruneVectorEnv) -> list[Any]:
        agent = make_rule("ucb")
        observation, _ = env.reset(seed=3)
        agent.reset(env.episode([3, 4]))
        observation = env.step(agent.select(observation))[0]
        other, copied = env.fork(agent)
        forked = other.step(copied.select(observation))
        assert_same(forked, env.step(agent.select(observation)))
        return [observation, forked]

    expected = played(here(**nets[net]))
    with pretended():
        assert_same(played(there(**nets[net])), expected, CLOSE)


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
        assert run.test_loss == pytest.approx(its_like.test_loss, abs=CLOSE)


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


AT_HAND = {"mps": torch.backends.mps.is_available(), "xpu": torch.xpu.is_available()}
ABSENT = [f"cuda:{torch.cuda.device_count()}", *(name for name in AT_HAND if not AT_HAND[name])]


@pytest.mark.parametrize("device", [*ABSENT, "meta", "banana", "cuda:x", "hpu", "privateuseone:3"])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used: ") as refused:
        make(device=device).reset()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("net", ["stacked", "convolutional", "several labels", "numbers"])
@pytest.mark.parametrize(
    ("name", "device"), [("cuda:1", "cuda:1"), ("mps", "mps:0"), ("xpu", "xpu:0")]
)
@pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")
def test_a_device_that_is_there_is_taken_by_its_name(
    name: str,
    device: str,
    net: str,
    nets: dict[str, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step_graphs, "LANES", 0)  # the pretended device has no streams
    masks = random_masks(here(**nets[net]), 3, 0.7)
    expected = play(here(**nets[net]), masks, seed=3)
    ahead = name != "mps"
    with pretended(name) as log:
        env = there(device=name, **nets[net])
        found = [env.reset(seed=3)]
        for mask in masks[: len(expected) - 1]:
            log.clear()
            found.append(env.step(mask))
            assert len(log.waits) == (1 if ahead else 2)  # MPS waits for the copy there as well
            assert {(copy.pinned, copy.non_blocking) for copy in log.copies} == {(ahead, ahead)}
        assert env.trainer.device == torch.device(device)
    assert_same(found, expected, CLOSE)


def test_what_the_device_does_not_have_is_refused() -> None:
    with pretended("mps:0") as log:
        ours = torch.ones(3, device="mps")
        with pytest.raises(TypeError, match=r"no torch\.float64"):
            ours.double()
        assert ours.cpu().double().sum() == 3
        assert log.fetched == [12]


def test_a_device_without_its_number_is_the_same_device() -> None:
    with pretended():
        unnumbered, numbered = (
            make_vector(1, device=device) for device in ("pretend", "pretend:0")
        )
        for env in (unnumbered, numbered):
            env.reset(seed=0)
        assert unnumbered.trainer.device == numbered.trainer.device == torch.device("pretend:0")
