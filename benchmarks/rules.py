"""One row a rule: where it is from, what it was compared with, and where it differs on purpose.

python -m benchmarks.rules

Name, class and source are those of the registry; which tests compute it by hand is read from the
names of the tests. The facts below are kept by hand: a rule without an
entry, or an entry without a rule, is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import typer

import dynprune_agents
from dynprune_env.common.files import atomic_write
from dynprune_env.report.tables import Grid

TESTS = Path(__file__).parents[1] / "tests"
ELSEWHERE = {"learned": "policies/test_learned.py", "sb3": "policies/test_sb3_agent.py"}
"""Whose tests are not in tests/agents/."""

TITLES = {
    "es": "es|evolved_sampling",
    "eswp": "eswp|evolved_sampling",
    "random_progressive": "random_progressive|random_twin",
}
"""What tests call a rule, where not by its name; patterns."""


@dataclass(frozen=True)
class Fact:
    """What is known of a rule besides its tests by hand.

    Attributes:
        compared: with what else: the authors' code, a formula; or how far the source was read.
        differs: what it does otherwise than its source, on purpose; "" where nothing is.
    """

    compared: str = ""
    differs: str = ""


RAN, READ, SECOND_HAND = "the authors' code, run", "the authors' code, read", "second-hand"
UNBIASED = "simulation: contributions by loss (agents/test_unbiased.py, unbiased.md)"
PERIOD = "The period is a share of the run, 5 %; the source's is 10 of 200 epochs."
TRAIN_PASS = "Values are those of the training pass, as augmented."

FACTS: dict[str, Fact] = {
    "dynamic_random": Fact(f"{RAN}: RS2's disjoint blocks", "A fresh subset in every epoch."),
    "early_stopping": Fact("", "The model stays as it was at the stop, `patience` epochs late."),
    "full_data": Fact(),
    "random_control": Fact(),
    "static_random": Fact(),
    "cover": Fact(
        SECOND_HAND,
        "No policy is learned: the reward's maximiser at a fixed size, with squared distances, is "
        "ranked, and anew at every selection instead of once.",
    ),
    "dyn_impt": Fact(f"{SECOND_HAND}, the abstract", "All formulas are ours."),
    "dynamic_el2n": Fact(SECOND_HAND, "EL2N is that of each sample's last visit."),
    "emp": Fact(
        SECOND_HAND,
        "The entropy is that of (p, 1 - p) for the label's p, a lower bound; beta and the "
        "selection are ours.",
    ),
    "epsilon_greedy": Fact(
        f"{RAN}: counts and draws",
        PERIOD,
    ),
    "es": Fact(
        f"{SECOND_HAND}, the formulas as reviewers quote them",
        "An epoch is drawn at once after a forward pass over what was left out, not each batch "
        "after one over it.",
    ),
    "eswp": Fact(SECOND_HAND, "The second draw, inside each batch, is left out."),
    "ies": Fact(READ, "Forward passes over what is left out are charged."),
    "molpeg": Fact(
        READ,
        "Both losses are taken at the end of an epoch, not in every batch; ties are broken at "
        "random, not by position; the constant weight is left out; samples never seen come first, "
        "in theirs scores start at 1, so that larger changes come before them.",
    ),
    "orderdp": Fact(RAN),
    "pods": Fact(
        SECOND_HAND,
        "The schedule is our reading; rules that do not ask how many to keep are refused.",
    ),
    "progressive_dropout": Fact(
        READ,
        "An epoch is decided at once from the last forward pass over each sample, which is charged "
        "for dropped ones; the first epoch is full.",
    ),
    "random_progressive": Fact(READ, "As for progressive_dropout."),
    "rcap": Fact(READ, "Class shares are rounded to the size asked for; theirs round up."),
    "rho_loss": Fact(
        READ,
        "No holdout set: two models, each trained on one half and scoring the other; their "
        "training is charged.",
    ),
    "selective_backprop": Fact(
        f"{RAN}: probabilities, but for half a rank",
        "The percentile is that of the last known loss among all samples, not of a fresh one among "
        "the last 1,024.",
    ),
    "seta": Fact(
        READ,
        "K-means starts from the best groups of fine cells, not from random points, and from "
        "20,000 losses at most; samples not yet seen enter it at ln C, theirs at 3; the size of "
        "the random share is rounded, theirs truncated.",
    ),
    "small_loss": Fact("", "Lambda is a quantile of the last losses, which grows with the run."),
    "ucb": Fact(
        f"{RAN}: kept sets over 200 epochs",
        PERIOD,
    ),
    "align_prune": Fact(
        SECOND_HAND,
        "The clean reference is the val split; only epochs in which a sample was visited count.",
    ),
    "importance_sampling": Fact(
        f"{READ}; {UNBIASED}",
        "By the last known loss of all samples instead of a fresh bound in a large batch; without "
        "replacement, with exact inclusion probabilities (`replacement=True` draws as they do); "
        "a tenth of the distribution is uniform; always on.",
    ),
    "infobatch": Fact(
        f"{RAN}: sets and weights at whole T delta; {UNBIASED}",
        "After delta the weights are one, also where T delta is not whole. Of m easy samples int(r "
        "m) are dropped; theirs keep int((1 - r) m), one apart where that is not whole, and at "
        "least a tenth.",
    ),
    "kakurenbo": Fact(
        f"{READ}; {UNBIASED}",
        "The gradient is multiplied, not the learning rate; confidence is the label's probability "
        "(theirs is a softmax over the batch); F n is rounded, theirs truncated.",
    ),
    "random_infobatch": Fact(UNBIASED),
    "repb": Fact(
        f"{SECOND_HAND}; {UNBIASED}",
        "The used samples are dealt out to batches at random; their losses are those of the pass, "
        "not of one moment.",
    ),
    "aum": Fact(RAN, "Highest areas are kept, unless `hard`. " + TRAIN_PASS),
    "cartography": Fact(RAN, TRAIN_PASS),
    "ccs": Fact(
        f"{RAN}: the sampler; {READ}: softmax margins",
        "What was cut off comes back where all else does not fill the budget; `cut` is .2 at every "
        "budget, a fixed default, theirs goes with the share that is pruned.",
    ),
    "dual": Fact(READ, "The watched epochs are a scoring run, charged; none is free."),
    "dyn_unc": Fact(READ, "p is that of the training pass; theirs is in evaluation mode."),
    "el2n": Fact("", "A checkpoint's epochs and its forward pass are charged."),
    "forgetting": Fact(RAN, TRAIN_PASS),
    "grand": Fact(
        f"{RAN}; formula: one backward pass per sample",
        "A gradient is charged as a visit.",
    ),
    "tdds": Fact(
        READ,
        "Predictions are those of a charged forward pass after each epoch; the weighting of "
        "batches by the score is left out.",
    ),
    "exp3": Fact("", "Arms are windows of the loss distribution; rewards are scaled to [-1, 1]."),
    "linear_thompson": Fact(
        "formula: the posterior's covariance", "Older epochs fade; the reward is a visit's loss."
    ),
    "linucb": Fact(
        "formula: a discounted ridge regression", "Older epochs fade; the reward is a visit's loss."
    ),
    "thompson": Fact(
        "formula: the posterior", "Rewards are Gaussian; arms are strategies for an epoch."
    ),
    "ucb1": Fact("", "Arms are strategies for an epoch; rewards are scaled to [-1, 1]."),
    "learned": Fact(),
    "sb3": Fact("formula: the model's own `predict`"),
}


def tests_by_hand(name: str) -> list[str]:
    """The files below tests/ with a test that has the rule in its name."""
    if name in ELSEWHERE:
        return [ELSEWHERE[name]]
    title = TITLES.get(name, name)
    pattern = re.compile(rf"^def test_((?!dynamic_|random_)\w+_)?({title})s?_", re.MULTILINE)
    return [
        f"agents/{path.name}"
        for path in sorted(TESTS.glob("agents/test_*.py"))
        if path.name != "test_unbiased.py" and pattern.search(path.read_text(encoding="utf-8"))
    ]


def rows() -> list[list[str]]:
    """One per rule of the registry, by class.

    Raises:
        ValueError: a rule has no facts, or facts have no rule.
    """
    classes = dynprune_agents.classes()
    if missing := classes.keys() ^ FACTS.keys():
        raise ValueError(f"FACTS and the registry differ in {', '.join(sorted(missing))}")
    found = []
    for name, its_class in classes.items():
        fact, tests = FACTS[name], tests_by_hand(name)
        compared = [f"by hand: {', '.join(tests)}"] if tests else []
        compared += [fact.compared] if fact.compared else []
        source = dynprune_agents.agent_class(name).source
        told = "; ".join(compared) or "the tests of every agent"
        found.append([name, its_class, source, told, fact.differs or "-"])
    return found


def table() -> str:
    """The whole page, in Markdown."""
    found = rows()
    text = [
        "# The rules",
        "",
        f"Made by `python -m benchmarks.rules`: all {len(found)} agents. Compared, besides the "
        "tests that every agent passes: by hand, in the tests named (below `tests/`); with the "
        "authors' code, run side by side on the same losses, in what is named; by a formula or "
        "a simulation. "
        "*The authors' code, read* means that the rule was written from it; *second-hand* that it "
        "was known only from summaries, abstracts or others' words: what such a rule reaches is "
        "not what its paper reports.",
        "",
        Grid(
            "Source, comparison, and differences on purpose",
            ["rule", "class", "source", "compared with", "differs on purpose"],
            found,
            text_columns=range(5),
            code_columns=(0,),
        ).to_markdown(),
    ]
    return "\n".join(text)


def main(out: Path = Path("benchmarks/results/rules.md")) -> None:
    """Writes the table."""
    with atomic_write(out) as temporary:
        temporary.write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
