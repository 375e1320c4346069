"""A policy's file: arrays and a JSON head in an .npz, which nobody has to trust to read it."""

from __future__ import annotations

import math
import re
import reprlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dynprune_env.common.files import atomic_write

LIMIT = 1 << 27
"""Bytes that a policy may take, packed or unpacked; more is refused before any is read."""

HEAD_LIMIT = 1 << 22
LARGEST = 1e6
"""Of a weight; networks with larger ones do not stay finite."""

Shape = tuple[int, ...]

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    r"\{'descr': '<(f4|f8|U\d{1,9})', 'fortran_order': (False|True), "
    r"'shape': \(((?:\d{1,12}, ?){0,8}(?:\d{1,12},?)?)\), \} *\n"
)


@dataclass(frozen=True)
class _Member:
    """One array as its header describes it."""

    kind: str
    shape: Shape
    fortran: bool
    start: int


class Archive:
    """An open file: its head, and what its arrays say they are, before any of them is read.

    Attributes:
        head: the JSON text.
        shapes: of the arrays, by name.
    """

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise ValueError("a member is there twice")
        if "head.npy" not in names:
            raise ValueError("it has no head")
        if {member.compress_type for member in archive.infolist()} - {
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        }:
            raise ValueError("it is packed in a way that numpy does not write")
        if sum(member.file_size for member in archive.infolist()) > LIMIT:
            raise ValueError(f"unpacked it has more than {LIMIT >> 20} MB")
        self._members = {name.removesuffix(".npy"): self._described(name) for name in names}
        self.head = self._text(self._members.pop("head"))
        if texts := [name for name, member in self._members.items() if member.kind[0] == "U"]:
            raise ValueError(f"{texts[0]} holds no numbers")
        self.shapes = {name: member.shape for name, member in self._members.items()}

    @property
    def size(self) -> int:
        """Numbers in all arrays."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def _described(self, name: str) -> _Member:
        """The header of a member, checked against the member's size."""
        with self._archive.open(name) as file:
            start = file.read(10)
            length = int.from_bytes(start[8:], "little")
            header = _HEADER.fullmatch(file.read(length).decode("latin-1"))
        if not name.endswith(".npy") or start[:8] != _MAGIC or header is None:
            raise ValueError(f"{reprlib.repr(name)} is not an array of numbers")
        kind, fortran, sizes = header.groups()
        shape = tuple(int(size) for size in re.findall(r"\d+", sizes))
        width = 4 * int(kind[1:]) if kind[0] == "U" else int(kind[1:])
        if 10 + length + width * math.prod(shape) != self._archive.getinfo(name).file_size:
            raise ValueError(f"{reprlib.repr(name)} is not as large as its shape {shape}")
        return _Member(kind, shape, fortran == "True", 10 + length)

    def _text(self, member: _Member) -> str:
        if member.kind[0] != "U" or member.shape:
            raise ValueError("its head is no text")
        if self._archive.getinfo("head.npy").file_size > HEAD_LIMIT:
            raise ValueError(f"its head has more than {HEAD_LIMIT >> 20} MB")
        return self._archive.read("head.npy")[member.start :].decode("utf-32-le").rstrip("\0")

    def check_shapes(self, expected: Mapping[str, Shape]) -> None:
        """Checks the arrays that are there.

        Raises:
            ValueError: one is missing, too many, or of another shape than expected.
        """
        for name in sorted({*expected, *self.shapes}):
            if name not in self.shapes:
                raise ValueError(f"it has no array {name}")
            if name not in expected:
                raise ValueError(f"it has an array {reprlib.repr(name)} that is not one of it")
            if self.shapes[name] != expected[name]:
                wanted = reprlib.repr(expected[name])
                raise ValueError(f"{name} is of shape {wanted}, got {self.shapes[name]}")

    def array(self, name: str) -> np.ndarray:
        """Reads an array as float32.

        Raises:
            ValueError: a number is not finite, or larger than LARGEST.
        """
        member = self._members[name]
        found = np.frombuffer(
            self._archive.read(f"{name}.npy"), f"<{member.kind}", -1, member.start
        )
        with np.errstate(invalid="ignore"):
            fine = bool((np.abs(found) <= LARGEST).all())
        if not fine:
            raise ValueError(f"{name} holds a number that is not finite, or beyond {LARGEST:g}")
        order: Any = "F" if member.fortran else "C"
        return found.astype(np.float32).reshape(member.shape, order=order)


BROKEN: tuple[type[Exception], ...] = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError, KeyError, ValueError, OverflowError),
)
"""What zipfile raises at files that are broken, encrypted or oddly packed."""


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Opens a policy's file.

    Raises:
        ValueError: it is broken, within the block too; the message says only what is wrong.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError(f"it has more than {LIMIT >> 20} MB")
        with zipfile.ZipFile(path) as archive:
            yield Archive(archive)
    except BROKEN as error:
        raise ValueError(str(error) or type(error).__name__) from error


def member_names(path: Path) -> set[str]:
    """The names in a zip file; none if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except BROKEN:
        return set()


def write_archive(path: Path, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz of plain arrays, whatever the path's ending."""
    text = msgspec.json.encode(head).decode()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        kept: dict[str, Any] = {"head": np.array(text), **arrays}
        np.savez_compressed(file, **kept)


def decoded(text: str, kind: Any) -> Any:
    """A head of that `msgspec` type.

    Raises:
        ValueError: it is no JSON, or of another form.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as error:
        raise ValueError("its head is nested too deeply") from error
