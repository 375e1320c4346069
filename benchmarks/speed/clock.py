"""Measuring side by side: the sides take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

Clock = Callable[[], float]


def cpu_clock() -> float:
    """CPU seconds of this process."""
    return time.process_time()


def wall_clock(device: str | torch.device | None = None) -> float:
    """Wall-clock seconds, after all work that is queued on a device.

    Args:
        device: any; None means the current one of CUDA, if there is one.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "xpu":
        torch.xpu.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def wall_clock_of(device: str) -> Clock:
    """The `wall_clock` of a device."""
    return partial(wall_clock, device)


def take_turns(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Clock
) -> dict[str, np.ndarray]:
    """Seconds of each side in each round, (rounds,); one round before them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            start = clock()
            side()
            if turn:
                seconds[name].append(clock() - start)
    return {name: np.array(taken) for name, taken in seconds.items()}


@dataclass(frozen=True)
class Row:
    """A line of the table: two medians, their ratio by round, and what it should be.

    Attributes:
        what: what is compared.
        ours: median of our side, with its unit.
        other: median of the other side.
        ratio: median over the rounds; `low` and `high` are the extremes.
        target: e.g. "<= 1.02", or "" for none.
    """

    what: str
    ours: str
    other: str
    ratio: float
    low: float
    high: float
    target: str = ""

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if not self.target:
            return ""
        sign, bound = self.target.split()
        met = self.ratio <= float(bound) if sign == "<=" else self.ratio >= float(bound)
        return "met" if met else "missed"


def compare(what: str, ours: np.ndarray, other: np.ndarray, target: str = "") -> Row:
    """Our seconds over the other side's; for a target ">= x" the other's over ours: a speed-up."""
    ratio = other / ours if target.startswith(">=") else ours / other
    return Row(
        what,
        f"{np.median(ours):.4g} s",
        f"{np.median(other):.4g} s",
        float(np.median(ratio)),
        float(ratio.min()),
        float(ratio.max()),
        target,
    )


def to_markdown(rows: list[Row]) -> str:
    """The table."""
    lines = [
        "| what | ours | other | ratio (lowest to highest round) | target | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        spread = f"{row.ratio:.3g} ({row.low:.3g} to {row.high:.3g})"
        cells = (row.what, row.ours, row.other, spread, row.target, row.verdict)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
