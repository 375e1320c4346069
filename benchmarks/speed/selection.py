"""What a selection costs: every handwritten rule, from 50,000 to ten million samples.

Some rules choose in every epoch, some every tenth, static ones once in a run: what is timed is an
epoch in which they choose.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

import dynprune_agents
from dynprune_agents import PeriodicAgent
from dynprune_agents.baselines.static_random import StaticRandom
from dynprune_agents.static._static import StaticAgent
from dynprune_env import DynPruneVectorEnv
from dynprune_env.benchmark.recording import RunLog
from dynprune_env.selection.agent import Episode, columns_read
from dynprune_env.selection.observations import PROGRESS
from dynprune_env.selection.statistics import SampleStatistics, SampleValues, sample_values

LEARNED = ("learned", "sb3")
EPOCHS = 200
MOST_FOR_POLICIES = 2_000_000
"""Samples; a policy computes a network's outputs for each."""
SETTLED = 12
"""Epochs after which the full ones of every rule are over, and what rules remember is complete."""


def progress_at(epoch: int) -> np.ndarray:
    """The progress entries of an observation, (k,) float32."""
    entries = dict.fromkeys(PROGRESS, epoch / EPOCHS) | {"budget": 0.5, "val_accuracy": 0.8}
    return np.array([entries[name] for name in PROGRESS], dtype=np.float32)


def observe(n: int, epoch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns as training leaves them: exponential losses, whole ages and visits."""
    loss = rng.exponential(0.5, n).astype(np.float32)
    whole = {
        name: rng.integers(0, high, n, dtype=np.int32).astype(np.float32)
        for name, high in (
            ("forgetting", 4),
            ("visits", epoch + 1),
            ("age", epoch + 1),
            ("label", 10),
        )
    }
    return {
        "loss": loss,
        "loss_mean": 0.8 * loss + 0.1,
        "loss_var": (loss - 0.4) ** 2,
        "confidence": np.exp(-loss),
        "margin": 3 - 4 * loss,
        "el2n": np.minimum(loss, 1.4),
        "correct": (loss < 0.7).astype(np.float32),
        "progress": progress_at(epoch),
        **whole,
    }


@lru_cache(maxsize=1)
def observations(n: int) -> list[dict[str, np.ndarray]]:
    """Of a few epochs, which come in turns."""
    rng = np.random.default_rng(0)
    return [observe(n, SETTLED + epoch, rng) for epoch in range(4)]


def seen_by_epoch(n: int) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """What an agent sees before and after each epoch of a run but the last."""
    drawn = observations(n)
    for epoch in range(EPOCHS - 1):
        before, after = (
            {**drawn[at % len(drawn)], "progress": progress_at(at)} for at in (epoch, epoch + 1)
        )
        yield before, after


class RandomRuns:
    """Stands for scoring runs and a probe whose training has cost nothing: random numbers."""

    epochs = 20

    def __init__(self, n: int):
        self.num_samples, self.visits = n, np.zeros(1)
        self.rng = np.random.default_rng(1)
        self._features = self.rng.standard_normal((n, 16), dtype=np.float32)
        self._drawn = [self.rng.exponential(0.5, n).astype(np.float32) for _ in range(2)]

    def run(self, index: int, epochs: int, mask: Any = None) -> Iterator[dict[str, np.ndarray]]:
        """Three epochs, whatever was asked for."""
        return (observe(self.num_samples, 5, self.rng) for _ in range(min(epochs, 3)))

    def models(self, averaged: bool = False) -> list[torch.nn.Module]:
        """One tiny model."""
        return [torch.nn.Linear(1, 10)]

    def values(self, models: Any = None) -> SampleValues:
        """Those of random outputs over ten classes."""
        logits = torch.from_numpy(self.rng.normal(size=(self.num_samples, 10)).astype(np.float32))
        return sample_values(logits, torch.from_numpy(self.rng.integers(10, size=len(logits))))

    def probabilities(self) -> np.ndarray:
        """Those of random outputs."""
        return self.rng.dirichlet(np.ones(10), self.num_samples).astype(np.float32)

    def gradient_norms(self, chunk: int | None = None) -> np.ndarray:
        """Spread like losses."""
        return self.losses()

    def losses(self, models: Any = None, where: Any = None) -> np.ndarray:
        """As training leaves them, drawn beforehand: two in turns, for reading only."""
        self._drawn.reverse()
        return self._drawn[0]

    def features(self, where: Any = None) -> np.ndarray:
        """What sixteen units of a small net would say, (n, 16), drawn beforehand."""
        return self._features

    def charge(self, passes: float) -> None:
        """Free."""

    def random_mask(self, share: float) -> np.ndarray:
        """Independent draws."""
        return self.rng.random(self.num_samples) < share

    def as_observed(self, rows: np.ndarray) -> np.ndarray:
        """Without the replica axis."""
        return rows[0] if rows.ndim > 1 else rows


@dataclass(frozen=True)
class Cost:
    """What a rule's choices cost.

    Attributes:
        seconds: CPU seconds of an epoch in which it chooses, median.
        every: epochs from one choice to the next; EPOCHS for static rules, which choose once.
    """

    seconds: float
    every: int


def selection_cost(name: str, n: int, rounds: int = 5) -> Cost:
    """Times epochs in which a rule chooses, once what it remembers is complete.

    Raises:
        RuntimeError: it did not choose so often.
    """
    agent = dynprune_agents.make(name)
    runs = RandomRuns(n)
    agent.prepare(runs)  # type: ignore[arg-type]
    episode = Episode(n, 10, EPOCHS, 0.5, 0, runs)  # type: ignore[arg-type]
    drawn, seconds, made = observations(n), [], [0]
    if isinstance(agent, StaticAgent | PeriodicAgent):
        _count_choices(agent, made)
    if isinstance(agent, StaticAgent | StaticRandom):
        for _ in range(rounds + 1):
            start = time.process_time()  # the one draws in `reset`, the others at their first epoch
            agent.reset(episode)
            agent.select(drawn[0])
            seconds.append(time.process_time() - start)
        seconds, every = seconds[1:], EPOCHS  # the first one loads what the others find
    else:
        agent.reset(episode)
        first = max(SETTLED, agent.warmup if isinstance(agent, PeriodicAgent) else 1)
        chose_at = []
        for epoch, (before, after) in enumerate(seen_by_epoch(n)):
            choices, start = made[0], time.process_time()
            action = agent.select(before)
            taken = time.process_time() - start
            chose = made[0] > choices or not isinstance(agent, PeriodicAgent)
            if chose and epoch >= first:
                chose_at.append(epoch)
                seconds.append(taken)
            agent.update(before, action, 0.1, after)
            if len(seconds) > rounds:
                break
        seconds = seconds[1:]
        every = int(np.diff(chose_at).max())
    if len(seconds) < rounds or (isinstance(agent, StaticAgent) and made[0] <= rounds):
        raise RuntimeError(f"{name} chose {len(seconds)} times, not {rounds}")
    return Cost(float(np.median(seconds)), every)


def _count_choices(agent: StaticAgent | PeriodicAgent, made: list[int]) -> None:
    choose = agent.choose

    def counted(*arguments: Any) -> np.ndarray:
        made[0] += 1
        return choose(*arguments)

    agent.choose = counted  # type: ignore[method-assign]


def selection_table(sizes: tuple[int, ...], rounds: int = 5) -> str:
    """Milliseconds of every rule's choice, slowest last; the learned policy apart."""
    names = [name for name in dynprune_agents.names() if name not in LEARNED]
    by_size = [[selection_cost(name, n, rounds) for name in names] for n in sizes]
    costs = dict(zip(names, zip(*by_size, strict=True), strict=True))
    middle = sizes.index(1_280_000) if 1_280_000 in sizes else 0
    heads = " | ".join(f"n = {n:,}" for n in sizes)
    lines = [
        f"| rule: ms of a choice | {heads} | epochs from one to the next "
        f"| ms an epoch, n = {sizes[middle]:,} |",
        "|---|" + "---:|" * (len(sizes) + 2),
    ]
    for name in sorted(names, key=lambda name: costs[name][middle].seconds):
        lines.append(_line(name, costs[name], middle))
    policy = [selection_cost("learned", n, min(rounds, 2)) for n in sizes if n <= MOST_FOR_POLICIES]
    lines.append(_line("learned", policy, min(middle, len(policy) - 1), len(sizes)))
    if 1_280_000 in sizes:
        within = [sum(1e3 * costs[a][middle].seconds <= ms for a in names) for ms in (15, 20)]
        lines.append(
            f"\nTargets of a choice at 1.28 million, {len(names)} handwritten rules: 15 ms, met by "
            f"{within[0]}; 20 ms, met by {within[1]}."
        )
    return "\n".join(lines)


def _line(name: str, costs: Sequence[Cost], middle: int, columns: int | None = None) -> str:
    cells = [f"{1e3 * cost.seconds:.3g}" for cost in costs]
    cells += [""] * ((columns or len(costs)) - len(costs))
    cost = costs[middle]
    every = "once a run" if cost.every == EPOCHS else f"{cost.every}"
    return (
        f"| `{name}` | "
        + " | ".join([*cells, every, f"{1e3 * cost.seconds / cost.every:.3g}"])
        + " |"
    )


def statistics_bytes(n: int = 100_000) -> float:
    """Bytes per sample of the table of statistics, labels included; of one replica."""
    table = SampleStatistics(1, np.zeros(n, dtype=np.int64), 10)
    return (table.labels.nbytes + held_bytes(table)) / n


def held_bytes(table: SampleStatistics) -> int:
    """Bytes of a table without the labels, which all replicas share."""
    return sum(value.numpy().nbytes for value in table.state().values())


def run_bytes(spec: str, recorded: bool) -> float:
    """Bytes per sample that every replica of an agent's run keeps of it, on Digits.

    Args:
        spec: of the agent.
        recorded: whether the run is one of the benchmark, which also records losses and visits.
    """
    agent = dynprune_agents.make(spec)
    columns = columns_read(agent)
    if columns is not None and recorded:
        columns = (*columns, *RunLog.READS)
    env = DynPruneVectorEnv(1, columns=columns, device="cpu", **agent.env_kwargs)
    env.reset(seed=0)
    return held_bytes(env.trainer.statistics) / env.settings.num_samples
