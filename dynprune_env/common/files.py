"""Files: written so that no reader sees half of one, found where they travelled to, swept up."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
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


@cache
def scratch_folder() -> Path:
    """A folder for as long as this process lives; those of killed processes are removed first.

    A process holds a lock on its folder, which ends with it however it ends.
    """
    import fcntl  # not on Windows, where nothing needs this

    places, ending = Path(tempfile.gettempdir()), ".dynprune-scratch"
    for old in places.glob(f"*{ending}"):
        with suppress(OSError):  # it lives, or is another user's
            lock = os.open(old / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(lock)
    new = Path(tempfile.mkdtemp(prefix="dynprune-"))
    lock = os.open(new / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found = new.rename(new.with_name(f"{new.name}{ending}"))  # now others may look at the lock
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found
