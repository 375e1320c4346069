"""What the command shows in the terminal: progress, and one-line complaints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:  # what plays is loaded by the commands that play
    from dynprune_env.benchmark.episodes import RunGroup
    from dynprune_env.benchmark.runner import Outcome

console = Console()


def complain(text: str) -> None:
    """One line on the standard error, whatever brackets the text holds."""
    line = Text(" ".join(text.split()), style="red")
    Console(stderr=True).print(line, soft_wrap=True)


def progress_of(unit: str) -> Progress:
    """A bar in percent of some unit."""
    counts = TextColumn("{task.percentage:>3.0f} % of " + unit)
    columns = (TextColumn("{task.description}"), BarColumn(), counts)
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


class _TimeLeft(ProgressColumn):
    """From the visits done since the first run began: runs differ too much to count them."""

    def render(self, task: Task) -> Text:
        began = task.fields["began"]
        if began is None or not task.completed or not task.total:
            return Text("-:--:-- left", style="progress.remaining")
        left = (time.monotonic() - began) * (task.total / task.completed - 1)
        return Text(f"{timedelta(seconds=round(left))} left", style="progress.remaining")


class SweepProgress(Progress):
    """Runs done, running and failed, and the time left."""

    def __init__(self, groups: Sequence[RunGroup]):
        from dynprune_env.benchmark.sweeps import cost

        counts = TextColumn("{task.percentage:>3.0f} % · {task.description}")
        super().__init__(BarColumn(14), counts, _TimeLeft(), console=console)
        self._total, self._done, self._failed = sum(len(group.seeds) for group in groups), 0, 0
        self._running: dict[str, int] = {}
        self._bar = self.add_task("", total=sum(map(cost, groups)), began=None)
        self._cost = cost
        self._show()

    def start_group(self, group: RunGroup) -> None:
        """A group began."""
        if self.tasks[0].fields["began"] is None:
            self.update(self._bar, began=time.monotonic())
        self._running[group.key] = len(group.seeds)
        self._show()

    def end_group(self, outcome: Outcome) -> None:
        """A group ended, or was finished before."""
        played = self._running.pop(outcome.group.key, None) is not None
        if outcome.error:
            self._failed += outcome.runs
        else:
            self._done += outcome.runs
        visits = self._cost(outcome.group)
        if played:
            self.advance(self._bar, visits)
        else:  # nothing was left to do for it
            self.update(self._bar, total=(self.tasks[0].total or 0) - visits)
        self._show()

    def _show(self) -> None:
        running = sum(self._running.values())
        text = f"{self._done} of {self._total} done, {running} running, {self._failed} failed"
        self.update(self._bar, description=text)
