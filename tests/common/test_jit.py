"""Machine code on disk is that of the sources: also where these are in other files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.slow import slow

pytest.importorskip("numba")

INNER = """
from dynprune_env.common.jit import jit
SHIFT = {shift}

@jit
def inner(x):
    return x + {plus}
"""
MIDDLE = """
from dynprune_env.common.jit import jit
from inner import inner

@jit
def middle(x):
    return 2 * inner(x)
"""
WAYS = {
    "a function": ("from inner import inner", "inner(x)"),
    "a function of a function": ("from middle import middle", "middle(x)"),
    "a function by its module": ("import inner", "inner.inner(x)"),
    "a constant": ("from inner import SHIFT", "x + SHIFT"),
    "a constant by its module": ("import inner", "x + inner.SHIFT"),
}
OUTER = """
import numpy as np
from dynprune_env.common.jit import jit
{takes}

@jit
def outer(x):
    return np.float64(10) * ({calls})

print(outer(1), sum(outer.stats.cache_hits.values()))
"""


def run(folder: Path) -> tuple[float, int]:
    """What outer(1) is in a new process, and whether its code was on disk."""
    paths = [str(folder), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment["NUMBA_CACHE_DIR"] = str(folder / "kept")
    command = [sys.executable, "-c", "import outer"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    value, hits = done.stdout.split()
    return float(value), int(hits)


@pytest.mark.parametrize(
    "way", ["a function", *slow(*(way for way in WAYS if way != "a function"))]
)
def test_what_is_taken_from_another_file_is_taken_as_it_is_now(way: str, tmp_path: Path) -> None:
    takes, calls = WAYS[way]
    (tmp_path / "inner.py").write_text(INNER.format(shift=1, plus=1))
    (tmp_path / "middle.py").write_text(MIDDLE)
    (tmp_path / "outer.py").write_text(OUTER.format(takes=takes, calls=calls))
    first, hits = run(tmp_path)
    assert hits == 0
    assert run(tmp_path) == (first, 1)
    files = sorted(path.name for path in (tmp_path / "kept").rglob("*"))
    (tmp_path / "inner.py").write_text(INNER.format(shift=5, plus=5))
    assert run(tmp_path) == (3 * first, 0)
    assert sorted(path.name for path in (tmp_path / "kept").rglob("*")) == files
    assert run(tmp_path) == (3 * first, 1)


def test_the_training_kernels_are_stamped_with_those_that_they_take_in() -> None:
    from dynprune_env.common import jit
    from dynprune_env.selection.kernels import fill_sample_values, put_values
    from dynprune_env.training.kernels import evaluate_rows, loss_slope, train_passes

    for outer, inner in [
        (loss_slope, put_values),
        (fill_sample_values, put_values),
        (train_passes, loss_slope),
        (evaluate_rows, fill_sample_values),
    ]:
        assert inner in jit._taken(outer.py_func)
        assert outer._cache._cache_file._source_stamp[1] == jit._stamps[outer]
