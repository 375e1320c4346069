"""The committed runs, read from the `runs*.json` files that `benchmarks.compact_runs` writes.

Packed files (`.json.gz`) are read where their path is given, and are no part of the leaderboard.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from dynprune_agents.cli.options import parse_pairs
from dynprune_env.envs.settings import Settings, settings_of
from dynprune_env.tasks.models import is_mlp

RESULTS = Path(__file__).parent / "results"
CONTRIBUTED = "contributed"
"""The folder whose runs come last: where a run is there twice, the other one counts."""
LONG = 25
"""Runs of so many epochs or more are long ones."""
NEEDED = ("env", "variant", "agent", "budget", "seed", "accuracy", "saved")


@dataclass(frozen=True)
class Game:
    """What a run plays but for agent and seed: an environment, its variant, a budget."""

    env: str
    variant: str
    budget: float

    def __str__(self) -> str:
        name = self.env.removeprefix("DynPrune-").removesuffix("-v0")
        return f"{name}{f' ({self.variant})' if self.variant else ''} at {100 * self.budget:g} %"

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the environment, `budget` among them."""
        return {**parse_variant(self.variant), "budget": self.budget}

    @property
    def regimes(self) -> tuple[str, ...]:
        """The two that it belongs to: by corruption and length, and by net; none for raw weights.

        Raises:
            ValueError: the environment or an argument of it is not known.
        """
        return _regimes(self.env, self.variant)


@cache
def _regimes(env: str, variant: str) -> tuple[str, ...]:
    settings: Settings = settings_of(env, parse_variant(variant))
    if settings.weights == "raw":
        return ()
    corruption = settings.variant
    if corruption.imbalance < 1:
        kind = "imbalanced"
    elif corruption.duplicates > 0:
        kind = "duplicates"
    else:
        length = "long" if settings.recipe.epochs >= LONG else "short"
        kind = f"{length} {'noisy' if corruption.label_noise > 0 else 'clean'}"
    return kind, "MLP" if is_mlp(settings.resolved.model) else "other nets"


@dataclass(frozen=True)
class Run:
    """One committed run.

    Attributes:
        game: what was played.
        agent: the agent's spec.
        seed: of the run.
        accuracy: on the test split, in [0, 1].
        saved: true saved fraction of a full run.
        best_epoch_accuracy: at the epoch of best val accuracy; None if not recorded.
        selection: seconds a step of choosing; None if not recorded.
    """

    game: Game
    agent: str
    seed: int
    accuracy: float
    saved: float
    best_epoch_accuracy: float | None = None
    selection: float | None = None


def parse_variant(text: str) -> dict[str, Any]:
    """The keyword arguments in "key=value, ...", as `RunConfig.variant` writes them.

    Raises:
        ValueError: it is not of that form.
    """
    return parse_pairs(list(_parts(text)), "a variant")


def _parts(text: str) -> Iterator[str]:
    """What stands between commas outside of brackets."""
    depth, begin = 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            yield text[begin:place].strip()
            begin = place + 1
    if text:
        yield text[begin:].strip()


class _Rows(msgspec.Struct):
    """What every such file holds, besides what tells where its runs were made."""

    columns: list[str]
    rows: list[list[Any]]


def read_rows(
    path: Path, needed: Sequence[str] = NEEDED
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A file of `benchmarks.compact_runs`, packed or not: all of it, and its rows by column.

    Raises:
        ValueError: it is no such file, or lacks a column.
        FileNotFoundError: there is no such file.
    """
    written = path.read_bytes()
    try:
        content = json.loads(gzip.decompress(written) if path.suffix == ".gz" else written)
        table = msgspec.convert(content, _Rows)
        if lacking := set(needed) - set(table.columns):
            raise ValueError(f"it lacks the columns {', '.join(sorted(lacking))}")
        rows = [dict(zip(table.columns, values, strict=True)) for values in table.rows]
        if named := [row["env"] for row in rows if ":" in str(row.get("env"))]:
            # Whoever looks it up would import the module, and anybody may contribute a file.
            raise ValueError(f"its environments are ids without a module, got {named[0]!r}")
    except (ValueError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no file of benchmarks.compact_runs: {error}") from error
    return content, rows


def read_runs(folder: Path = RESULTS) -> list[Run]:
    """All runs in the files `runs*.json` below a folder, each once.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: a file is not as `benchmarks.compact_runs` writes them, or there are no runs.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found: dict[tuple[Game, str, int], Run] = {}
    paths = sorted(folder.rglob("runs*.json"), key=lambda path: (CONTRIBUTED in path.parts, path))
    for path in paths:
        for row in read_rows(path)[1]:
            game = Game(row["env"], row["variant"], row["budget"])
            best, selection = row.get("best_epoch_accuracy"), row.get("selection")
            run = Run(
                game, row["agent"], row["seed"], row["accuracy"], row["saved"], best, selection
            )
            found.setdefault((game, run.agent, run.seed), run)
    if not found:
        raise ValueError(f"there are no runs in files runs*.json below {folder}")
    return list(found.values())
