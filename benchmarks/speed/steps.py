"""Steps of one environment: against bare loops, by what they keep, and against today's designs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.speed.bare import Bare, Loader
from benchmarks.speed.clock import Clock, Row, compare, take_turns
from benchmarks.speed.tasks import SHARES, make_env, masks


@dataclass(frozen=True)
class Timed:
    """A task to time.

    Attributes:
        task: name in TASKS.
        size, val: train and val samples, None for the task's own.
        target: for the env step over the bare loop.
        rounds: how many are counted.
        halving: target for a step that keeps half over one that keeps all.
    """

    task: str
    size: int | None
    val: int | None
    target: str
    rounds: int
    halving: str = "<= 0.51"


STEPS = (
    Timed("Digits", None, None, "<= 1.10", 40, halving=""),
    Timed("CIFAR10Small", 10_000, 1_000, "<= 1.02", 5),
    Timed("CIFAR10", 256, 32, "<= 1.02", 3),  # ResNet-18: two batches, and one of half
)


def step_rows(timed: Timed, clock: Clock, **settings: object) -> list[Row]:
    """Env step over bare loop for three shares; half of the samples over all of them.

    The latter without the evaluation on val, which costs the same whatever is kept.
    """
    env = make_env(timed.task, timed.size, timed.val, **settings)
    bare, n = Bare(env), env.settings.num_samples
    kept = {share: masks(n, share) for share in SHARES}
    sides = {"val": partial(env.evaluate, "val")}
    for share in SHARES:
        sides[f"env {share}"] = partial(env.step, kept[share])
        sides[f"bare {share}"] = partial(bare.epoch, kept[share])
    seconds = take_turns(sides, timed.rounds, clock)
    name = f"{timed.task}, {env.settings.resolved.model}, n = {n:,}"
    rows = [
        compare(
            f"{name}: env step / bare loop, keeping {share:.0%}",
            seconds[f"env {share}"],
            seconds[f"bare {share}"],
            timed.target,
        )
        for share in SHARES
    ]
    whole, half = (seconds[f"env {share}"] - seconds["val"] for share in (1.0, 0.5))
    what = f"{name}: step keeping 50 % / 100 %, val set apart"
    return [*rows, compare(what, half, whole, timed.halving)]


def today_rows(size: int, rounds: int, clock: Clock) -> list[Row]:
    """A small CNN on CIFAR-10 against a DataLoader design, scored or as InfoBatch's authors do."""
    env = make_env("CIFAR10Small", size, 500)
    half = masks(size, 0.5)
    usual, tuned = Loader(env, tuned=False), Loader(env, tuned=True)

    def infobatch_step() -> None:
        loss = env.vector.trainer.statistics.loss[0]
        easy = np.flatnonzero(loss < loss.mean())
        kept = np.ones(size, dtype=bool)
        kept[np.random.default_rng(0).permutation(easy)[len(easy) // 2 :]] = False
        env.step(kept)

    seconds = take_turns(
        {
            "env": partial(env.step, half),
            "usual": partial(usual.scored_epoch, 0.5),
            "tuned": partial(tuned.scored_epoch, 0.5),
            "env infobatch": infobatch_step,
            "usual infobatch": usual.infobatch_epoch,
            "tuned infobatch": tuned.infobatch_epoch,
        },
        rounds,
        clock,
    )
    name = f"CIFAR10Small, n = {size:,}: "
    scored, info = "DataLoader, PIL, scoring pass, half kept", "the InfoBatch loop's steps"
    fair = "; its model in our precision and layout too"
    return [
        compare(f"{name}{scored}", seconds["env"], seconds["usual"], ">= 2"),
        compare(f"{name}{scored}{fair}", seconds["env"], seconds["tuned"], ">= 2"),
        compare(f"{name}{info}", seconds["env infobatch"], seconds["usual infobatch"], ">= 1.4"),
        compare(
            f"{name}{info}{fair}", seconds["env infobatch"], seconds["tuned infobatch"], ">= 1.4"
        ),
    ]
