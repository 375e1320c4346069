"""Evolution strategies: perturbed networks play the same runs, the better ones count.

Salimans et al. (2017), arXiv:1703.03864: antithetic perturbations, returns shaped by rank, Adam.
Ranking within one draw makes easy and hard tasks count alike; all members of a draw share its
initial model, its orders and its Gumbel noise, so that they differ in nothing but the network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from dynprune_agents._agent import Agent, check_shares
from dynprune_agents.learning.candidates import (
    PLANNING,
    Network,
    Played,
    play_draw,
    playing,
)
from dynprune_agents.learning.imitation import (
    Examples,
    collect,
    fit,
    load_examples,
    save_examples,
)
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture
from dynprune_agents.policies._files import MOST_BOUND, load_scorer, named, save_scorer
from dynprune_agents.policies._networks import Planner, Scorer
from dynprune_env.common.checks import real, whole
from dynprune_env.common.pulse import beat, doing
from dynprune_env.envs.relative import centred_ranks

IMITATION_ROUNDS = 3


@dataclass(frozen=True)
class EvolutionSettings:
    """How to search.

    Attributes:
        width: hidden units of the scorer.
        max_spend: bound of the spend exponent; 0 keeps the even pace. None for 2.0, or that of the
            policy to go on from.
        max_weight: bound of the log2 of gradient weights; 0 trains plain masks. None for 0.0, or
            that of the policy to go on from.
        members: networks per draw, in antithetic pairs.
        sigma: standard deviation of the perturbations.
        learning_rate: of Adam, at the start; it falls linearly to a tenth over the training.
        decay: weight decay per generation.
        average: decay of the averaged parameters, which are the result.
        loss_share: weight of the final val loss in a draw's ranking; the rest is the return's. The
            loss tells apart what differs by less than one val sample.
        imitation: draws for the start by imitation (see `imitation`), at least one for each of its
            three rounds; 0 starts as dynamic random.
    """

    width: int = 12
    max_spend: float | None = None
    max_weight: float | None = None
    members: int = 16
    sigma: float = 0.06
    learning_rate: float = 0.012
    decay: float = 0.0005
    average: float = 0.98
    loss_share: float = 0.5
    imitation: int = 60

    def __post_init__(self) -> None:
        """Checks what would end in an error later.

        Raises:
            ValueError: one is out of its range, the members are no pairs, or the draws do not fill
                the rounds.
        """
        whole("width", self.width, 1)
        if whole("members", self.members, 2) % 2:
            raise ValueError(f"members is an even number, got {self.members}")
        for name in ("max_spend", "max_weight"):
            if getattr(self, name) is not None:
                real(f"{name} is a bound", getattr(self, name), f"[0, {MOST_BOUND}]")
        for name in ("sigma", "learning_rate"):
            real(f"{name} is a number", getattr(self, name), "(0, inf)")
        for name in ("decay", "average"):
            real(f"{name} is a share", getattr(self, name), "[0, 1)")
        check_shares(loss_share=self.loss_share)
        whole("imitation", self.imitation, 0)
        if 0 < self.imitation < IMITATION_ROUNDS:
            raise ValueError(f"imitation is 0 or at least {IMITATION_ROUNDS}, got {self.imitation}")

    def scorer(self, start: Scorer | None = None) -> Scorer:
        """The network that is searched.

        Args:
            start: the one to go on from: the new one is as wide at least, and has its bounds where
                none were given.
        """
        other = start or Scorer(self.width)
        bounds = {"max_spend": self.max_spend, "max_weight": self.max_weight}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        return replace(other, width=max(other.width, self.width), **given)


class EvolutionTrainer:
    """Improves a scorer or a planner generation by generation; see `PolicyTrainer`.

    Args:
        mixture: what tasks are drawn from.
        num_envs: training runs per generation, of num_envs / members draws.
        seed: of everything.
        steps: environment steps that are planned, for the learning rate.
        settings: how to search.
        jobs: processes; they change the time, not the result.
        start: a policy to go on from, by name or path; None begins with the imitation.
        action: "mask" trains a scorer, "tilts" a planner.

    Raises:
        ValueError: num_envs is not a multiple of the members of a draw, or the policy to go on
            from plays otherwise within the bounds of the settings.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        num_envs: int = 64,
        seed: int = 0,
        steps: int = 500_000,
        settings: EvolutionSettings | None = None,
        jobs: int = 1,
        start: str | None = None,
        action: str = "mask",
    ):
        self.plans = action == "tilts"
        if self.plans and start is not None:
            raise ValueError("--start takes a scorer, which --action tilts is not")
        settings = settings or EvolutionSettings()
        begin = None if start is None else load_scorer(start)
        scorer = settings.scorer(begin[0] if begin else None)
        self.settings = replace(settings, max_spend=scorer.max_spend, max_weight=scorer.max_weight)
        members = self.settings.members
        if num_envs % members or num_envs < members:
            raise ValueError(f"--envs must be a multiple of members={members}, got {num_envs}")
        if self.plans:
            fixed = PLANNING
        else:
            action = "weights" if scorer.max_weight else "mask"
            fixed = {"observation": "samples", "action": action}
        self.mixture = replace(mixture, env_kwargs={**mixture.env_kwargs, **fixed})
        self.mixture.check()
        self.num_draws = num_envs // members
        self.seed = seed
        self.planned = steps
        self.jobs = jobs
        self.generation = self.steps = self.visits = 0
        self.seconds_in_env = 0.0
        self.start = named(start)
        rng = np.random.default_rng([seed, 1])
        self.network: Network = Planner(settings.width) if self.plans else scorer
        first = scorer.load_from(*begin, rng) if begin else self.network.initial(rng)
        self.started = self.plans or start is not None or self.settings.imitation == 0
        self.mean = first.astype(np.float64)
        self.first, self.second = np.zeros_like(self.mean), np.zeros_like(self.mean)
        self.averaged = self.mean.copy()
        self.examples: list[Examples] = []
        self.between: Callable[[], None] = lambda: None

    def advance(self) -> dict[str, float]:
        """One generation; before the first, the start by imitation."""
        return self._evolve() if self.started else self._imitate()

    def _imitate(self) -> dict[str, float]:
        """Rounds of play: as dynamic random, then as what was learned from all rounds before."""
        start = time.perf_counter()
        rng = np.random.default_rng([self.seed, 4])
        assert isinstance(self.network, Scorer)
        count = self.settings.imitation // IMITATION_ROUNDS
        for number in range(IMITATION_ROUNDS):
            draws = [self.mixture.draw(rng) for _ in range(count)]
            seeds = rng.integers(FIRST_SEED, 1 << 31, size=count)
            done = len(self.examples) - number * count  # of this round, before a checkpoint
            if done >= count:
                continue
            agent = self.agent()
            rest = list(zip(draws, seeds, strict=True))[done:]
            with doing(f"imitation, round {number + 1} of {IMITATION_ROUNDS}"):
                beat(done / count)
                for played in self._in_order(
                    delayed(collect)(draw, agent, int(seed)) for draw, seed in rest
                ):
                    self.examples.append(played)
                    if len(self.examples) < (number + 1) * count:
                        beat(len(self.examples) / count - number)
                        start = self._rest(start)
                self.mean = fit(self.network, self.examples, self.seed).astype(np.float64)
                self.averaged = self.mean.copy()
                beat(1.0)
                start = self._rest(start)
        self.started = True
        self.steps += sum(each.steps for each in self.examples)
        self.visits += sum(each.visits for each in self.examples)
        self.seconds_in_env += time.perf_counter() - start
        found = float(np.mean([each.returns.mean() for each in self.examples]))
        self.examples.clear()
        return {"return": found}

    def _rest(self, start: float) -> float:
        """Where the state is whole: counts the seconds so far, and lets it be saved."""
        now = time.perf_counter()
        self.seconds_in_env += now - start
        self.between()
        return time.perf_counter()

    def _in_order(self, calls: Iterable[Any]) -> Iterator[Any]:
        """What some calls give, one after the other as soon as each is there."""
        found: Iterator[Any] = Parallel(n_jobs=self.jobs, return_as="generator")(calls)
        return found

    def _evolve(self) -> dict[str, float]:
        settings, half = self.settings, self.settings.members // 2
        rng = np.random.default_rng([self.seed, 2, self.generation])
        noise = rng.standard_normal((self.num_draws, half, len(self.mean)))
        noise = np.concatenate([noise, -noise], axis=1)
        draws = [self.mixture.draw(rng) for _ in range(self.num_draws)]
        seeds = rng.integers(FIRST_SEED, 1 << 31, size=self.num_draws)
        flat = (self.mean + settings.sigma * noise).astype(np.float32)
        jobs = zip(draws, flat, seeds, strict=True)
        played: list[Played] = []
        with doing(f"generation {self.generation + 1}"):
            for each in self._in_order(
                delayed(play_draw)(draw, self.network, rows, int(seed)) for draw, rows, seed in jobs
            ):
                played.append(each)
                beat(len(played) / self.num_draws)
                if len(played) < self.num_draws:
                    self.between()
        shaped = np.stack([self.shaped(each) for each in played])
        slope = np.einsum("gm,gmp->p", shaped, noise) / (shaped.size * settings.sigma)
        self._update(slope)
        self.steps += sum(each.steps for each in played)
        self.visits += sum(each.visits for each in played)
        self.seconds_in_env += sum(each.seconds for each in played)
        self.generation += 1
        return {"return": float(np.mean([each.returns.mean() for each in played]))}

    def shaped(self, played: Played) -> np.ndarray:
        """(m,) in [-1/2, 1/2]: ranks by return and, with their share, by final val loss."""
        share = self.settings.loss_share
        by_return, by_loss = centred_ranks(played.returns), centred_ranks(-played.val_loss)
        return (1 - share) * by_return + share * by_loss

    def _update(self, slope: np.ndarray) -> None:
        """Adam (Kingma & Ba 2015) uphill, weight decay, and the average."""
        settings, t = self.settings, self.generation + 1
        self.first += 0.1 * (slope - self.first)
        self.second += 0.001 * (slope**2 - self.second)
        step = self.first / (1 - 0.9**t) / (np.sqrt(self.second / (1 - 0.999**t)) + 1e-8)
        rate = settings.learning_rate * max(0.1, 1 - 0.9 * self.steps / self.planned)
        self.mean += rate * step - settings.decay * self.mean
        weight = max(1 - settings.average, 1 / t)
        self.averaged += weight * (self.mean - self.averaged)

    def agent(self) -> Agent:
        """The averaged network."""
        return playing(self.network, self.averaged.astype(np.float32))

    def save(self, path: Path) -> None:
        """Writes the averaged network; a planner as a policy of Stable-Baselines3."""
        origin = {
            "algorithm": "evolution strategies",
            "mixture": asdict(self.mixture),
            "settings": asdict(self.settings),
            "seed": self.seed,
            "start": self.start,
            "generations": self.generation,
            "steps": self.steps,
            "visits": self.visits,
        }
        flat = self.averaged.astype(np.float32)
        if isinstance(self.network, Scorer):
            save_scorer(path, self.network, flat, origin)
        else:
            from dynprune_agents.learning.sb3_planner import save_planner  # slow to import

            save_planner(path, self.network, flat, origin)

    _ARRAYS = ("mean", "first", "second", "averaged")
    _COUNTS = ("started", "generation", "steps", "visits", "seconds_in_env")

    def save_checkpoint(self, folder: Path) -> None:
        """Writes the state of the search."""
        np.savez(folder / "search.npz", **{name: getattr(self, name) for name in self._ARRAYS})
        counts = {name: getattr(self, name) for name in self._COUNTS}
        (folder / "search.json").write_text(json.dumps(counts), encoding="utf-8")
        save_examples(folder / "examples.npz", self.examples)

    def load_checkpoint(self, folder: Path) -> None:
        """Goes on from a checkpoint."""
        with np.load(folder / "search.npz", allow_pickle=False) as file:
            for name in self._ARRAYS:
                setattr(self, name, file[name])
        for name, value in json.loads((folder / "search.json").read_text(encoding="utf-8")).items():
            setattr(self, name, value)
        self.examples = load_examples(folder / "examples.npz")
