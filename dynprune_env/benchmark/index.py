"""Results for a report: what it needs of each, through an index of the folder that stays fresh.

The JSON files stay the truth. The index says of each file how large it was and when it changed;
what is not as it says is read again, and an index that is lost, broken or of another version is
made anew.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dynprune_env.benchmark.results import Result
from dynprune_env.benchmark.tabulated import (
    ARRAYS,
    COUNTS,
    CURVES,
    MEASURES,
    Curves,
    FinishedRun,
    Stamp,
    Table,
    read_table,
    write_table,
)

NAME = ".index.npz"
WORTHWHILE = 100
"""Fewer results are read as fast without an index."""
SETTLED = 100_000_000
"""Nanoseconds, more than a file system's clock ticks: what changed later may change unnoticed."""


def whole(run: FinishedRun) -> Result:
    """All that is known of a run.

    Raises:
        ValueError: its file is no result any more.
        FileNotFoundError: it is gone.
    """
    return run if isinstance(run, Result) else Result.load(run.path)


class _Builder:
    """Collects lines: those of an older index that hold still, and those of files read now."""

    def __init__(self, old: Table):
        self._old, self._shared = old, old.shared
        self._places = [
            {msgspec.json.encode(value): place for place, value in enumerate(values)}
            for values in self._shared.lists()
        ]
        self._kept: list[int] = []
        self._lines: list[tuple[Any, ...]] = []
        self._curves = array("d")

    def keep(self, line: int) -> None:
        """Takes over a line of the older index."""
        self._kept.append(line)

    def add(self, name: str, stamp: Stamp, result: Result) -> None:
        """Adds what was read from a file.

        Raises:
            OverflowError: one of its counts has more than 63 bits.
            UnicodeError: one of its texts holds half a character.
        """
        config = result.config
        values = (
            (config.env, config.env_kwargs),
            config.agent,
            result.device,
            result.versions,
            result.commit,
            result.machine,
            result.fingerprint,
        )
        counts = (config.seed, *(int(getattr(result, each)) for each in COUNTS))
        array("q", counts)  # refuses what no column can hold
        measures = (*(getattr(result, each) for each in MEASURES), result.seconds["total"])
        curves = np.array([result.history[each] for each in CURVES], dtype=float).T
        kinds = tuple(map(self._place, range(len(values)), values))
        self._curves.frombytes(np.ascontiguousarray(curves).tobytes())
        self._lines.append((os.fsencode(name), stamp, counts, measures, kinds, len(curves)))

    def _place(self, kind: int, value: Any) -> int:
        """Where a shared value lies in the list of its kind; -1 for an unknown one."""
        if value is None:
            return -1
        values, places = self._shared.lists()[kind], self._places[kind]
        text = msgspec.json.encode(value)
        if text not in places:
            places[text] = len(values)
            values.append(value)
        return places[text]

    @property
    def changed(self) -> bool:
        """Whether the lines differ from the older index's."""
        return bool(self._lines) or len(self._kept) < len(self._old.arrays["names"])

    def table(self) -> Table:
        """The lines kept, then those added."""
        if not self.changed:
            return self._old
        old, kept = self._old, np.array(self._kept, dtype=np.intp)
        arrays = {}
        for column, (name, (dtype, shape)) in enumerate(ARRAYS.items()):
            new = np.array([line[column] for line in self._lines], dtype=dtype)
            arrays[name] = np.concatenate([old.arrays[name][kept], new.reshape(-1, *shape)])
        lengths = old.arrays["lengths"]
        held = np.zeros(len(lengths), dtype=bool)
        held[kept] = True
        rows = np.repeat(held, lengths)
        added = np.frombuffer(self._curves).reshape(-1, len(CURVES))
        curves = np.concatenate([old.curves.all[rows], added]) if rows.any() else added
        return Table(self._shared, arrays, Curves(lambda: curves))


def load_runs(
    folders: Iterable[Path],
    on_foreign: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[FinishedRun]:
    """Yields what `load_results` does, as far as a report needs it, and keeps the indices fresh.

    Args:
        folders: where to look.
        on_foreign: told of each JSON file that is not a result, which is then left out.
        on_note: told at the end how many runs are there twice with different numbers, if any.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a JSON file is not a result, and there is no `on_foreign`.
    """
    seen: dict[str, FinishedRun] = {}
    differ: set[str] = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        runs = _update(folder, on_foreign)
        for name in sorted(runs):
            key = runs[name].config.key
            if key not in seen:
                seen[key] = runs[name]
                yield runs[name]
            elif _numbers(seen[key]) != _numbers(runs[name]):
                differ.add(key)
    if differ and on_note is not None:
        count = "1 run is" if len(differ) == 1 else f"{len(differ):,} runs are"
        on_note(f"{count} there twice, with different numbers: those read first count")


def _numbers(run: FinishedRun) -> tuple[float, ...]:
    """What a table says of a run, without its seconds."""
    return (*(getattr(run, name) for name in MEASURES), run.visits, run.scored, run.diverged)


def _update(folder: Path, on_foreign: Callable[[str], None] | None) -> dict[str, FinishedRun]:
    """The runs in a folder by file name; what changed since its index was written is read anew."""
    old = read_table(folder / NAME)
    lines, stamps = old.places(), old.arrays["stamps"].tolist()
    builder = _Builder(old)
    scanned = time.time_ns()
    others: dict[str, FinishedRun] = {}
    for name in sorted(each for each in os.listdir(folder) if each.endswith(".json")):
        path = folder / name
        line, stamp = lines.get(name), _stamp(path)
        if line is not None and tuple(stamps[line]) == stamp:
            builder.keep(line)
            continue
        try:
            result = Result.load(path)
        except ValueError as error:
            if on_foreign is None:
                raise
            on_foreign(str(error))
            continue
        settled = stamp is not None and stamp[-1] < scanned - SETTLED
        try:
            builder.add(name, stamp if stamp and settled else (-1, -1, -1), result)
        except (OverflowError, UnicodeError):
            others[name] = result
    table = builder.table()
    if builder.changed and len(table.arrays["names"]) >= WORTHWHILE:
        write_table(table, folder / NAME)
    return {**table.runs(folder), **others}


def _stamp(path: Path) -> Stamp | None:
    """What tells whether a file is still the one that was read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
