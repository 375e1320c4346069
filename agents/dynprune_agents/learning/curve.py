"""The picture of a training: returns, and the lead over dynamic random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynprune_env.common.files import written_whole


def plot_curve(
    updates: Sequence[dict[str, float]], evaluations: Sequence[dict[str, float]], path: Path
) -> None:
    """Writes a PNG.

    Args:
        updates: dicts with `steps` and `return`.
        evaluations: dicts with `steps`, `lead` and `error` (shares of val accuracy).
        path: where to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = np.array([update["steps"] for update in updates], dtype=float)
    returns = np.array([update["return"] for update in updates], dtype=float)
    left.plot(steps, returns, color="0.75", linewidth=0.8, label="each update")
    width = max(1, len(returns) // 20)
    if len(returns) > width:
        smooth = np.convolve(returns, np.ones(width) / width, "valid")
        left.plot(steps[width - 1 :], smooth, color="#0072B2", label=f"mean of {width}")
    left.set_ylabel("return of an episode")
    left.legend(frameon=False)
    right.axhline(0, color="black", linewidth=0.8)
    right.errorbar(
        [point["steps"] for point in evaluations],
        [100 * point["lead"] for point in evaluations],
        yerr=[196 * point["error"] for point in evaluations],
        color="#0072B2",
        marker="o",
        markersize=4,
        capsize=2,
    )
    right.set_ylabel("val accuracy above dynamic random\n(points, 95 % interval)")
    for axes in (left, right):
        axes.set_xlabel("environment steps")
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
