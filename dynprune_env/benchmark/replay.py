"""Does a result reproduce? Replays runs from their configurations and compares the numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from dynprune_env.benchmark.episodes import run_episodes
from dynprune_env.benchmark.fingerprint import differences
from dynprune_env.benchmark.results import Result
from dynprune_env.selection.agent import SelectionAgent

TOLERANCE = 0.02
"""How far test accuracy and saved fraction may be off where other roundings are to be expected."""


@dataclass(frozen=True)
class Verdict:
    """What a replay says.

    Attributes:
        result: the recorded one.
        replay: the new one.
        caveats: why the numbers may differ: another machine, other versions, a GPU, unknown seeds
            on the replica axis, and each part of the fingerprint that is another now. Empty: they
            must be the same, bit for bit.
        tolerance: how far accuracy and saved fraction may be off if there are caveats.
    """

    result: Result
    replay: Result
    caveats: tuple[str, ...]
    tolerance: float

    @property
    def identical(self) -> bool:
        """Whether all numbers but the seconds are the same, bit for bit."""
        return numbers(self.result) == numbers(self.replay)

    @property
    def difference(self) -> float:
        """Test accuracy of the replay minus the recorded one."""
        return self.replay.test_accuracy - self.result.test_accuracy

    @property
    def reproduced(self) -> bool:
        """Whether the replay confirms the result."""
        if self.identical or not self.caveats:
            return self.identical
        saved = self.replay.saved - self.result.saved
        return max(abs(self.difference), abs(saved)) <= self.tolerance


def validate(
    results: Iterable[Result],
    make_agent: Callable[[str], SelectionAgent],
    *,
    tolerance: float = TOLERANCE,
    device: str = "auto",
    data_dir: str | None = None,
    on_error: Callable[[Result, str], None] | None = None,
) -> Iterator[Verdict]:
    """Plays runs again, with the seeds that shared their replica axis and as many threads.

    Args:
        results: what to check.
        make_agent: makes an agent from its spec.
        tolerance: see `Verdict`.
        device: where to train.
        data_dir: folder of the data sets.
        on_error: told of each result that cannot be played, and why, in one sentence; the others
            are played all the same. None: the error is raised.

    Yields:
        A verdict per result that could be played.
    """
    groups: defaultdict[str, list[Result]] = defaultdict(list)
    for result in results:
        config = result.config
        replica_seeds = result.replica_seeds or [config.seed]
        tracked = result.best_epoch is not None
        alike = (
            config.env,
            config.env_kwargs,
            config.agent,
            replica_seeds,
            result.threads,
            tracked,
        )
        groups[f"{alike}"].append(result)
    for group in groups.values():
        first = group[0]
        try:
            replays = run_episodes(
                first.config.env,
                make_agent(first.config.agent),
                first.replica_seeds or [first.config.seed],
                env_kwargs={**first.config.env_kwargs, "threads": first.threads},
                device=device,
                data_dir=data_dir,
                best_epoch=first.best_epoch is not None,
            )
        except Exception as error:  # of whatever kind: an agent's code may be anybody's
            if on_error is None:
                raise
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            for result in group:
                on_error(result, kind + " ".join(str(error).split()))
            continue
        by_seed = {replay.config.seed: replay for replay in replays}
        for result in group:
            replay = by_seed[result.config.seed]
            yield Verdict(result, replay, _caveats(result, replay), tolerance)


def numbers(result: Result) -> dict[str, Any]:
    """What a run has to reproduce: all but its seconds and what made it."""
    content = asdict(result)
    content["config"]["env_kwargs"].pop("threads", None)  # a replay is told what was recorded
    for name in (
        *(
            "seconds",
            "replicas",
            "device",
            "threads",
            "versions",
            "commit",
            "machine",
            "replica_seeds",
            "fingerprint",
        ),
    ):
        del content[name]
    del content["history"]["seconds"]
    return content


def _caveats(result: Result, replay: Result) -> tuple[str, ...]:
    """Why the two may differ in roundings, which training amplifies."""
    found = []
    if result.replica_seeds is None and result.replicas > 1:
        found.append("unknown seeds on the replica axis")
    if result.machine != replay.machine:
        found.append(f"machine {result.machine or 'unknown'}")
    if result.device != replay.device:
        found.append(f"device {result.device}")
    elif result.device != "cpu":
        found.append("a GPU adds up in no fixed order")
    if result.fingerprint is not None and replay.fingerprint is not None:
        changes = differences(result.fingerprint, replay.fingerprint)
        found += [each.what for each in changes if not each.what.startswith("device")]
    found += [
        f"{name} {result.versions.get(name, 'unknown')}"
        for name in sorted({*result.versions, *replay.versions})
        if result.versions.get(name) != replay.versions.get(name)
    ]
    return tuple(found)
