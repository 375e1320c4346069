"""What the command shows: progress, and one-line complaints, on whatever reads them."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, RenderableType
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

from dynprune_env.common.spelling import SPELLED, spelled

if TYPE_CHECKING:  # what plays is loaded by the commands that play
    from dynprune_env.benchmark.episodes import RunGroup
    from dynprune_env.benchmark.runner import Outcome


class _Output(io.TextIOBase):
    """Standard output or error, as it is at the time: the work goes on whatever becomes of it.

    Args:
        name: "stdout" or "stderr".
    """

    def __init__(self, name: str):
        self._name = name

    @property
    def _stream(self) -> Any:
        """The one beneath the one that a progress bar puts in its place; None if it is closed."""
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What decides which characters can be shown."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self._stream is not None and bool(self._stream.isatty())

    def write(self, text: str) -> int:
        """Writes it, spelled in what can be shown."""
        if self._stream is not None:
            try:
                self._stream.write(spelled(text, self.encoding))
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Writes what was held back."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Nobody reads on, or there is no room: from now on it goes nowhere."""
        with suppress(OSError, ValueError):  # no file of the system, as in tests
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if self._name == "stdout" and not isinstance(error, BrokenPipeError):
            complain(f"what follows cannot be shown: {error}")


console = Console(file=cast(IO[str], _Output("stdout")))
_errors = Console(file=cast(IO[str], _Output("stderr")))


def spell_output() -> None:
    """Makes the standard output and error take any text, also what typer writes to them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELLED)


def complain(text: str) -> None:
    """One line on the standard error, whatever brackets the text holds."""
    line = Text(" ".join(text.split()), style="red")
    _errors.print(line, soft_wrap=True)


def say(text: str) -> None:
    """A line or more on the standard output, verbatim: no line is broken to fit a width."""
    console.print(Text(text), soft_wrap=True)


def watched() -> bool:
    """Whether somebody sees a bar; if not, lines say how far it is."""
    return console.is_terminal


class _Doing(ProgressColumn):
    """What is done now, and how far that is, where something says so."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("doing", ""), "dim")


def progress_of(unit: str) -> Progress:
    """A bar in percent of some unit, where it can be seen."""
    counts = TextColumn("{task.percentage:>3.0f} % of " + unit)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), counts)
    times = TimeElapsedColumn(), TimeRemainingColumn(), _Doing()
    return Progress(*columns, *times, console=console, disable=not watched())


def name_of(group: RunGroup) -> str:
    """What to call runs that are played together."""
    first, *others = group.seeds
    seeds = f"seeds {first} to {others[-1]}" if others else f"seed {first}"
    kwargs = ", ".join(f"{k}={v}" for k, v in group.env_kwargs.items() if k != "budget")
    where = f"{group.env} ({kwargs})" if kwargs else group.env
    return f"{group.agent}, budget {group.env_kwargs['budget']:g}, {seeds}, {where}"


class _TimeLeft(ProgressColumn):
    """From the visits done since the first run began: runs differ too much to count them."""

    def render(self, task: Task) -> Text:
        began = task.fields["began"]
        if began is None or not task.completed or not task.total:
            return Text("-:--:-- left", style="progress.remaining")
        left = (time.monotonic() - began) * (task.total / task.completed - 1)
        return Text(f"{timedelta(seconds=round(left))} left", style="progress.remaining")


class SweepProgress(Progress):
    """Runs done, running and failed, and the time left; below it what is running."""

    def __init__(self, groups: Sequence[RunGroup]):
        from dynprune_env.benchmark.sweeps import cost

        counts = TextColumn("{task.percentage:>3.0f} % · {task.description}", markup=False)
        columns = BarColumn(14), counts, _TimeLeft()
        self._running: dict[str, RunGroup] = {}
        self._heard = ""
        super().__init__(*columns, console=console, disable=not watched())
        self._total, self._done, self._failed = sum(len(group.seeds) for group in groups), 0, 0
        self._bar = self.add_task("", total=sum(map(cost, groups)), began=None)
        self._cost = cost
        self._show()

    def start_group(self, group: RunGroup) -> None:
        """A group began."""
        if self.tasks[0].fields["began"] is None:
            self.update(self._bar, began=time.monotonic())
        self._running[group.key], self._heard = group, ""
        self._show()

    def hear(self, what: str, share: float) -> None:
        """Work in this process tells how far it is."""
        self._heard = f"{what}, {share:.0%} · "

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
        if played and not outcome.error and not watched():
            say(f"{self._done} of {self._total} done: {name_of(outcome.group)}")
        self._show()

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the group that began first of those that are running."""
        yield from super().get_renderables()
        if self._running:
            others = len(self._running) - 1
            more = f" and {others} more" if others else ""
            text = f"{self._heard}{name_of(next(iter(self._running.values())))}{more}"
            yield Text(text, "dim", no_wrap=True, overflow="ellipsis")

    def _show(self) -> None:
        running = sum(len(group.seeds) for group in self._running.values())
        text = f"{self._done} of {self._total} done, {running} running, {self._failed} failed"
        self.update(self._bar, description=text)
