"""What lies outside a panel is marked at its edge: costly rules, and agents that collapsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.common.palette import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGE: dict[str, Any] = {"color": MUTED, "linestyle": "none", "markersize": 4, "clip_on": False}
COLLAPSED = 10
"""So many points below the baselines an agent has collapsed: it would squeeze the others."""


def at_most_a_full_run(shares: list[float]) -> list[float]:
    """The percentages up to 100, or all if there are none: a costly rule would squeeze the rest."""
    return [share for share in shares if share < 100.01] or shares


def mark_outside(axes: Axes) -> bool:
    """Marks the points that lie outside at the edge; says whether there are any."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    marked = False
    for line in [line for line in axes.get_lines() if line.get_marker() not in ("None", "")]:
        x, y = (np.asarray(values, float) for values in line.get_data())
        beside = (x < left) | (x > right)
        for marker, out in (("<", x < left), (">", x > right), ("v", ~beside & (y < bottom))):
            if out.any():
                places = x[out].clip(left, right), y[out].clip(bottom, top)
                look = {**EDGE, "color": line.get_color(), "marker": marker}
                axes.plot(*places, **look)
                marked = True
    return marked


def mark_costly_ends(axes: Axes) -> bool:
    """Ends the axis of curves at a full run, and marks those that go on; says whether any do."""
    lines = axes.get_lines()
    ends = [np.asarray(line.get_xydata(), float)[-1].tolist() for line in lines]
    limit = 1.05 * max(at_most_a_full_run([x for x, _ in ends]))
    beyond = [(line, y) for line, (x, y) in zip(lines, ends, strict=True) if x > limit]
    if beyond:
        axes.set_xlim(right=limit)
    for line, y in beyond:
        axes.plot(limit, y, **{**EDGE, "color": line.get_color(), "marker": ">"})
    return bool(beyond)
