"""The table behind an index of results: a line per run, as arrays in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import msgspec
import numpy as np

from dynprune_env import __version__
from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.results import SCHEMA, Result, RunConfig
from dynprune_env.common.files import atomic_write

FORMAT = 1
CURVES = ("spent", "val_accuracy", "drift", "corrupted", "duplicates")
"""The columns of a history that an index keeps."""
COUNTS = ("num_samples", "epochs", "visits", "scored", "diverged", "threads")
MEASURES = ("test_loss", "test_accuracy", "preparation", "saved")
ARRAYS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "names": (np.bytes_, ()),
    "stamps": (np.int64, (3,)),
    "counts": (np.int64, (1 + len(COUNTS),)),
    "measures": (np.float64, (1 + len(MEASURES),)),
    "kinds": (np.int64, (7,)),
    "lengths": (np.int64, ()),
}
"""Of each array the type, and the shape of one run's line: its file, that file's `Stamp`, its seed
and COUNTS, MEASURES and its seconds, its places in the lists of `Shared`, the epochs it played."""

Stamp = tuple[int, int, int]
"""Size in bytes, and when a file was written and last touched in any way, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """What a report needs of a finished run; the attributes are those of `Result`.

    `history` has the columns CURVES alone, `seconds` the total alone; `selections` are read from
    the result's file when they are asked for.
    """

    config: RunConfig
    num_samples: int
    epochs: int
    test_loss: float
    test_accuracy: float
    visits: int
    scored: int
    preparation: float
    saved: float
    seconds: dict[str, float]
    diverged: bool
    device: str
    threads: int
    versions: dict[str, str]
    commit: str | None
    machine: str | None
    fingerprint: Fingerprint | None
    path: Path
    _curves: Curves = field(repr=False, compare=False)
    _epochs: slice = field(repr=False, compare=False)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """The columns CURVES, (epochs played,) float64 each."""
        return dict(zip(CURVES, self._curves.all[self._epochs].T, strict=True))

    @property
    def selections(self) -> str:
        """See `Result`.

        Raises:
            ValueError: the file is no result any more.
            OSError: it cannot be read.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Selections).selections
        except msgspec.MsgspecError as error:
            raise ValueError(f"{self.path} is not a dynprune result file: {error}") from error


FinishedRun = Result | IndexedRun
"""What a report is made of."""


class _Selections(msgspec.Struct):
    selections: str


@dataclass
class Shared:
    """What many results have in common, each once; lines of `kinds` are places in these lists."""

    made_by: tuple[int, int, str] = (FORMAT, SCHEMA, __version__)
    settings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    agent: list[str] = field(default_factory=list)
    device: list[str] = field(default_factory=list)
    versions: list[dict[str, str]] = field(default_factory=list)
    commit: list[str] = field(default_factory=list)
    machine: list[str] = field(default_factory=list)
    fingerprint: list[Fingerprint] = field(default_factory=list)

    def lists(self) -> list[list[Any]]:
        """In the order of the columns of `kinds`."""
        return [getattr(self, each.name) for each in fields(self)[1:]]


class Curves:
    """The histories of all runs, (epochs of all, len(CURVES)), read at their first use."""

    def __init__(self, read: Callable[[], np.ndarray]):
        self._read = read

    @cached_property
    def all(self) -> np.ndarray:
        """Float64."""
        return self._read()


@dataclass
class Table:
    """The lines of an index, as they lie in its file."""

    shared: Shared
    arrays: dict[str, np.ndarray]
    curves: Curves

    def places(self) -> dict[str, int]:
        """The line of each file by its name."""
        return {name.decode(): line for line, name in enumerate(self.arrays["names"].tolist())}

    def check(self) -> None:
        """Checks that the parts fit one another.

        Raises:
            ValueError: they do not.
        """
        names, kinds = self.arrays["names"], self.arrays["kinds"]
        for name, (dtype, shape) in ARRAYS.items():
            found = self.arrays[name]
            if not np.issubdtype(found.dtype, dtype) or found.shape != (len(names), *shape):
                raise ValueError(f"{name} are {found.dtype} {found.shape}")
        for places, values in zip(kinds.T, self.shared.lists(), strict=True):
            if len(places) and not -1 <= places.min() <= places.max() < len(values):
                raise ValueError("a place beyond the end of a list")
        if (kinds[:, :4] < 0).any() or (self.arrays["lengths"] < 0).any():
            raise ValueError("something is missing")

    def runs(self, folder: Path) -> dict[str, IndexedRun]:
        """All runs by the names of their files."""
        lists = self.shared.lists()
        columns = [self.arrays[name].tolist() for name in ARRAYS]
        ends = np.cumsum(self.arrays["lengths"]).tolist()
        found = {}
        for end, (name, _, counts, measures, kinds, length) in zip(
            ends, zip(*columns, strict=True), strict=True
        ):
            values: Iterator[Any] = (
                each[place] if place >= 0 else None
                for each, place in zip(lists, kinds, strict=True)
            )
            setting, agent, device, versions, commit, machine, made_by = values
            env, env_kwargs = setting
            seed, num_samples, epochs, visits, scored, diverged, threads = counts
            loss, accuracy, preparation, saved, seconds = measures
            found[name.decode()] = IndexedRun(
                config=RunConfig(env, env_kwargs, agent, seed),
                num_samples=num_samples,
                epochs=epochs,
                test_loss=loss,
                test_accuracy=accuracy,
                visits=visits,
                scored=scored,
                preparation=preparation,
                saved=saved,
                seconds={"total": seconds},
                diverged=bool(diverged),
                device=device,
                threads=threads,
                versions=versions,
                commit=commit,
                machine=machine,
                fingerprint=made_by,
                path=folder / name.decode(),
                _curves=self.curves,
                _epochs=slice(end - length, end),
            )
        return found


def empty_table() -> Table:
    """A table without lines."""
    arrays = {name: np.empty((0, *shape), dtype) for name, (dtype, shape) in ARRAYS.items()}
    return Table(Shared(), arrays, Curves(lambda: np.empty((0, len(CURVES)))))


def read_table(path: Path) -> Table:
    """The index in a file; an empty one where there is none that can be used."""
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise BadZipFile("a sum does not fit")
        file = np.load(path, allow_pickle=False)
        shared = msgspec.json.decode(file["shared"].tobytes(), type=Shared)
        table = Table(shared, {name: file[name] for name in ARRAYS}, Curves(lambda: file["curves"]))
        if shared.made_by != Shared().made_by:
            raise ValueError("it is of another version")
        table.check()
        with file.zip.open("curves.npy") as curves:
            np.lib.format.read_magic(curves)
            shape, _, dtype = np.lib.format.read_array_header_1_0(curves)
        if shape != (table.arrays["lengths"].sum(), len(CURVES)) or dtype != np.float64:
            raise ValueError("its curves are not as long as its results")
    except Exception:  # a file that is no index can break its reader in any way
        return empty_table()
    return table


def write_table(table: Table, path: Path) -> None:
    """Writes an index, where that is possible."""
    shared = np.frombuffer(msgspec.json.encode(table.shared), dtype=np.uint8)
    arrays: dict[str, Any] = {**table.arrays, "shared": shared, "curves": table.curves.all}
    with suppress(OSError), atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
