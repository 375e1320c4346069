"""Published accuracies of these rules with ResNet-18, to be read beside one's own, never mixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dynprune_env.report.summary import Row
from dynprune_env.report.tables import Grid

SETA = "Zhou et al. 2025 (SeTa), the authors' table"
BLS = "BLS (CVPR 2026), by the authors of SeTa, their table"
ORDERDP = "OrderDP 2026, quoted second-hand"
DATA_AGENT = "Data Agent 2026, its logs; best, not last, test accuracy"
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
    source: str
    full_cifar100: float | None = None
    """What all data reached on CIFAR-100 in the run that these figures belong to, where that is
    not the full-data row of the block."""


@dataclass(frozen=True)
class Block:
    """Figures that may be compared with each other, and with their own full-data row.

    Attributes:
        title: of its table.
        full: the full-data row; no figures where its source was not seen to give them.
        rows: the others.
    """

    title: str
    full: Published
    rows: tuple[Published, ...]

    @property
    def sources(self) -> list[str]:
        """Where its figures are from, in the order of the rows."""
        return list(dict.fromkeys(row.source for row in self.rows))


NOT_GIVEN: Figures = (None, None, None)


def _all_data(
    source: str, cifar10: float | None = None, cifar100: float | None = None
) -> Published:
    method = "full data" if cifar10 else "full data (not given)"
    return Published(method, "full_data", (cifar10,) * 3, (cifar100,) * 3, source)


PUBLISHED = (
    Block(
        "SeTa's table of 2025",
        _all_data(SETA, 95.6, 78.2),
        (
            Published(
                "static random", "static_random", (94.6, 93.3, 90.2), (73.8, 72.1, 69.7), SETA
            ),
            Published(
                "dynamic random", "dynamic_random", (94.8, 94.5, 93.0), (77.3, 75.3, None), SETA
            ),
            Published(
                "epsilon-greedy", "epsilon_greedy", (95.2, 94.9, 94.1), (76.4, 74.8, None), SETA
            ),
            Published("UCB", "ucb", (95.3, 94.7, 93.9), (77.3, 75.3, None), SETA),
            Published(
                "InfoBatch, fewer epochs", "infobatch", (95.6, 95.1, 94.7), (78.2, 78.1, 76.5), SETA
            ),
            Published(
                "InfoBatch, same epochs", None, (95.3, 95.0, 94.3), (79.2, 78.2, None), SETA, 79.3
            ),
            Published("SeTa", "seta", (95.7, 95.3, 95.0), (79.4, 79.0, 77.7), SETA, 79.3),
        ),
    ),
    Block(
        "BLS's table of 2026",
        _all_data(BLS),
        (
            Published("GraNd-4", "grand", (95.3, 94.6, 91.2), (74.6, 71.4, 68.8), BLS),
            Published("EL2N-20", "el2n", (95.3, 95.1, 91.9), (77.2, 72.1, None), BLS),
            Published("InfoBatch, same epochs", None, (95.6, 95.0, 94.4), (78.3, 77.7, None), BLS),
            Published("SeTa", "seta", NOT_GIVEN, (78.4, 78.0, 76.7), BLS),
        ),
    ),
    Block(
        "other papers",
        _all_data(f"{ORDERDP}; {DATA_AGENT}"),
        (
            Published("OrderDP", "orderdp", (None, 95.3, 95.0), (None, 77.9, 76.7), ORDERDP),
            Published("Data Agent", None, (None, 95.25, None), (None, 78.93, None), DATA_AGENT),
        ),
    ),
)
ENVIRONMENTS = {"DynPrune-CIFAR10-v0": "cifar10", "DynPrune-CIFAR100-v0": "cifar100"}


def published_tables(rows: Iterable[Row]) -> list[Grid]:
    """A table of each block, for every environment and variant that it has figures of."""
    panels: dict[tuple[str, str], dict[tuple[str, float], Row]] = {}
    for row in rows:
        if row.env in ENVIRONMENTS and "label_noise" not in row.variant:
            panels.setdefault((row.env, row.variant), {})[row.agent, row.budget] = row
    headers = [f"publ.\n-{100 - 100 * budget:.0f} %" for budget in BUDGETS]
    headers += [f"ours\n-{100 - 100 * budget:.0f} %" for budget in BUDGETS]
    return [
        Grid(
            f"Published figures beside ours, {block.title}: {env}"
            + (f" ({variant})" if variant else ""),
            ["method", *headers, "source"],
            [_cells(each, block, env, found) for each in (block.full, *block.rows)],
            _caption(block, env),
            text_columns=(0, 7),
        )
        for (env, variant), found in panels.items()
        for block in PUBLISHED
    ]


def _caption(block: Block, env: str) -> str:
    others = {row.full_cifar100 for row in block.rows} - {None}
    if ENVIRONMENTS[env] != "cifar100":
        others = set()
    return (
        "Test accuracy in percent with 30, 50 and 70 % of the visits pruned. Publ(ished): "
        "ResNet-18, 200 epochs; what they pruned is nominal: plain InfoBatch at r = .5 truly "
        "saved 36.6 % on CIFAR-10 and 31.2 % on CIFAR-100 in a public log. Compare figures within "
        "a table only. Ours: mean over seeds, in brackets the percentage truly saved; - where "
        "nothing was run or given. "
        + "".join(f"*: of a run in which all data reached {other}. " for other in others)
        + "Sources: "
        + "; ".join(f"[{number}] {name}" for number, name in enumerate(block.sources, 1))
        + "."
    )


def _cells(
    each: Published, block: Block, env: str, found: dict[tuple[str, float], Row]
) -> list[str]:
    figures: Figures = getattr(each, ENVIRONMENTS[env])
    mark = "*" if each.full_cifar100 and ENVIRONMENTS[env] == "cifar100" else ""
    cells = [each.method, *("-" if figure is None else f"{figure}{mark}" for figure in figures)]
    for budget in BUDGETS:
        row = found.get((each.agent or "", 1.0 if each is block.full else budget))
        cells.append(f"{100 * row.accuracy:.2f} ({100 * row.saved:.0f})" if row else "-")
    sources = [i for i, name in enumerate(block.sources, 1) if name == each.source]
    return [*cells, f"[{sources[0]}]" if sources else "-"]
