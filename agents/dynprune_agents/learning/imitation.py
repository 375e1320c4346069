"""A start for the scorer: imitate a teacher who knows which labels are wrong.

In training the environment says which labels were redrawn. A teacher who looks it
up keeps the highest losses among the right labels, the more so the better the model is, and what
was not visited for long. The scorer learns to predict the teacher's scores from what every policy
may see, in the states that it meets when it plays itself (DAgger; Ross, Gordon & Bagnell 2011,
arXiv:1011.0686); evolution strategies then improve it on what counts, the end of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from dynprune_agents._agent import Agent
from dynprune_agents.learning.mixture import FIRST_SEED, TaskDraw
from dynprune_agents.policies._features import sample_features
from dynprune_agents.policies._networks import Scorer
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import standardise

SAMPLES = 64
"""Samples of each epoch of each run that become examples."""

TEMPERATURE = 0.3
"""Of the noise of the start: nearly the top scores."""


@dataclass(frozen=True)
class Examples:
    """What one draw gave.

    Attributes:
        samples: (E, SAMPLES, F) float32, features.
        run: (E, G) float32, features.
        targets: (E, SAMPLES) float32, the teacher's scores.
        returns: (replicas,) sums of the rewards.
        steps: environment steps.
        visits: sample visits.
    """

    samples: np.ndarray
    run: np.ndarray
    targets: np.ndarray
    returns: np.ndarray
    steps: int
    visits: int


def teach(observation: dict[str, np.ndarray], corrupted: np.ndarray) -> np.ndarray:
    """The teacher's scores, (R, n) float32.

    Args:
        observation: of kind `samples`, (R, n) columns and `progress`.
        corrupted: (n,) bool, whether a label is wrong.
    """
    accuracy = progress_entries(observation["progress"])["val_accuracy"][:, None]
    trust = np.clip(1.4 * accuracy - 0.42, 0, 0.7)  # hard samples teach a weak model little
    scores = trust * standardise(observation["loss_mean"]) + 0.8 * standardise(observation["age"])
    found: np.ndarray = (scores - 4.0 * corrupted).astype(np.float32)
    return found


def collect(draw: TaskDraw, agent: Agent, seed: int, replicas: int = 4) -> Examples:
    """Plays an agent, and notes the teacher's scores at every epoch.

    Args:
        draw: what is played.
        agent: the agent.
        seed: of the runs, and of which samples become examples.
        replicas: R, runs side by side.

    Returns:
        SAMPLES examples of each epoch of each run.
    """
    rng = np.random.default_rng(seed)
    envs = draw.make(replicas, AutoresetMode.DISABLED)
    seeds = [int(s) for s in rng.integers(FIRST_SEED, 1 << 31, size=replicas)]
    observation, _ = envs.reset(seed=seeds)
    episode = envs.episode(seeds)
    agent.reset(episode)
    samples, run, targets = [], [], []
    returns, ended, steps = np.zeros(replicas), np.zeros(replicas, dtype=bool), 0
    while not ended.all():
        features = sample_features(observation, episode.epochs, episode.num_classes)
        scores = teach(observation, envs.dataset.corrupted)
        for row in np.flatnonzero(~ended):
            chosen = rng.choice(episode.num_samples, SAMPLES)
            samples.append(features[0][row, chosen])
            run.append(features[1][row])
            targets.append(scores[row, chosen])
        steps += int(np.count_nonzero(~ended))
        observation, rewards, ended, _, infos = envs.step(agent.select(observation))
        returns += rewards
    visits = int(infos["run_visits"].sum())
    envs.close()
    return Examples(np.stack(samples), np.stack(run), np.stack(targets), returns, steps, visits)


def fit(scorer: Scorer, examples: list[Examples], seed: int, passes: int = 10) -> np.ndarray:
    """Parameters, (P,) float32, whose scores predict the targets (least squares, Adam).

    An offset shared by all samples of a run changes no selection, so both sides are centred.
    """
    samples, run, targets = (
        torch.from_numpy(np.concatenate([getattr(each, name) for each in examples]))
        for name in ("samples", "run", "targets")
    )
    targets = targets - targets.mean(1, keepdim=True)
    rng = np.random.default_rng(seed)
    flat = nn.Parameter(torch.from_numpy(scorer.initial(rng)))
    optimizer = torch.optim.Adam([flat], lr=0.02)
    batches = -(-len(samples) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, passes * batches)
    for _ in range(passes):
        for ids in np.array_split(rng.permutation(len(samples)), batches):
            parameters = scorer.split(flat)
            _, scores = scorer.score(parameters, samples[ids], run[ids], torch.tanh)
            error = (scores - scores.mean(1, keepdim=True) - targets[ids]).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
    found = flat.detach().numpy()
    scorer.split(found)["bias"][0] = np.log10(TEMPERATURE)
    return found


def save_examples(path: Path, examples: Sequence[Examples]) -> None:
    """Writes what was played so far as an .npz of plain arrays."""
    arrays = {
        f"{name}_{place}": np.asarray(value)
        for place, each in enumerate(examples)
        for name, value in vars(each).items()
    }
    np.savez(path, count=np.array(len(examples)), **arrays)  # type: ignore[arg-type]


def load_examples(path: Path) -> list[Examples]:
    """Reads what `save_examples` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return [
            Examples(
                *(file[f"{name}_{place}"] for name in ("samples", "run", "targets", "returns")),
                *(int(file[f"{name}_{place}"]) for name in ("steps", "visits")),
            )
            for place in range(int(file["count"]))
        ]
