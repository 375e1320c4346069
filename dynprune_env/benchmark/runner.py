"""Running a sweep: in processes or on a cluster, resumable, each finished run saved at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.benchmark.episodes import RunGroup, run_episodes
from dynprune_env.benchmark.results import Failure, Result, RunConfig, failure_path
from dynprune_env.benchmark.standing import review
from dynprune_env.common.processes import call_each, make_workers
from dynprune_env.common.registration import import_all
from dynprune_env.selection.agent import SelectionAgent

logger = logging.getLogger(__name__)
RUNNING = "running"
"""Subfolder of the states of unfinished runs."""


@dataclass(frozen=True)
class Outcome:
    """What became of a group.

    Attributes:
        group: what was to be run.
        runs: how many runs that is.
        error: what went wrong, "Type: message"; None if nothing did.
        traceback: the last lines of the error's traceback.
        results: those that were played now.
    """

    group: RunGroup
    runs: int
    error: str | None = None
    traceback: str = ""
    results: tuple[Result, ...] = field(default=(), repr=False)


def run_sweep(
    groups: Sequence[RunGroup],
    make_agent: Callable[[str], SelectionAgent],
    folder: Path,
    *,
    jobs: int = 1,
    backend: str = "loky",
    gpus: float = 0,
    device: str = "auto",
    data_dir: str | None = None,
    save_every: float = 30.0,
    imports: Sequence[str] = (),
    accept_stale: bool = False,
    refresh: bool = False,
    on_start: Callable[[RunGroup], None] = lambda group: None,
    on_note: Callable[[str], None] = logger.warning,
) -> Iterator[Outcome]:
    """Plays groups in parallel; a finished run is saved at once and never repeated.

    The first Ctrl-C (or SIGTERM) lets the epochs under way end and saves them, the second stops
    at once.

    Args:
        groups: what to run; runs whose result lies in `folder` already are skipped, unless other
            code of the user's own, another policy file or other data made it (see `review`).
        make_agent: makes an agent from its spec, in the worker.
        folder: takes one JSON file per run; states of unfinished ones lie in `running/`, records
            of those that ended with an error in `failed/`.
        jobs: worker processes; 1 runs everything in this one, unless on Ray.
        backend: "loky" or "ray"; see `make_workers`.
        gpus: GPUs that Ray reserves for each group.
        device: where to train.
        data_dir: folder of the data sets.
        save_every: seconds between two savings of an unfinished run's state.
        imports: modules that every worker imports, since they register tasks.
        accept_stale: see `review`.
        refresh: see `review`.
        on_start: told of each group that begins.
        on_note: told in a sentence which results are played again or kept, and why.

    Yields:
        What became of each group, as soon as it is known. A failed one does not stop the others.

    Raises:
        KeyboardInterrupt: it was stopped; the same call goes on.
        OSError: the folder cannot be made.
    """
    folder = folder.absolute()  # workers may have another working directory
    folder.mkdir(parents=True, exist_ok=True)
    _sweep_up(folder)
    groups = list({group.key: group for group in groups}.values())  # each once
    standing = review(
        groups,
        make_agent,
        folder,
        device=device,
        data_dir=data_dir,
        imports=imports,
        accept_stale=accept_stale,
        refresh=refresh,
    )
    for note in standing.notes():
        on_note(note)
    missing = standing.missing
    stop = folder / RUNNING / f".stop-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    work = _Work(make_agent, folder, device, data_dir, save_every, tuple(imports or ()), stop)
    todo = [(group, missing[group.key]) for group in groups if missing[group.key]]
    for group in groups:
        if not missing[group.key]:
            _state_path(folder, group).unlink(missing_ok=True)  # of one killed at its very end
            yield Outcome(group, len(group.seeds))
    alone = jobs == 1 and backend == "loky"
    workers = make_workers(backend, jobs, gpus) if todo and not alone else []
    with _stoppable(stop):  # after Ray has set its own signal handlers
        if alone:
            outcomes = _in_this_process(work, todo, on_start)
        else:
            outcomes = (
                found
                if isinstance(found, Outcome | None)
                else Outcome(item[0], len(item[0].seeds), f"WorkerDied: twice. {found}")
                for item, found in call_each(
                    work,
                    todo,
                    workers,
                    on_start=lambda item: on_start(item[0]),
                    stopping=stop.exists,
                )
            )
        for outcome in outcomes:
            if outcome is not None:
                yield _record(outcome, folder)
        if stop.exists():
            raise KeyboardInterrupt
    with suppress(OSError):  # not empty, if another sweep is under way
        (folder / RUNNING).rmdir()


@dataclass(frozen=True)
class _Work:
    """What a worker does with one group; picklable."""

    make_agent: Callable[[str], SelectionAgent]
    folder: Path
    device: str
    data_dir: str | None
    save_every: float
    imports: tuple[str, ...]
    stop: Path

    def __call__(self, item: tuple[RunGroup, tuple[int, ...]]) -> Outcome | None:
        """Plays the missing seeds of a group and saves them; None if it was stopped."""
        group, missing = item
        checkpoint = Checkpoint(_state_path(self.folder, group), self.save_every, self.stop)
        results: list[Result] = []
        try:
            import_all(self.imports)
            results = run_episodes(
                group.env,
                self.make_agent(group.agent),
                missing,
                env_kwargs=group.env_kwargs,
                device=self.device,
                data_dir=self.data_dir,
                imports=self.imports,
                checkpoint=checkpoint,
            )
            results = [result for result in results if result.config.seed in missing]
            for result in results:
                result.save(self.folder)
            checkpoint.remove()
        except Stopped:
            return None
        except Exception as error:  # one broken agent must not lose the other runs
            text = f"{type(error).__name__}: {error}"
            tail = traceback.format_exc()[-2000:]
            return Outcome(group, len(group.seeds), text, tail, tuple(results))
        return Outcome(group, len(group.seeds), results=tuple(results))


def _in_this_process(
    work: _Work,
    todo: Sequence[tuple[RunGroup, tuple[int, ...]]],
    on_start: Callable[[RunGroup], None],
) -> Iterator[Outcome | None]:
    for item in todo:
        if work.stop.exists():
            return
        on_start(item[0])
        yield work(item)


def _state_path(folder: Path, group: RunGroup) -> Path:
    """Where the state of a group's unfinished runs lies."""
    return folder / RUNNING / f"{group.key}.state"


def _record(outcome: Outcome, folder: Path) -> Outcome:
    """Writes what the worker could not (its disk may be another one), and keeps book of errors."""
    configs = {config.seed: config for config in outcome.group.configs()}
    try:
        for result in outcome.results:
            if not (folder / f"{result.config.key}.json").exists():
                result.save(folder)
        for config in configs.values():
            _keep_book(outcome, config, folder)
    except OSError as error:
        text = f"{type(error).__name__}: {error}"
        return replace(outcome, error=outcome.error or text)
    return outcome


def _keep_book(outcome: Outcome, config: RunConfig, folder: Path) -> None:
    """Records a run without a result as failed, and forgets the failure of one that has it."""
    if (folder / f"{config.key}.json").exists():
        failure_path(folder, config).unlink(missing_ok=True)
    elif outcome.error is not None:
        kind, _, message = outcome.error.partition(": ")
        Failure(config, kind, message, outcome.traceback).save(folder)


@contextmanager
def _stoppable(stop: Path) -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into the file `stop`."""

    def ask(signum: int, frame: object) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
        logger.warning("stopping when the epochs under way have ended; once more stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return
    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        stop.unlink(missing_ok=True)
        with suppress(OSError):
            stop.parent.rmdir()


def _sweep_up(folder: Path) -> None:
    """Removes what killed processes left half-written; that of running ones is younger."""
    for path in (*folder.glob(".*.partial"), *folder.glob(f"{RUNNING}/.*.partial")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()
