"""Measures everything side by side in one run, and writes one table.

python -m benchmarks.speed                                   # a quarter of an hour on one core
python -m benchmarks.speed --parts selection --samples 50000 # or some of it, printed alone
python -m benchmarks.speed --parts gpu                       # all that is to be known of a GPU
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.speed import (
    command,
    floor,
    footprint,
    gpu,
    growth,
    profile,
    selection,
    steps,
    training,
    vector,
)
from benchmarks.speed.clock import Row, cpu_clock, to_markdown, wall_clock_of
from dynprune_env.common.files import write_text

RESULTS = Path("benchmarks/results")
PARTS = (
    *("steps", "today", "vector", "floor", "train", "command", "gpu"),
    *("selection", "footprint", "growth", "profile"),
)


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()


@dataclass(frozen=True)
class Sizes:
    """Replicas of the vector environment, samples of a selection, and how much on a GPU."""

    replicas: tuple[int, ...]
    samples: tuple[int, ...]
    gpu: gpu.Scale


def place(part: str, device: str | None) -> str:
    """Where a part is measured: there where it is said, else gpu on CUDA if it is there."""
    if device is not None:
        return device
    return "cuda" if part == "gpu" and torch.cuda.is_available() else "cpu"


def measure(part: str, rounds: float, sizes: Sizes, device: str | None) -> list[Row] | str:
    """Rows of the table, or a text of its own; see `place` for the device."""

    def times(count: int) -> int:
        return max(2, round(rounds * count))

    where = place(part, device)
    clock = cpu_clock if where == "cpu" else wall_clock_of(where)
    torch.set_num_threads(1)

    def step_rows() -> list[Row]:
        timed = [replace(each, rounds=times(each.rounds)) for each in steps.STEPS]
        return [row for each in timed for row in steps.step_rows(each, clock, device=where)]

    def vector_rows() -> list[Row]:
        rows = vector.vector_rows(sizes.replicas, times(10))
        return rows + vector.process_rows(8, times(20)) + vector.rate_rows(times(20))

    measured: dict[str, Callable[[], list[Row] | str]] = {
        "steps": step_rows,
        "today": lambda: steps.today_rows(5_000, times(3), clock),
        "vector": vector_rows,
        "floor": lambda: floor.floor_rows(times(20)),
        "train": lambda: training.training_rows(times(30)),
        "command": lambda: command.command_rows(times(3)),
        "gpu": lambda: gpu.gpu_rows(where, replace(sizes.gpu, rounds=times(sizes.gpu.rounds))),
        "selection": lambda: selection.selection_table(sizes.samples),
        "profile": profile.profile_text,
        "footprint": lambda: footprint.footprint_text(selection.statistics_bytes()),
    }
    return measured[part]()


def main(
    parts: Annotated[list[str] | None, typer.Option("--parts", help="Repeatable. [all]")] = None,
    rounds: Annotated[float, typer.Option("--rounds", help="Multiplies all rounds.")] = 1.0,
    replicas: Annotated[list[int] | None, typer.Option("--replicas")] = None,
    samples: Annotated[list[int] | None, typer.Option("--samples")] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Of steps [cpu]; of gpu [cuda, or cpu].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="gpu: only to see it run.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="[speed.md of all parts, speed_gpu.md of gpu, else none]")
    ] = None,
) -> None:
    """Prints the table, and writes it."""
    at_hand = [part for part in PARTS if torch.cuda.is_available() or part != "gpu"]
    for part in parts or []:
        if part not in PARTS:
            raise typer.BadParameter(f"no part is called {part!r}; there are {', '.join(PARTS)}")
    sizes = Sizes(
        tuple(replicas or (8, 32, 64, 256)),
        tuple(samples or (50_000, 1_280_000, 10_000_000)),
        gpu.DRY if dry_run else gpu.Scale(),
    )
    if out is None and (not parts or parts == ["gpu"]):
        out = RESULTS / ("speed_gpu.md" if parts else "speed.md")
    rows: list[Row] = []
    pieces: list[str] = []
    for part in parts or at_hand:
        if part == "growth":
            folder = out.parent if out else Path("results")
            pieces.append(growth.growth_text(folder / "speed_growth.png"))
            continue
        found = measure(part, rounds, sizes, device)
        if isinstance(found, str):
            pieces.append(found)
        else:
            rows += found
    where = f"{processor()}; torch {torch.__version__}, Python {platform.python_version()}"
    if torch.cuda.is_available():
        where += f"; {torch.cuda.get_device_name()}"
    head = (
        "Medians of interleaved rounds, CPU seconds of one thread (wall clock where processes or "
        f"threads are compared, or on CUDA). {where}.\n\n"
        f"    python -m benchmarks.speed{''.join(f' --parts {part}' for part in parts or [])}"
    )
    text = "\n\n".join([head, *([to_markdown(rows)] if rows else []), *pieces]) + "\n"
    if out:
        write_text(out, text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
