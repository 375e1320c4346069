"""On CUDA: ResNet-18 against the counted roofline, plain and compiled; host waits per step."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from benchmarks.speed.clock import Row, take_turns, wall_clock
from benchmarks.speed.tasks import make_env

FLOP_PER_IMAGE = 3.33e9
"""Of a training pass of ResNet-18 with the CIFAR stem: counted, forward and backward."""

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second, from the vendor's data sheets."""


def roofline(images: int) -> float | None:
    """Seconds of an epoch at the device's peak; None for an unknown device."""
    name = torch.cuda.get_device_name()
    peak = next((peak for key, peak in PEAK.items() if key in name), None)
    return None if peak is None else images * FLOP_PER_IMAGE / peak


def epoch_rows(size: int, rounds: int) -> list[Row]:
    """Epochs over the roofline: fp32, bf16, and bf16 compiled; then an episode after the first."""
    mask, rows = np.ones(size, dtype=bool), []
    for name, settings in {
        "fp32": {"precision": "fp32"},
        "bf16": {"precision": "bf16"},
        "bf16, compiled": {"precision": "bf16", "compile": True},
    }.items():
        env = make_env("CIFAR10", size, device="cuda", **settings)
        seconds = take_turns({"step": lambda env=env: env.step(mask)}, rounds, wall_clock)["step"]
        ideal = roofline(size)
        ratio = seconds / ideal if ideal else np.full(len(seconds), np.nan)
        rows.append(
            Row(
                f"ResNet-18, n = {size:,}, {name}: step / roofline",
                f"{np.median(seconds):.4g} s",
                f"{ideal:.4g} s" if ideal else "unknown",
                float(np.median(ratio)),
                float(ratio.min()),
                float(ratio.max()),
                "<= 2",
            )
        )
        env.reset(seed=1)  # the first step of a second episode: nothing is compiled again
        start = wall_clock()
        env.step(mask)
        again = wall_clock() - start
        rows.append(
            Row(
                f"ResNet-18, {name}: first step of the second episode / later steps",
                f"{again:.4g} s",
                f"{np.median(seconds):.4g} s",
                *[float(again / np.median(seconds))] * 3,
            )
        )
    return rows


def waits(size: int) -> int:
    """How often the host waits for the device in one step."""
    env = make_env("CIFAR10", size, device="cuda")
    mask = np.ones(size, dtype=bool)
    env.step(mask)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            env.step(mask)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in seen)
