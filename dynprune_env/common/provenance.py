"""Where a result comes from: versions, git commit, processor."""

from __future__ import annotations

import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "gymnasium",
    "stable-baselines3",
    "numba",
)


@cache
def versions() -> dict[str, str]:
    """Of Python, of this package and of the libraries that decide numbers."""
    from dynprune_env import __version__  # a source tree on sys.path has no metadata

    found = {"python": platform.python_version(), "dynprune": __version__}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # numba: does without
            found[name] = version(name)
    return found


@cache
def commit() -> str | None:
    """Git commit of this package's source checkout; None if it is not in one.

    A "+" behind it says that tracked files differed from the commit, where git is at hand to ask.
    """
    root = PACKAGE.parent
    found = _head(root)
    if found is None:
        return None
    try:
        asked = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
        done = subprocess.run(asked, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return found
    return f"{found}+" if done.stdout.strip() else found


def _text(path: Path) -> str:
    """A file's text; bytes that are none, as in a path, stay what they are."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _head(root: Path) -> str | None:
    """The commit that a checkout stands at, read from its files."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree points to its folder
            git = root / _text(git).removeprefix("gitdir:").strip()
        head = _text(git / "HEAD").strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git / "commondir"
        shared = git / _text(common).strip() if common.exists() else git
        if (shared / name).exists():
            return _text(shared / name).strip()
        packed = _text(shared / "packed-refs")
    except OSError:
        return None
    found = re.search(rf"^([0-9a-f]{{40,}}) {re.escape(name)}$", packed, re.MULTILINE)
    return found[1] if found else None


@cache
def machine() -> str:
    """The processor, e.g. "x86_64 AMD EPYC 9654": other ones may round differently."""
    try:
        text = _text(Path("/proc/cpuinfo"))
        name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
        model = name[1].strip() if name else ""
    except OSError:
        model = platform.processor()
    return f"{platform.machine()} {model}".strip()
