"""What the rules that weigh do to the expected gradient: contributions by loss, easy to hard.

python -m benchmarks.unbiased

Each rule plays many replicas of a run on made-up losses, without a model. A sample's contribution
to an epoch's sum of gradients is its weight, 0 where it is left out. Averaged over replicas, epochs
and the samples of a decile of the losses, 1 is what full data has, and a row of equal numbers is an
unbiased direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import typer

import dynprune_agents
from dynprune_env import Episode
from dynprune_env.common.files import atomic_write
from dynprune_env.report.tables import Grid
from dynprune_env.selection.budget import of_mean_one
from dynprune_env.selection.observations import PROGRESS

N, MEAN_LOSS = 1_000, 0.5


@dataclass(frozen=True)
class Length:
    """How long runs are, how many are played, and which of their epochs count."""

    epochs: int
    replicas: int
    measured: range


SHORT = Length(20, 200, range(1, 17))
"""From the second epoch on, and before InfoBatch and its kin keep everything."""
LONG = Length(1_000, 20, range(500, 1_000))
"""The second half: for a weight that is right only once a run has found its rates."""


@dataclass(frozen=True)
class Case:
    """A rule, three settings of it, what it claims, and for how long it plays."""

    rule: str
    settings: tuple[tuple[str, float], ...]
    """Specs, each with the budget that it plays under: for rules with a size knob, the share."""
    claim: str
    lengths: tuple[Length, ...] = (SHORT,)


def _settings(spec: str, values: tuple[float, ...]) -> tuple[tuple[str, float], ...]:
    return tuple((spec.format(value), 1.0) for value in values)


CASES = (
    Case(
        "infobatch",
        _settings("infobatch(r={})", (0.3, 0.5, 0.7)),
        "Raw: 1 in every decile, whatever r; the sum of gradients over an epoch is full data's.",
    ),
    Case(
        "random_infobatch",
        _settings("random_infobatch(r={})", (0.3, 0.5, 0.7)),
        "Raw: as InfoBatch, 1 in every decile.",
    ),
    Case(
        "importance_sampling",
        tuple(("importance_sampling()", share) for share in (0.1, 0.5, 1.0)),
        "Raw: the kept share in every decile; the mean gradient is full data's, and with "
        "everything kept it is full data itself.",
    ),
    Case(
        "importance_sampling, with replacement",
        tuple(("importance_sampling(replacement=True)", share) for share in (0.1, 0.5, 1.0)),
        "Raw: draws / n in every decile. Draws that fall on one sample are one visit, so fewer "
        "are kept than drawn.",
    ),
    Case(
        "repb",
        _settings("repb(rho={})", (0.3, 0.5, 0.7)),
        "Raw, late in a long run: 1 in every decile (T=1000). A weight is one over the share of "
        "the epochs so far that used the sample, which early in a run is not yet its rate: over a "
        "short one, such as the 20 epochs above, the rarely used ones fall short.",
        (SHORT, LONG),
    ),
    Case(
        "kakurenbo",
        _settings("kakurenbo(fraction={})", (0.1, 0.3, 0.5)),
        "None: hidden samples contribute nothing. Its factor 1 / (1 - F) makes up for the size of "
        "the sum, and only where the whole share F is hidden.",
    ),
    Case(
        "align_prune",
        _settings("align_prune(r={})", (0.3, 0.5, 0.7)),
        "Raw: as InfoBatch, which is its host, 1 in every decile.",
    ),
)


def made_up_losses(epochs: int) -> np.ndarray:
    """Losses after each epoch, (epochs, n) float64, by rising mean.

    They move by about a thousandth, up or down: nothing for a rule that goes by their size, and
    all that align_prune looks at.
    """
    rng = np.random.default_rng(0)
    base = np.sort(rng.exponential(MEAN_LOSS, N))
    slopes, noise = rng.normal(1, 1, N), rng.normal(0, 0.1, (epochs, N))
    moved: np.ndarray = np.linspace(0, 1, epochs)[:, None] * slopes + noise
    return base * (1 - 1e-3 * moved)


def contributions(
    spec: str, budget: float, length: Length = SHORT
) -> tuple[float, dict[str, np.ndarray]]:
    """The share of samples kept, and (replicas, deciles) raw and mean-one contributions."""
    epochs, replicas, measured = length.epochs, length.replicas, length.measured
    losses = made_up_losses(epochs)
    agent = dynprune_agents.make(spec)
    probe: Any = SimpleNamespace()  # no rule here looks at a model
    agent.reset(Episode(N, 10, epochs, budget, tuple(range(replicas)), probe))
    visits, age = np.zeros((replicas, N)), np.zeros((replicas, N))
    sums = {"raw": np.zeros((replicas, N)), "mean_one": np.zeros((replicas, N))}
    kept = 0.0
    for epoch in range(measured.stop):
        loss = losses[epoch]
        share = epoch / epochs
        known = {"epoch": share, "spent": share, "progress": share, "val_loss": 1 - 0.5 * share}
        progress = np.array([known.get(name, 0) for name in PROGRESS], dtype=np.float32)
        columns = {"loss": loss, "visits": visits, "age": age, "confidence": np.exp(-loss)}
        columns["correct"] = np.exp(-loss) > 0.5
        seen = {
            name: np.broadcast_to(values, (replicas, N)).astype(np.float32)
            for name, values in columns.items()
        }
        weights = agent.select({**seen, "progress": np.tile(progress, (replicas, 1))})
        used = weights > 0
        if epoch in measured:
            sums["raw"] += weights
            for row, mask in enumerate(used):
                sums["mean_one"][row, mask] += of_mean_one(weights[row, mask])
            kept += used.mean()
        visits += used
        age = np.where(used, 0, age + 1)
    deciles = {
        name: total.reshape(replicas, 10, N // 10).mean(2) / len(measured)
        for name, total in sums.items()
    }
    return kept / len(measured), deciles


def standard_errors(deciles: np.ndarray) -> np.ndarray:
    """Of the means over (replicas, deciles), (deciles,)."""
    errors: np.ndarray = deciles.std(0, ddof=1) / np.sqrt(len(deciles))
    return errors


def table(kind: str, title: str, found: list[tuple[str, float, dict[str, np.ndarray]]]) -> Grid:
    """One row per setting."""
    rows = []
    for label, kept, deciles in found:
        means = deciles[kind].mean(0)
        error = standard_errors(deciles[kind]).max() / means.mean()
        off = np.abs(means / means.mean() - 1).max()
        cells = [label, f"{kept:.2f}", f"{means.mean():.2f}", *(f"{mean:.2f}" for mean in means)]
        rows.append([*cells, f"{100 * off:.1f}", f"{100 * error:.1f}"])
    deciles_heads = [str(each) for each in range(1, 11)]
    headers = ["rule", "kept", "all", *deciles_heads, "off %", "error %"]
    return Grid(title, headers, rows, code_columns=(0,))


def _told(length: Length) -> str:
    first, last = length.measured.start + 1, length.measured.stop
    return f"{length.replicas} replicas, epochs {first} to {last} of {length.epochs}"


def main(out: Path = Path("benchmarks/results/unbiased.md")) -> None:
    """Simulates every rule that weighs, and writes a table for each way of weighing."""
    found = []
    for case in CASES:
        for length, (spec, budget) in product(case.lengths, case.settings):
            label = spec.replace("()", "") + (f" at {budget:g}" if "importance" in spec else "")
            label += "" if length == SHORT else f", T={length.epochs}"
            found.append((label, *contributions(spec, budget, length)))
    worst = max(
        float(standard_errors(each).max()) for *_, deciles in found for each in deciles.values()
    )
    if worst >= 0.01:
        raise RuntimeError(f"a standard error is {worst:.3f}: more replicas are needed")
    texts = [
        "# Expected contribution of a sample, by loss",
        "",
        "Made by `python -m benchmarks.unbiased`, without a model: "
        f"{N:,} samples with exponential losses of mean {MEAN_LOSS} (which move by about a "
        f"thousandth in the run), {_told(SHORT)}; in the rows of T={LONG.epochs}, {_told(LONG)}. "
        "Columns 1 to 10 are the deciles of the loss, easy to hard: "
        "the mean weight with which a sample enters an epoch's sum of gradients, 0 where it is "
        "left out; 1 is full data's. `all` is the mean of the ten, `kept` the share of samples "
        "kept, `off` how far the ten are from their mean at most, in percent of it (0 is full "
        "data's direction), `error` the largest standard error of the ten, in percent likewise.",
        "",
        table("raw", "Weights as the rule gives them", found).to_markdown(),
        table(
            "mean_one", "Weights scaled to a mean of one over what an epoch trains", found
        ).to_markdown(),
        "With a mean of one, the weights of an epoch add up to the number of samples kept: `all` "
        "is `kept`, whatever the rule, and every step is as large as one of full data. Each epoch "
        "is divided by its own mean weight, which is high where rare samples of large weight were "
        "drawn: at a keep share of a tenth, importance sampling leans a little against the easy "
        "for that, less so the more samples an epoch keeps.",
        "",
        "### What each rule claims",
        "",
        *(f"- `{case.rule}`: {case.claim}" for case in CASES),
        "",
    ]
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
