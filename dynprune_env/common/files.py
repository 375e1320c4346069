"""Writing files so that no reader sees a half-written one; finding those that have travelled."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, and renames it to `path` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_stand_ins: dict[str, Path] = {}


def stand_in_for(path: str | Path, copy: Path) -> None:
    """Makes `stand_in` give `copy` for `path`, in this process from now on."""
    _stand_ins[str(Path(path))] = copy


def stand_in(path: str | Path) -> Path:
    """The copy of a file that came along from another machine, under the path that it has there.

    Any other path is given back as it is.
    """
    return _stand_ins.get(str(Path(path)), Path(path))
