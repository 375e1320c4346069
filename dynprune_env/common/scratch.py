"""A temporary folder of this process that is swept up however the process ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path


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
