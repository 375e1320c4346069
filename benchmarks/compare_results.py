"""Do two versions of the code give the same runs? Two folders of results, field by field.

Everything must be equal bit for bit but what says when, where and with what a run was made: its
seconds, versions, commit, machine, fingerprint and the schema of its file.

    python -m benchmarks.compare_results results/before results/after
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.script import run_script
from dynprune_env.benchmark.results import Result

FREE = ("seconds", "versions", "commit", "machine", "fingerprint")
"""Fields that may differ, at the top and in the history."""


def read_folder(folder: Path) -> dict[str, Result]:
    """The results below a folder by sub-folder and key; other JSON files are left out.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            result = Result.load(path)
        except ValueError:  # a record of a failed run, or something else
            continue
        found[str(path.parent.relative_to(folder) / result.config.key)] = result
    return found


def differences(before: Any, after: Any, name: str = "") -> Iterator[str]:
    """Where two trees of dicts and lists differ: "history.val_loss[3]: 0.5 -> 0.25", in order."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{name}.{key}" if name else str(key)
            if key in FREE:
                continue
            if key not in before or key not in after:
                yield f"{inner}: only {'after' if key in after else 'before'}"
            else:
                yield from differences(before[key], after[key], inner)
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        for place, pair in enumerate(zip(before, after, strict=False)):
            yield from differences(*pair, f"{name}[{place}]")
        if len(before) != len(after):
            yield f"{name}: {len(before)} entries -> {len(after)}"
    elif repr(before) != repr(after):  # 0.0 == -0.0, but these are other bits
        yield f"{name}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def compare(before: Path, after: Path) -> tuple[list[str], bool]:
    """The lines of the comparison, and whether both hold the same runs, at least one.

    Raises:
        FileNotFoundError: a folder does not exist.
    """
    old, new = read_folder(before), read_folder(after)
    both = [key for key in old if key in new]
    first = {key: next(differences(asdict(old[key]), asdict(new[key])), None) for key in both}
    lines = [
        f"{_label(key, old[key])}: {difference}" for key, difference in first.items() if difference
    ]
    equal = len(both) - len(lines)
    for place, found, other in ((before, old, new), (after, new, old)):
        lines += [
            f"{_label(key, result)}: only in {place}"
            for key, result in found.items()
            if key not in other
        ]
    lines.append(f"{len(both):,} runs in both, {equal:,} equal, {len(both) - equal:,} different")
    lines[-1] += f"; {len(old) - len(both):,} only before, {len(new) - len(both):,} only after"
    return lines, 0 < equal == len(old) == len(new)


def _label(key: str, result: Result) -> str:
    config = result.config
    variant = f", {config.variant}" if config.variant else ""
    return f"{key} ({config.env}, {config.agent}, budget {config.budget:g}{variant}, {config.seed})"


def main(before: Path, after: Path) -> None:
    """Prints what differs or is missing; exit code 1 if anything does, or nothing was found."""
    lines, same = compare(before, after)
    print("\n".join(lines))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    run_script(main)
