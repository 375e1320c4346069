"""A start for the scorer: imitate a teacher who knows which labels are wrong.

In training the environment says which labels were redrawn. A teacher who looks it
up keeps the highest losses among the right labels, the more so the better the model is, and what
was not visited for long. The scorer learns to predict the teacher's scores from what every policy
may see, in the states that it meets when it plays itself (DAgger; Ross, Gordon & Bagnell 2011,
arXiv:1011.0686); evolution strategies then improve it on what counts, the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn

from dynprune_agents._agent import Agent
from dynprune_agents.learning.mixture import FIRST_SEED, TaskDraw
from dynprune_agents.policies._features import CONTEXT_FEATURES, SAMPLE_FEATURES, sample_features
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
        targets: (E, SAMPLES, ...) float32, what the teacher says of each.
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


Teacher = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
"""From what `teach` takes to (R, n, ...) float32."""


def collect(
    draw: TaskDraw,
    agent: Agent,
    seed: int,
    replicas: int = 4,
    teacher: Teacher = teach,
    share: float = 1.0,
) -> Examples:
    """Plays an agent, and notes what the teacher says at every epoch.

    Args:
        draw: what is played.
        agent: the agent.
        seed: of the runs, and of which samples become examples.
        replicas: R, runs side by side.
        teacher: gives the targets.
        share: of the epochs of each run that are noted, drawn at random.

    Returns:
        SAMPLES examples of each noted epoch of each run.
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
        said = teacher(observation, envs.dataset.corrupted)
        for row in np.flatnonzero(~ended):
            if share < 1 and rng.random() >= share:
                continue
            chosen = rng.choice(episode.num_samples, SAMPLES)
            samples.append(features[0][row, chosen])
            run.append(features[1][row])
            targets.append(said[row, chosen])
        steps += int(np.count_nonzero(~ended))
        observation, rewards, ended, _, infos = envs.step(agent.select(observation))
        returns += rewards
    visits = int(infos["run_visits"].sum())
    envs.close()
    each = SAMPLES, *said.shape[2:]
    shapes = (SAMPLES, len(SAMPLE_FEATURES)), (len(CONTEXT_FEATURES),), each
    noted = [
        np.array(kind, dtype=np.float32).reshape(len(kind), *shape)  # there may be none
        for kind, shape in zip((samples, run, targets), shapes, strict=True)
    ]
    return Examples(noted[0], noted[1], noted[2], returns, steps, visits)


def fit(scorer: Scorer, examples: list[Examples], seed: int, passes: int = 10) -> np.ndarray:
    """Parameters, (P,) float32, whose scores predict the targets (least squares, Adam).

    An offset shared by all samples of a run changes no selection, so both sides are centred.
    """

    def error(scores: Tensor, _: Tensor | None, targets: Tensor) -> Tensor:
        centred = scores - scores.mean(1, keepdim=True)
        return (centred - (targets - targets.mean(1, keepdim=True))).square().mean()

    found, _ = descend(scorer, examples, error, seed, passes, 0.02)
    scorer.split(found)["bias"][0] = np.log10(TEMPERATURE)
    return found


def descend(
    scorer: Scorer,
    examples: Sequence[Examples],
    error: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    seed: int,
    passes: int,
    rate: float,
) -> tuple[np.ndarray, float]:
    """Parameters, (P,) float32, of least error (Adam, one cycle), and the last pass's mean error.

    Args:
        scorer: the network's shape.
        examples: what it learns from.
        error: of scores (E, SAMPLES), and log2 of gradient weights if it gives any, against
            targets, one number.
        seed: of the start and of the batches.
        passes: over all examples.
        rate: the learning rate at its peak.
    """
    samples, run, targets = (
        torch.from_numpy(np.concatenate([getattr(each, name) for each in examples]))
        for name in ("samples", "run", "targets")
    )
    rng = np.random.default_rng(seed)
    flat = nn.Parameter(torch.from_numpy(scorer.initial(rng)))
    optimizer = torch.optim.Adam([flat], lr=rate)
    batches = -(-len(samples) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, passes * batches)
    errors = []
    for _ in range(passes):
        for ids in np.array_split(rng.permutation(len(samples)), batches):
            parameters = scorer.split(flat)
            hidden, scores = scorer.score(parameters, samples[ids], run[ids], torch.tanh)
            weights = None
            if scorer.max_weight:
                outer = run[ids] @ parameters["outer"][:, 2:] + parameters["bias"][2:]
                own = (hidden @ parameters["v"][..., None])[..., 0]
                weights = scorer.max_weight * torch.tanh(own + outer)  # as in `Scorer.forward`
            now = error(scores, weights, targets[ids])
            optimizer.zero_grad()
            now.backward()
            optimizer.step()
            schedule.step()
            errors.append(now.item())
    return flat.detach().numpy(), float(np.mean(errors[-batches:]))


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
