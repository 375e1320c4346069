"""Many runs side by side: the vector environment against Gymnasium's, in one process or in many."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from benchmarks.speed.clock import Row, compare, take_turns, wall_clock
from dynprune_env.envs.env import DynPruneEnv
from dynprune_env.envs.vector_env import DynPruneVectorEnv

LONG = {"task": "Digits", "budget": 1.0, "epochs": 100_000}


def kept(replicas: int, equal: bool) -> np.ndarray:
    """(R, n) bool, half of the samples; or from 10 % for the first replica to 90 % for the last."""
    shares = np.full(replicas, 0.5) if equal else np.linspace(0.1, 0.9, replicas)
    return np.random.default_rng(0).random((replicas, 1000)) < shares[:, None]


def vector_rows(sizes: tuple[int, ...], rounds: int) -> list[Row]:
    """Digits on one thread: one step of all R replicas against R single environments."""
    torch.set_num_threads(1)
    rows = []
    for replicas in sizes:
        ours = DynPruneVectorEnv(replicas, **LONG)
        single = [partial(DynPruneEnv, **LONG)] * replicas
        sync = SyncVectorEnv(single, autoreset_mode=AutoresetMode.DISABLED)
        for envs in (ours, sync):
            envs.reset(seed=0)
        for equal in (True, False):
            masks = kept(replicas, equal)
            sides = {"ours": partial(ours.step, masks), "sync": partial(sync.step, masks)}
            seconds = take_turns(sides, rounds, wall_clock)
            name = f"Digits, R = {replicas}, {'half kept' if equal else '10 to 90 % kept'}"
            what = f"{name}: SyncVectorEnv of single environments / vector environment"
            rows.append(speed_up(what, seconds, "sync"))
        sync.close()
    return rows


def process_rows(replicas: int, rounds: int) -> list[Row]:
    """The same against one process per replica, with two threads on our side."""
    torch.set_num_threads(2)
    ours = DynPruneVectorEnv(replicas, **LONG)
    ours.reset(seed=0)
    torch.set_num_threads(1)
    single = [partial(DynPruneEnv, **LONG)] * replicas
    processes = AsyncVectorEnv(single, autoreset_mode=AutoresetMode.DISABLED, context="spawn")
    processes.reset(seed=0)
    masks = kept(replicas, True)
    sides = {"ours": partial(ours.step, masks), "processes": partial(processes.step, masks)}
    seconds = take_turns(sides, rounds, wall_clock)
    processes.close()
    what = f"Digits, R = {replicas}, half kept: {replicas} processes / vector environment, 2 cores"
    return [speed_up(what, seconds, "processes")]


def rate_rows(rounds: int) -> list[Row]:
    """Environment steps a second, R = 64, half kept, on two cores; the target is 5,000."""
    torch.set_num_threads(2)
    ours = DynPruneVectorEnv(64, **LONG)
    ours.reset(seed=0)
    torch.set_num_threads(1)
    seconds = take_turns({"ours": partial(ours.step, kept(64, True))}, rounds, wall_clock)["ours"]
    rates = 64 / seconds
    return [
        Row(
            "Digits, R = 64, half kept, 2 threads: environment steps a second",
            f"{np.median(seconds):.4g} s",
            "",
            float(np.median(rates)),
            float(rates.min()),
            float(rates.max()),
            ">= 5000",
        )
    ]


def speed_up(what: str, seconds: dict[str, np.ndarray], other: str) -> Row:
    """How many times faster ours is."""
    row = compare(what, seconds["ours"], seconds[other], ">= 0")
    return Row(row.what, row.ours, row.other, row.ratio, row.low, row.high, "")
