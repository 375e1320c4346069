"""The README and the pages of the documentation, their snippets, and scripts run as users do."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
"""By name; those that are generated, from docstrings and results, have no snippets to run."""

_READY = multiprocessing.get_context("forkserver")
"""Starts processes that have imported already what takes seconds to import."""
_READY.set_forkserver_preload(["torch", "torchvision", "sklearn.datasets", "stable_baselines3"])


def text_of(page: str) -> str:
    """What a page says."""
    return PAGES[page].read_text(encoding="utf-8")


def snippets(page: str, language: str = "python") -> list[str]:
    """The blocks of a page in one language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    """What a script prints that runs in a folder, in a process of its own, without a warning.

    Args:
        arguments: as for the interpreter: a path or "-c" and code, then the script's own.
        folder: in which it runs.
    """
    printed, complained = folder.parent / "printed.txt", folder.parent / "complained.txt"
    process = _READY.Process(target=_play, args=(arguments, folder, printed, complained))
    process.start()
    process.join(240)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == 0, complained.read_text(encoding="utf-8")
    return printed.read_text(encoding="utf-8")


def _play(arguments: list[str], folder: Path, printed: Path, complained: Path) -> None:
    """In the process: what the interpreter does with such arguments."""
    for descriptor, path in ((1, printed), (2, complained)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(folder)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    named = arguments[0] != "-c"
    script, sys.argv = arguments[0 if named else 1], arguments if named else arguments[1:]
    if named:
        sys.path[0] = str(Path(script).resolve().parent)
        runpy.run_path(script, run_name="__main__")
    else:
        sys.path[0] = ""
        sys.argv[0] = "-c"
        exec(compile(script, "<string>", "exec"), {"__name__": "__main__"})
    sys.stdout.flush()
