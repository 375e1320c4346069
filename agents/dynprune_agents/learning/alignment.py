"""A start for the scorer: predict whose gradient points where the val loss falls.

To first order, a gradient step on sample i lowers the val loss by its rate times the inner product
of the sample's gradient and the val gradient (the influence of TracIn; Pruthi et al. 2020,
arXiv:2002.08484). Differentiating twice gives it for all samples at once. A scorer that predicts
it from the features is greedy, looks one step ahead, and never needs the
val gradient again; evolution strategies then improve it on what counts, the end of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn

from dynprune_agents._features import sample_features
from dynprune_agents._scorer import SCALE, Scorer
from dynprune_agents.dynamic_random import DynamicRandom
from dynprune_agents.learning.mixture import FIRST_SEED, Game
from dynprune_env.trainer import Trainer

SAMPLES = 128
"""Samples of each epoch of each run that become examples."""


@dataclass(frozen=True)
class Examples:
    """What one game gave.

    Attributes:
        samples: (E, SAMPLES, F) float32, features.
        run: (E, G) float32, features.
        targets: (E, SAMPLES) float32, alignments standardised over the run's samples.
        returns: (R,) sums of the rewards.
        steps: environment steps.
        visits: sample visits, a visit charged for each alignment too.
    """

    samples: np.ndarray
    run: np.ndarray
    targets: np.ndarray
    returns: np.ndarray
    steps: int
    visits: int


def alignment(trainer: Trainer, row: int) -> np.ndarray:
    """Inner product of each train sample's gradient with the val gradient, (n,) float32, nats."""
    model = trainer.learner.module(row).eval()
    parameters = list(model.parameters())

    def losses(split: str) -> Tensor:
        data = getattr(trainer.dataset, split)
        ids = torch.arange(len(data), device=data.labels.device)
        logits = model(trainer.learner.images[split].batch(ids))
        return F.cross_entropy(logits, data.labels, reduction="none")

    towards = torch.autograd.grad(losses("val").mean(), parameters)
    # The derivative by a sample's weight of (gradient of the weighted loss) · (val gradient).
    train = losses("train")
    weights = torch.ones_like(train, requires_grad=True)
    slopes = torch.autograd.grad((weights * train).sum(), parameters, create_graph=True)
    inner = torch.stack([(one * other).sum() for one, other in zip(slopes, towards, strict=True)])
    return torch.autograd.grad(inner.sum(), weights)[0].cpu().numpy()


def collect(game: Game, seed: int, replicas: int = 6) -> Examples:
    """Plays dynamic random, and notes at every epoch who would have helped."""
    rng = np.random.default_rng(seed)
    envs = game.make(replicas, AutoresetMode.DISABLED)
    seeds = [int(s) for s in rng.integers(FIRST_SEED, 1 << 31, size=replicas)]
    observation, _ = envs.reset(seed=seeds)
    episode, agent = envs.episode(seeds), DynamicRandom()
    agent.reset(episode)
    samples, run, targets = [], [], []
    returns, ended, steps, visits = np.zeros(replicas), np.zeros(replicas, dtype=bool), 0, 0
    while not ended.all():
        features = sample_features(observation, episode.epochs, episode.num_classes)
        for row in np.flatnonzero(~ended):
            if not observation["visits"][row].any():
                continue  # a model that was never trained says nothing
            aligned = alignment(envs.trainer, int(row))
            aligned = (aligned - aligned.mean()) / max(float(aligned.std()), 1e-12)
            chosen = rng.choice(len(aligned), SAMPLES, replace=len(aligned) < SAMPLES)
            samples.append(features[0][row, chosen])
            run.append(features[1][row])
            targets.append(np.clip(aligned[chosen], -3, 3))
            visits += len(aligned)
        steps += int(np.count_nonzero(~ended))
        observation, rewards, ended, _, infos = envs.step(agent.select(observation))
        returns += rewards
    visits += int(infos["visits"].sum())
    envs.close()
    return Examples(np.stack(samples), np.stack(run), np.stack(targets), returns, steps, visits)


def fit(scorer: Scorer, examples: list[Examples], seed: int, passes: int = 30) -> np.ndarray:
    """Parameters, (P,) float32, whose scores predict the targets (least squares, Adam).

    An offset shared by all samples of a run changes no selection, so both sides are centred.
    """
    samples, run, targets = (
        torch.from_numpy(np.concatenate([getattr(each, name) for each in examples]))
        for name in ("samples", "run", "targets")
    )
    rng = np.random.default_rng(seed)
    flat = nn.Parameter(torch.from_numpy(scorer.initial(rng)))
    optimizer = torch.optim.Adam([flat], lr=0.02)
    batches = -(-len(samples) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, passes * batches)
    sizes = [int(np.prod(shape)) for shape in scorer.shapes.values()]
    for _ in range(passes):
        for ids in np.array_split(rng.permutation(len(samples)), batches):
            parts = zip(scorer.shapes.items(), flat.split(sizes), strict=True)
            p = {name: part.view(shape) for (name, shape), part in parts}
            hidden = torch.tanh(samples[ids] @ p["A"] + (run[ids] @ p["B"] + p["b"])[:, None])
            scores = SCALE * (hidden @ p["w"])
            error = (scores - scores.mean(1, keepdim=True) - targets[ids]).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
    return flat.detach().numpy()
