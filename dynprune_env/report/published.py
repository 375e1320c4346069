"""Published accuracies of these rules with ResNet-18, to be read beside one's own, never mixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dynprune_env.report.summary import Row
from dynprune_env.report.tables import Grid

SETA = "Zhou et al. 2025 (SeTa), the authors' table"
ORDERDP = "OrderDP 2026, quoted second-hand"
DATA_AGENT = "Data Agent 2026; best, not last, test accuracy"
SOURCES = (SETA, ORDERDP, DATA_AGENT)
BUDGETS = (0.7, 0.5, 0.3)
"""What is left of a full run's visits when 30, 50 and 70 % are pruned."""

Figures = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Published:
    """What a paper reports of a rule.

    Attributes:
        method: as the paper has it.
        agent: the agent here that follows the same rule, or None.
        cifar10: test accuracy in percent with 30, 50 and 70 % pruned, None where it is not given.
        cifar100: likewise.
        source: where the figures are from.
    """

    method: str
    agent: str | None
    cifar10: Figures
    cifar100: Figures
    source: str = SETA


FULL = Published("full data", "full_data", (95.6,) * 3, (78.2,) * 3)
PUBLISHED = (
    Published("static random", "static_random", (94.6, 93.3, 90.2), (73.8, 72.1, 69.7)),
    Published("dynamic random", "dynamic_random", (94.8, 94.5, 93.0), (77.3, 75.3, None)),
    Published("epsilon-greedy", "epsilon_greedy", (95.2, 94.9, 94.1), (76.4, 74.8, None)),
    Published("UCB", "ucb", (95.3, 94.7, 93.9), (77.3, 75.3, None)),
    Published("InfoBatch, fewer epochs", "infobatch", (95.6, 95.1, 94.7), (78.2, 78.1, 76.5)),
    Published("InfoBatch, same epochs", None, (95.3, 95.0, 94.3), (79.2, 78.2, None)),
    Published("SeTa", "seta", (95.7, 95.3, 95.0), (79.4, 79.0, 77.7)),
    Published("OrderDP", "orderdp", (None, 95.3, 95.0), (None, 77.9, 76.7), ORDERDP),
    Published("Data Agent", None, (None, 95.25, None), (None, 78.93, None), DATA_AGENT),
)
ENVIRONMENTS = {"DynPrune-CIFAR10-v0": "cifar10", "DynPrune-CIFAR100-v0": "cifar100"}


def published_tables(rows: Iterable[Row]) -> list[Grid]:
    """One table per environment and variant for which there are published figures."""
    panels: dict[tuple[str, str], dict[tuple[str, float], Row]] = {}
    for row in rows:
        if row.env in ENVIRONMENTS and "label_noise" not in row.variant:
            panels.setdefault((row.env, row.variant), {})[row.agent, row.budget] = row
    headers = [f"publ.\n-{100 - 100 * budget:.0f} %" for budget in BUDGETS]
    headers += [f"ours\n-{100 - 100 * budget:.0f} %" for budget in BUDGETS]
    return [
        Grid(
            f"Published figures beside ours: {env}" + (f" ({variant})" if variant else ""),
            ["method", *headers, "source"],
            [_cells(each, env, found) for each in (FULL, *PUBLISHED)],
            "Test accuracy in percent with 30, 50 and 70 % of the visits pruned. Publ(ished): "
            "ResNet-18, 200 epochs; what they pruned is nominal. Ours: mean over seeds, in "
            "brackets the percentage truly saved; - where nothing was run. Sources: "
            + "; ".join(f"[{number}] {name}" for number, name in enumerate(SOURCES, 1))
            + ".",
            text_columns=(0, 7),
        )
        for (env, variant), found in panels.items()
    ]


def _cells(each: Published, env: str, found: dict[tuple[str, float], Row]) -> list[str]:
    figures: Figures = getattr(each, ENVIRONMENTS[env])
    cells = [each.method, *("-" if figure is None else str(figure) for figure in figures)]
    for budget in BUDGETS:
        row = found.get((each.agent or "", 1.0 if each is FULL else budget))
        cells.append(f"{100 * row.accuracy:.2f} ({100 * row.saved:.0f})" if row else "-")
    return [*cells, f"[{SOURCES.index(each.source) + 1}]"]
