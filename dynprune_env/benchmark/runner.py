"""Running a sweep: in processes or on a cluster, resumable, each finished run saved at once."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dynprune_env.benchmark.checkpoints import Stopped
from dynprune_env.benchmark.episodes import RunGroup, run_episodes
from dynprune_env.benchmark.exchange import (
    RUNNING,
    Assignment,
    Exchange,
    FolderExchange,
    MailExchange,
    state_path,
    stoppable_runs,
)
from dynprune_env.benchmark.packing import pack
from dynprune_env.benchmark.results import Failure, Result, RunConfig, failure_path
from dynprune_env.benchmark.standing import review, set_aside
from dynprune_env.common.processes import Worker, call_each, local_workers
from dynprune_env.common.registration import import_all
from dynprune_env.selection.agent import SelectionAgent

logger = logging.getLogger(__name__)
BACKENDS = ("loky", "ray")
Item = tuple[RunGroup, tuple[int, ...]]
"""A group and those of its seeds that have no result."""


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
    workers: Sequence[Worker] = (),
    backend: str = "loky",
    gpus: float = 0,
    device: str = "auto",
    data_dir: str | None = None,
    save_every: float = 30.0,
    imports: Sequence[str] = (),
    accept_stale: bool = False,
    refresh: bool = False,
    trust: bool = False,
    best_epoch: bool = False,
    on_start: Callable[[RunGroup], None] = lambda group: None,
    on_note: Callable[[str], None] = logger.warning,
) -> Iterator[Outcome]:
    """Plays groups in parallel; a finished run is saved at once and never repeated.

    The first Ctrl-C (or SIGTERM) lets the epochs under way end and saves them, the second stops
    at once.

    Args:
        groups: what to run; runs whose result lies in `folder` already are skipped, unless other
            code of the user's own, another policy file or other data made it (see `review`): it
            is moved into `stale/` then.
        make_agent: makes an agent from its spec, in the worker.
        folder: takes one JSON file per run; states of unfinished ones lie in `running/`, records
            of those that ended with an error in `failed/`.
        jobs: worker processes; 1 runs everything in this one, unless on Ray.
        workers: that were started already, in the place of `jobs` of this machine; they are closed
            once they have played.
        backend: "loky", or "ray": the cluster at $RAY_ADDRESS or the one of this machine; where
            there is none it is started here, with `jobs` processors. Its workers see nothing of
            `folder`: the user's modules and policy files travel to them, states and results
            back.
        gpus: GPUs that Ray reserves for each group; 0.5 lets two share one.
        device: where to train.
        data_dir: folder of the data sets.
        save_every: seconds between two savings of an unfinished run's state.
        imports: modules that every worker imports, since they register tasks.
        accept_stale: see `review`.
        refresh: see `review`.
        trust: whether states of unfinished runs may hold pickled agents; see `Checkpoint`.
        best_epoch: see `run_episodes`; results without it are played again.
        on_start: told of each group that begins.
        on_note: told in a sentence which results are played again or kept, and why.

    Yields:
        What became of each group, as soon as it is known. A failed one does not stop the others.

    Raises:
        KeyboardInterrupt: it was stopped; the same call goes on.
        OSError: the folder cannot be made.
        ValueError: there is no such backend, it is not installed, or it has too few GPUs or knows
            of none.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, got {backend!r}")
    if gpus and backend != "ray":
        raise ValueError(f"gpus are reserved by the backend ray, got {gpus:g} for {backend}")
    folder = folder.absolute()  # workers may have another working directory
    folder.mkdir(parents=True, exist_ok=True)
    _sweep_up(folder)
    groups = list({group.key: group for group in groups}.values())  # each once
    _rename_spelled(groups, folder)
    standing = review(
        groups,
        make_agent,
        folder,
        device=device,
        data_dir=data_dir,
        imports=imports,
        accept_stale=accept_stale,
        refresh=refresh,
        best_epoch=best_epoch,
    )
    for note in standing.notes():
        on_note(note)
    missing = standing.missing
    _set_aside(groups, missing, folder)
    work = _Work(make_agent, device, data_dir, save_every, tuple(imports or ()), trust, best_epoch)
    todo = [(group, missing[group.key]) for group in groups if missing[group.key]]
    for group in groups:
        if not missing[group.key]:
            state_path(folder, group).unlink(missing_ok=True)  # of one killed at its very end
            yield Outcome(group, len(group.seeds))
    if todo:
        exchange, workers = _engage(work, todo, folder, jobs, workers, backend, gpus)
        with stoppable_runs(exchange):  # after Ray has set its own signal handlers
            for outcome in _play(work, todo, exchange, workers, on_start):
                yield _record(outcome, folder, exchange)
            if exchange.stopping():
                raise KeyboardInterrupt
    with suppress(OSError):  # not empty, if another sweep is under way
        (folder / RUNNING).rmdir()


@dataclass(frozen=True)
class _Work:
    """What a worker does with one group; picklable, and without a path of the driver's."""

    make_agent: Callable[[str], SelectionAgent]
    device: str
    data_dir: str | None
    save_every: float
    imports: tuple[str, ...]
    trust: bool
    best_epoch: bool

    def __call__(self, told: Assignment) -> Outcome | None:
        """Plays the missing seeds of a group and keeps them; None if it was stopped."""
        group, store = told.group, told.store
        results: list[Result] = []
        try:
            with store.checkpoint(self.save_every, self.trust) as checkpoint:
                import_all(self.imports)
                results = run_episodes(
                    group.env,
                    self.make_agent(group.agent),
                    told.seeds,
                    env_kwargs=group.env_kwargs,
                    device=self.device,
                    data_dir=self.data_dir,
                    imports=self.imports,
                    checkpoint=checkpoint,
                    best_epoch=self.best_epoch,
                )
                results = [result for result in results if result.config.seed in told.seeds]
                for result in results:
                    store.keep(result)
                checkpoint.remove()
        except Stopped:
            return None
        except Exception as error:  # one broken agent must not lose the other runs
            text = f"{type(error).__name__}: {error}"
            tail = traceback.format_exc()[-2000:]
            return Outcome(group, len(group.seeds), text, tail, tuple(results))
        return Outcome(group, len(group.seeds), results=tuple(results))


def _engage(
    work: _Work,
    todo: Sequence[Item],
    folder: Path,
    jobs: int,
    workers: Sequence[Worker],
    backend: str,
    gpus: float,
) -> tuple[Exchange, Sequence[Worker]]:
    """Who plays, and how one hears of it; no workers if it is this process."""
    if backend == "loky":
        return FolderExchange(folder), workers or (local_workers(jobs) if jobs > 1 else [])
    from dynprune_env.common.ray_cluster import Cluster

    luggage = pack([group for group, _ in todo], work.make_agent, work.imports)
    cluster = Cluster(jobs, gpus, luggage)
    return MailExchange(folder, cluster.mailbox), cluster.workers(jobs)


def _play(
    work: _Work,
    todo: Sequence[Item],
    exchange: Exchange,
    workers: Sequence[Worker],
    on_start: Callable[[RunGroup], None],
) -> Iterator[Outcome]:
    """The outcomes of the groups that were not stopped."""
    if not workers:
        for item in todo:
            if exchange.stopping():
                return
            on_start(item[0])
            if (outcome := work(exchange.assign(item))) is not None:
                yield outcome
        return
    for item, found in call_each(
        work,
        todo,
        workers,
        assign=exchange.assign,
        on_start=lambda item: on_start(item[0]),
        stopping=exchange.stopping,
        meanwhile=exchange.collect,
        got_on=exchange.got_on,
    ):
        if isinstance(found, BaseException):
            yield Outcome(item[0], len(item[0].seeds), f"{type(found).__name__}: {found}")
        elif found is not None:
            yield found


def _record(outcome: Outcome, folder: Path, exchange: Exchange) -> Outcome:
    """Writes what the worker could not (its disk may be another one), and keeps book of errors."""
    configs = {config.seed: config for config in outcome.group.configs()}
    try:
        for result in outcome.results:
            if not exchange.workers_write or not (folder / f"{result.config.key}.json").exists():
                result.save(folder)
        for config in configs.values():
            _keep_book(outcome, config, folder)
        if outcome.error is None:
            exchange.forget(outcome.group)
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


def _set_aside(
    groups: Sequence[RunGroup], missing: dict[str, tuple[int, ...]], folder: Path
) -> None:
    """Moves results that do not stand, see `set_aside`."""
    for group in groups:
        for config in group.configs():
            path = folder / f"{config.key}.json"
            if config.seed in missing[group.key] and path.is_file():
                set_aside(path)


def _rename_spelled(groups: Sequence[RunGroup], folder: Path) -> None:
    """Gives results that are named by another spelling of their numbers the name of their key."""
    for config in (config for group in groups for config in group.configs()):
        path = folder / f"{config.key}.json"
        for key in config.other_keys:
            spelled = folder / f"{key}.json"
            if spelled.is_file() and not path.exists():
                with suppress(OSError):  # another sweep was faster
                    spelled.rename(path)


def _sweep_up(folder: Path) -> None:
    """Removes what killed processes left half-written; that of running ones is younger."""
    for path in (*folder.glob(".*.partial"), *folder.glob(f"{RUNNING}/.*.partial")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()
