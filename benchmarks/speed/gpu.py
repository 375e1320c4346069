"""On an accelerator: is it the CPU's game, and how fast is it? For the first day with one at hand.

All of it also runs on any other device, small, so that nothing fails on that day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.speed.clock import Row, compare, take_turns, wall_clock_of
from benchmarks.speed.convolutions import convolution_seconds
from benchmarks.speed.tasks import make_env, masks
from dynprune_env.common.tf32 import where_tf32, without_tf32
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.training import step_graphs

FLOP_PER_IMAGE = 3.33e9
"""Of a training pass of ResNet-18 with the CIFAR stem: counted, forward and backward."""

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second, from the vendor's data sheets."""

ATTAINABLE = 0.5
"""The share of it that an epoch of convolutions is held to."""

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
"""What the host waits in, by the names that the profiler gives."""

SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        task: of the convolutional net.
        images: n of its epochs.
        replicas: of small nets, stacked.
        small: task of a small convolutional net, how many of it train together, and their n.
        rounds: timed steps of each.
        checked: tasks whose numbers are compared with the CPU's, and n of each.
    """

    task: str = "CIFAR10"
    images: int = 45_000
    replicas: tuple[int, ...] = (64, 256, 1024, 4096)
    rounds: int = 3
    small: tuple[str, tuple[int, ...], int] = ("CIFAR10Small", (1, 4, 8), 10_000)
    checked: tuple[tuple[str, int], ...] = (("Digits", 1000), ("Clutter", 512))


DRY = Scale("Clutter", 48, (2, 3), 1, ("Clutter", (1, 2), 48), (("Digits", 48), ("Clutter", 48)))
"""Enough to see that all of it runs."""


def gpu_rows(device: str, scale: Scale) -> list[Row]:
    """The table: agreement with the CPU first, then waits, epochs, shares kept, and stacks."""
    rows = [row for task, size in scale.checked for row in agreement_rows(device, task, size)]
    rows.append(waits_row(device, scale))
    for name, settings in precisions(device).items():
        rows += epoch_rows(device, scale, name, settings)
    rows += share_rows(device, scale) + small_rows(device, scale)
    if torch.device(device).type == "cuda":
        rows += [convolutions_row(device, scale), recorded_row(device, scale)]
    return rows + stack_rows(device, scale)


def precisions(device: str) -> dict[str, dict[str, object]]:
    """Settings by what they are called; code is compiled on CUDA only."""
    found: dict[str, dict[str, object]] = {
        fp32_name(device): {"precision": "fp32"},
        "bf16": {"precision": "bf16"},
        "bf16, deterministic": {"precision": "bf16", "deterministic": True},
    }
    if torch.device(device).type == "cuda":
        found["bf16, compiled"] = {"precision": "bf16", "compile": True}
    return found


def fp32_name(device: str) -> str:
    """What fp32 is called on a device: with the operations in which CUDA rounds it to TF32 now."""
    kinds = where_tf32() if torch.device(device).type == "cuda" else []
    return f"fp32 ({' and '.join(kinds)} in TF32)" if kinds else "fp32"


def agreement_rows(device: str, task: str, size: int) -> list[Row]:
    """Largest relative differences to the CPU's val losses after one epoch, and after three.

    Sums in another order differ in their last bits; training, with batch norm above all, widens
    that: later epochs have no target.
    """
    losses = {}
    with without_tf32():
        for where in ("cpu", device):
            losses[where] = _val_losses(where, task, size)
    rows = []
    for epoch, target in ((1, "<= 0.001"), (3, "")):
        here, there = losses[device][epoch - 1], losses["cpu"][epoch - 1]
        apart = np.abs(here / there - 1)
        what = (
            f"{task}, n = {size:,}, fp32, 3 replicas: val losses against the CPU's, epoch {epoch}"
        )
        largest = float(apart.max())  # NaN, if one is: never met
        mean = [f"{each.mean():.6f} nats" for each in (here, there)]
        rows.append(Row(what, *mean, largest, float(apart.min()), largest, target))
    return rows


def _val_losses(device: str, task: str, size: int) -> np.ndarray:
    """Of three epochs of three replicas that keep unequal shares, (3, 3)."""
    learner = "modules" if task != "Digits" else "stacked"
    settings = {"precision": "fp32", "learner": learner, "device": device}
    env = DynPruneVectorEnv(3, "Disabled", task=task, train_size=size, epochs=9, **settings)
    env.reset(seed=0)
    kept = np.stack([masks(size, share) for share in (0.3, 0.6, 0.9)])
    return np.stack([env.step(kept)[-1]["val_loss"] for _ in range(3)])


def waits_row(device: str, scale: Scale) -> Row:
    """How often the host waits for the device in one step; only CUDA's waits can be counted."""
    env = make_env(scale.task, min(scale.images, 4_000), device=device)
    mask = masks(env.settings.num_samples, 0.5)
    env.step(mask)
    what = "A step: waits of the host"
    if torch.device(device).type != "cuda":
        env.step(mask)
        return Row(what, "not measured", "", np.nan, np.nan, np.nan)
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as seen, record_function(_STEP):
        env.step(mask)
    waits = count_waits(seen.events() or [])
    return Row(what, f"{waits}", "", waits, waits, waits, "<= 1")


_STEP = "a step"


def count_waits(events: Sequence[Any]) -> int:
    """Waits within the step; the profiler itself waits once more at its end.

    Args:
        events: of the profiler, with `name` and `time_range`.

    Raises:
        ValueError: the step itself is not among them.
    """
    step = next((event.time_range for event in events if event.name == _STEP), None)
    if step is None:
        raise ValueError(f"{_STEP!r} is not among {len(events)} profiled events")
    waits = [event.time_range for event in events if event.name in WAITS]
    return sum(step.start <= each.start <= step.end for each in waits)


def roofline(device: str, images: int) -> float | None:
    """Seconds of an epoch of ResNet-18 as fast as attainable; None for an unknown device."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    peak = next((peak for key, peak in PEAK.items() if key in name), None)
    return None if peak is None else images * FLOP_PER_IMAGE / (ATTAINABLE * peak)


def epoch_rows(device: str, scale: Scale, name: str, settings: dict[str, object]) -> list[Row]:
    """A full epoch and val over the roofline; the first steps of two episodes over later ones."""
    clock = wall_clock_of(device)
    first = clock()
    env = make_env(scale.task, scale.images, device=device, **settings)
    mask = np.ones(scale.images, dtype=bool)
    env.step(mask)
    first = clock() - first
    seconds = take_turns({"step": partial(env.step, mask)}, scale.rounds, clock)["step"]
    again = clock()
    env.reset(seed=1)
    env.step(mask)
    again = clock() - again
    later, ideal = float(np.median(seconds)), roofline(device, scale.images)
    net = f"{env.settings.resolved.model}, n = {scale.images:,}, {name}"
    ratio = seconds / (ideal or np.nan)
    target = "<= 2" if ideal and "bf16" in name else ""
    return [
        Row(
            f"{net}: step / roofline",
            f"{later:.4g} s",
            f"{ideal:.4g} s" if ideal else "unknown",
            *(float(each) for each in (np.median(ratio), ratio.min(), ratio.max())),
            target,
        ),
        _over(f"{net}: first reset and step / later steps", first, later),
        _over(f"{net}: reset and first step of the second episode / later steps", again, later),
    ]


def share_rows(device: str, scale: Scale) -> list[Row]:
    """Time of a step by the share kept over that of a full one, val evaluation set apart."""
    env = make_env(scale.task, scale.images, device=device)
    sides: dict[str, Callable[[], object]] = {
        str(share): partial(env.step, masks(scale.images, share)) for share in SHARES
    }
    sides["val"] = partial(env.vector.trainer.evaluate, "val")
    seconds = take_turns(sides, scale.rounds, wall_clock_of(device))
    whole = seconds["1.0"] - seconds["val"]
    return [
        compare(
            f"{env.settings.resolved.model}: step keeping {share:.0%} / 100%, without val",
            seconds[str(share)] - seconds["val"],
            whole,
            f"<= {share + 0.01:.2f}",
        )
        for share in SHARES[1:]
    ]


def small_rows(device: str, scale: Scale) -> list[Row]:
    """Small convolutional nets that train together: environment steps a second, half kept."""
    task, counts, size = scale.small
    rows = []
    for replicas in counts:
        settings = {"task": task, "budget": 1.0, "epochs": 100_000, "device": device}
        env = DynPruneVectorEnv(replicas, "Disabled", train_size=size, **settings)
        env.reset(seed=0)
        kept = np.stack([masks(size, 0.5)] * replicas)
        env.step(kept)
        step = {"step": partial(env.step, kept)}
        seconds = take_turns(step, scale.rounds, wall_clock_of(device))["step"]
        name = f"{env.settings.resolved.model}, n = {size:,}, R = {replicas}, half kept"
        rows.append(_rate(name, seconds, replicas))
    return rows


def convolutions_row(device: str, scale: Scale) -> Row:
    """What the convolutions of an epoch take by themselves, over the roofline: the least there is.

    Of whole batches at bf16; the last images of an epoch, too few for one, count in proportion.
    """
    env = make_env(scale.task, scale.images, device=device)
    trainer, size = env.vector.trainer, env.settings.recipe.batch_size
    x = torch.randn(size, *env.settings.resolved.info.input_shape, device=device)
    epoch = convolution_seconds(trainer.learner.module(0), x) * scale.images / size
    ideal = roofline(device, scale.images)
    ratio = epoch / (ideal or np.nan)
    what = f"{env.settings.resolved.model}, bf16: its convolutions alone / roofline"
    return Row(what, f"{epoch:.4g} s", f"{ideal:.4g} s" if ideal else "unknown", *[ratio] * 3)


def recorded_row(device: str, scale: Scale) -> Row:
    """Steps whose kernels the host launches one by one, over those replayed from a graph."""
    env = make_env(scale.task, scale.images, device=device)
    mask = np.ones(scale.images, dtype=bool)
    step, clock = {"step": partial(env.step, mask)}, wall_clock_of(device)
    env.step(mask)
    seconds = take_turns(step, scale.rounds, clock)["step"]
    with unrecorded():
        env.reset(seed=0)
        env.step(mask)
        plain = take_turns(step, scale.rounds, clock)["step"]
    return compare(f"{env.settings.resolved.model}: plain step / recorded step", plain, seconds)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Inside, no gradient step is recorded."""
    before = step_graphs.WARM_UP
    step_graphs.WARM_UP = 1 << 60
    try:
        yield
    finally:
        step_graphs.WARM_UP = before


def stack_rows(device: str, scale: Scale) -> list[Row]:
    """Small nets stacked: environment steps a second, half kept."""
    rows = []
    for replicas in scale.replicas:
        settings = {"task": "Digits", "budget": 1.0, "epochs": 100_000, "device": device}
        env = DynPruneVectorEnv(replicas, "Disabled", learner="stacked", **settings)
        env.reset(seed=0)
        kept = np.random.default_rng(0).random((replicas, env.settings.num_samples)) < 0.5
        step = {"step": partial(env.step, kept)}
        seconds = take_turns(step, scale.rounds, wall_clock_of(device))["step"]
        name = f"Digits, R = {replicas:,}, half kept, stacked"
        rows.append(_rate(name, seconds, replicas))
    return rows


def _over(what: str, ours: float, other: float) -> Row:
    ratio = ours / other
    return Row(what, f"{ours:.4g} s", f"{other:.4g} s", ratio, ratio, ratio)


def _rate(name: str, seconds: np.ndarray, replicas: int) -> Row:
    rates = replicas / seconds
    found = (float(each) for each in (np.median(rates), rates.min(), rates.max()))
    return Row(f"{name}: environment steps a second", f"{np.median(seconds):.4g} s", "", *found)
