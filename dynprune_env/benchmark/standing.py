"""Which runs of a sweep have to be played: those without a result that still stands."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.fingerprint import DECIDED_BY_USER, Fingerprint, differences
from dynprune_env.benchmark.identity import fingerprint
from dynprune_env.benchmark.replay import numbers
from dynprune_env.benchmark.results import Result, RunConfig
from dynprune_env.common.registration import split_id
from dynprune_env.envs.settings import settings_of
from dynprune_env.selection.agent import SelectionAgent

logger = logging.getLogger(__name__)
STALE = "stale"
"""Subfolder of the results that were played again."""


@dataclass
class Standing:
    """What a folder of results holds for a sweep.

    Attributes:
        missing: by the key of a group, the seeds that are to be played.
        changed: what of the user's own changed since results were made, by agent; they are played
            again.
        others: how many results something else made, by what that is; they are kept, or played
            again under `refresh`.
        refresh: whether they are.
    """

    refresh: bool = False
    missing: dict[str, tuple[int, ...]] = field(default_factory=dict)
    changed: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    others: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def notes(self) -> list[str]:
        """Sentences on what is played again and what is kept."""
        agents: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for agent, reasons in self.changed.items():
            agents[tuple(sorted(reasons))].append(agent)
        found = [
            f"played again, since {' and '.join(reasons)} changed: {', '.join(names)} "
            "(--accept-stale keeps the old results)"
            for reasons, names in agents.items()
        ]
        what = "played again" if self.refresh else "kept (--refresh plays them again)"
        found += [
            f"{count:,} results whose fingerprint differs are {what}: {name}"
            for name, count in sorted(self.others.items())
        ]
        return found


def review(
    groups: Iterable[RunGroup],
    make_agent: Callable[[str], SelectionAgent],
    folder: Path,
    *,
    device: str = "auto",
    data_dir: str | None = None,
    imports: Sequence[str] = (),
    accept_stale: bool = False,
    refresh: bool = False,
    best_epoch: bool = False,
) -> Standing:
    """Says which runs have to be played.

    A result stands if the user's own code behind it, its policy file and its data are what they
    were. What another version of the package made stands too, since it may have cost days.

    Args:
        groups: the sweep's.
        make_agent: makes an agent from its spec.
        folder: of the results.
        device: where runs would train.
        data_dir: folder of the data sets.
        imports: modules that were imported because they register tasks.
        accept_stale: keeps also what the user's own code, another policy file or data made.
        refresh: plays again all that anything else made.
        best_epoch: plays again what has no best epoch on record.
    """
    found = Standing(refresh)
    for group in groups:
        results = {config.seed: _load(folder, config) for config in group.configs()}
        for seed, result in results.items():
            if best_epoch and result is not None and result.best_epoch is None:
                results[seed] = None
        again = {seed for seed, result in results.items() if result is None}
        if len(again) < len(results):
            now = _now(group, make_agent(group.agent), device, data_dir, imports)
            for seed, result in results.items():
                if result is None:
                    continue
                changes = differences(result.fingerprint, now)
                stale = [each for each in changes if each.part in DECIDED_BY_USER]
                if stale and not accept_stale:
                    found.changed[group.agent] |= {each.what for each in stale}
                else:
                    for each in changes:
                        found.others[each.what] += 1
                if (stale and not accept_stale) or (changes and refresh):
                    again.add(seed)
        found.missing[group.key] = tuple(seed for seed in group.seeds if seed in again)
    return found


def set_aside(path: Path) -> None:
    """Moves a result that does not stand into `stale/`: it is neither lost nor taken for a new one.

    Args:
        path: of its file.
    """
    stale = path.parent / STALE
    stale.mkdir(exist_ok=True)
    free, number = stale / path.name, 1
    while free.exists():
        number += 1
        free = stale / f"{path.stem}-{number}{path.suffix}"
    path.replace(free)


def save_anew(result: Result, folder: Path) -> set[str]:
    """Writes a result that was played now; one of the same run with other numbers is set aside.

    Args:
        result: with its fingerprint.
        folder: of the results.

    Returns:
        What else made the older result, for people to read; empty if there was none, or none with
        other numbers.

    Raises:
        OSError: the file cannot be written.
    """
    path = folder / f"{result.config.key}.json"
    made_by: set[str] = set()
    if path.is_file():
        try:
            old = Result.load(path)
        except ValueError:
            made_by = {"what is no result"}
        else:
            best = old.best_epoch or result.best_epoch
            if None in (old.best_epoch, result.best_epoch):  # it was asked for once
                old, result = (replace(each, best_epoch=best) for each in (old, result))
            if numbers(old) != numbers(result):
                made_by = _made_by(old, result)
    if made_by:
        set_aside(path)
    result.save(folder)
    return made_by


def _made_by(old: Result, new: Result) -> set[str]:
    """What may be why two results of a run have other numbers, for people to read."""
    assert new.fingerprint is not None
    if changes := differences(old.fingerprint, new.fingerprint):
        return {each.what for each in changes}
    unlike = {
        "the libraries": old.versions != new.versions,
        "the machine": old.machine != new.machine,
    }
    return {what for what, differs in unlike.items() if differs} or {"nothing that is on record"}


def _now(
    group: RunGroup,
    agent: SelectionAgent,
    device: str,
    data_dir: str | None,
    imports: Sequence[str],
) -> Fingerprint:
    where = {"device": device, "data_dir": data_dir}
    kwargs = dict(agent.env_kwargs) | group.env_kwargs | where
    modules, _ = split_id(group.env)
    return fingerprint(settings_of(group.env, kwargs), [agent], (*imports, *modules))


def _load(folder: Path, config: RunConfig) -> Result | None:
    """A run's result; a file that cannot be read as one is none."""
    try:
        return Result.load(folder / f"{config.key}.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s; it is played again", error)
        return None
