"""Keeps large CPU activations in the process instead of handing them back to the kernel."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to reuse the memory of large tensors; once per process.

    By default glibc maps every block above 32 MiB anew and gives it back when freed, so each batch
    of a convolutional net faults its activations in page by page. $DYNPRUNE_MALLOC=0 leaves glibc
    as it is, as do its own variables $MALLOC_MMAP_THRESHOLD_ and $MALLOC_TRIM_THRESHOLD_.

    Returns:
        Whether anything was set.
    """
    chosen = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    if os.environ.get("DYNPRUNE_MALLOC") == "0" or any(name in os.environ for name in chosen):
        return False
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
