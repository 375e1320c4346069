"""The panel that render() draws."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.common.palette import (
    BLUE,
    GREEN,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PALE,
    SKY,
    VERMILLION,
)

if TYPE_CHECKING:  # matplotlib takes long to import, and most runs never draw
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 1000, 640, 100  # pixels; even, since video encoders ask for it
ROWS = 200  # of the keep image, each a pixel high where there are as many samples


@dataclass(frozen=True)
class EpochFrame:
    """What one epoch looked like (the reset state is epoch 0 with kept=all False).

    Attributes:
        epoch: number of epochs trained, 0 at the reset.
        spent: share of the visit budget spent so far, [0, 1].
        val_loss: validation loss after the epoch, nats.
        val_accuracy: validation accuracy after the epoch, [0, 1].
        kept: (n,) bool, the samples trained in this epoch.
        loss: (n,) float32, every sample's last known loss, nats, before this epoch was trained:
            the scores the decision was made on.
    """

    epoch: int
    spent: float
    val_loss: float
    val_accuracy: float
    kept: np.ndarray
    loss: np.ndarray


def draw_panel(
    frames: Sequence[EpochFrame], *, title: str, epochs: int, budget: float
) -> np.ndarray:
    """Draw the run so far.

    Args:
        frames: the epochs so far in order; `frames[0]` is the reset state.
        title: one line above the panel.
        epochs: length of the episode.
        budget: share of a full run's visits that the run may spend, (0, 1].

    Returns:
        (640, 1000, 3) uint8 RGB image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figure and canvas are made directly: pyplot would hold on to every figure and pick a backend.
    canvas = FigureCanvasAgg(Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="w"))
    sheet = _Sheet(canvas.figure)
    short = title if len(title) <= 72 else title[:71] + "…"
    sheet.text(24, 24, short, size=14, weight="bold", color=INK, parse_math=False)
    last = max(epochs, frames[-1].epoch, 1)
    _draw_budget(sheet, frames[-1], epochs, last, budget)
    _draw_curves(sheet, frames, last)
    _draw_losses(sheet, frames[-1])
    _draw_kept(sheet, frames, last)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Sheet:
    """Draws on a figure in pixels from the top left corner.

    Matplotlib's Axes would be the usual way, but each takes about as long as the whole panel may.
    """

    def __init__(self, figure: Figure) -> None:
        from matplotlib.transforms import Affine2D

        self._figure = figure
        self._pixels = Affine2D().scale(1, -1).translate(0, HEIGHT)

    def text(self, left: float, middle: float, text: str, **style: Any) -> None:
        """Text, vertically centred on `middle`."""
        defaults = {"size": 10, "color": MUTED, "va": "center_baseline"}
        self._figure.text(left, middle, text, transform=self._pixels, **{**defaults, **style})

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        from matplotlib.patches import Rectangle

        box = Rectangle((left, top), width, height, facecolor=colour, transform=self._pixels)
        self._figure.add_artist(box)

    def line(self, x: Any, y: Any, colour: str, **style: Any) -> None:
        """A line or, with `marker`, marks; breaks at NaN."""
        from matplotlib.lines import Line2D

        self._figure.add_artist(Line2D(x, y, color=colour, transform=self._pixels, **style))

    def steps(self, heights: Any, edges: Any, base: float, colour: str) -> None:
        """A histogram's outline over its pale area."""
        from matplotlib.colors import to_rgba
        from matplotlib.patches import StepPatch

        pale = to_rgba(colour, 0.35)
        steps = StepPatch(heights, edges, baseline=base, fill=True, transform=self._pixels)
        steps.set(facecolor=pale, edgecolor=colour, linewidth=1.5)
        self._figure.add_artist(steps)

    def image(self, left: int, top: int, width: int, height: int, shares: np.ndarray) -> None:
        """Shares in [0, 1] as shades from pale to blue, NaN blank."""
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("kept", [PALE, SKY, BLUE])
        rows = np.arange(height) * shares.shape[0] // height
        columns = np.arange(width) * shares.shape[1] // width
        pixels = shares[rows[:, None], columns]
        bottom = HEIGHT - top - height
        self._figure.figimage(pixels, left, bottom, cmap=shades, vmin=0, vmax=1, origin="upper")


@dataclass(frozen=True)
class _Plot:
    """A rectangle of the sheet, pixels, and the data ranges that it spans."""

    left: float
    top: float
    width: float
    height: float
    xlim: tuple[float, float]
    ylim: tuple[float, float] = (0.0, 1.0)

    def x(self, value: Any) -> Any:
        """Pixels from the sheet's left for data values."""
        low, high = self.xlim
        return self.left + self.width * (np.asarray(value) - low) / (high - low)

    def y(self, value: Any) -> Any:
        """Pixels from the sheet's top for data values."""
        low, high = self.ylim
        return self.top + self.height * (high - np.asarray(value)) / (high - low)

    def draw_frame(
        self,
        sheet: _Sheet,
        xticks: dict[float, str],
        yticks: dict[float, str],
        colour: str = MUTED,
    ) -> None:
        """Draw the base line, tick labels (on y in `colour`) and pale lines at the y ticks."""
        right, bottom = self.left + self.width, self.top + self.height
        for value, label in yticks.items():
            place = self.y(value)
            sheet.line([self.left, right], [place, place], PALE, linewidth=0.8, zorder=0)
            sheet.text(self.left - 6, place, label, size=9, ha="right", color=colour)
        sheet.line([self.left, right], [bottom, bottom], LINE, linewidth=0.8)
        for value, label in xticks.items():
            place = self.x(value)
            sheet.line([place, place], [bottom, bottom + 3], LINE, linewidth=0.8)
            sheet.text(place, bottom + 13, label, size=9, ha="center")


def _ticks(high: float, count: int, form: str = "g", whole: bool = False) -> dict[float, str]:
    """About `count` round values in [0, high] and their labels."""
    from matplotlib.ticker import MaxNLocator

    values = MaxNLocator(count, integer=whole, steps=[1, 2, 5, 10]).tick_values(0.0, high)
    return {float(v): format(float(v), form) for v in values if v <= high}


def _draw_budget(sheet: _Sheet, frame: EpochFrame, epochs: int, last: int, budget: float) -> None:
    """The share of the budget spent as a bar, with a tick where even spending would be."""
    text = f"spent {100 * frame.spent:.0f} % of a budget of {100 * budget:.3g} % of a full run; "
    sheet.text(24, 56, text + f"epoch {frame.epoch} of {epochs}", size=11, color=INK)
    sheet.box(24, 72, 952, 16, PALE)
    sheet.box(24, 72, 952 * min(max(frame.spent, 0.0), 1.0), 16, BLUE)
    share = frame.epoch / last
    even = 24 + 952 * share
    sheet.line([even, even], [68, 92], INK, linewidth=2)
    side = "left" if share < 0.1 else "right" if share > 0.9 else "center"
    sheet.text(even, 102, "even spending", size=9, ha=side)


def _draw_curves(sheet: _Sheet, frames: Sequence[EpochFrame], last: int) -> None:
    """Validation loss (left axis, nats) and accuracy (right axis, percent) over the epochs."""
    losses = np.array([f.val_loss for f in frames], dtype=np.float64)
    losses[~np.isfinite(losses)] = np.nan  # a run that diverged has a gap in its curve
    percents = np.array([100 * f.val_accuracy for f in frames])
    high = 1.05 * float(np.nanmax(losses, initial=0.0) or 1.0)
    place = (64, 154, 540, 176, (-0.5, last + 0.5))
    plot, right = _Plot(*place, ylim=(0, high)), _Plot(*place, ylim=(0, 105))
    plot.draw_frame(sheet, _ticks(last, 5, whole=True), _ticks(high, 4), VERMILLION)
    for percent in (0, 50, 100):
        sheet.text(610, right.y(percent), f"{percent} %", size=9, color=GREEN)
    x = plot.x([f.epoch for f in frames])
    curves = (
        (plot.y(losses), VERMILLION, "o", "-", 30),
        (right.y(percents), GREEN, "s", (0, (4, 1.5)), 430),
    )
    for y, colour, marker, dash, key in curves:
        sheet.line(x, y, colour, linewidth=2, linestyle=dash)
        sheet.line([x[-1], key], [y[-1], 134], colour, linestyle="", marker=marker)
    text = f"validation loss {frames[-1].val_loss:.3g} nats"
    sheet.text(40, 134, text, size=11, color=VERMILLION)
    text = f"validation accuracy {percents[-1]:.1f} %"
    sheet.text(440, 134, text, size=11, color=GREEN)


def _decades(loss: np.ndarray) -> tuple[int, int]:
    """Whole powers of ten around the losses' 1st to 99th percentile: steady between epochs."""
    low, high = np.log10(np.clip(np.percentile(loss, (1, 99)), 1e-6, 1e30))
    return min(int(np.floor(low)), -1), max(int(np.ceil(high)), 1)


def _draw_losses(sheet: _Sheet, frame: EpochFrame) -> None:
    """Histograms of the losses (nats, logarithmic) that the latest decision was made on."""
    known = np.isfinite(frame.loss)
    first, final = _decades(frame.loss[known]) if known.any() else (-1, 1)
    # Losses outside the axis count in its outermost bins: one outlier must not squeeze the rest.
    logs = np.log10(np.clip(frame.loss.astype(np.float64), 10.0**first, 10.0**final))
    edges = np.linspace(first, final, 41)
    groups = [("kept", frame.kept, BLUE), ("dropped", ~frame.kept, ORANGE)]
    if frame.epoch == 0:
        groups = [("all", ~frame.kept, MUTED)]
    counts = [np.histogram(logs[members & known], edges)[0] for _, members, _ in groups]
    high = 1.05 * max(1, *(c.max() for c in counts))
    plot = _Plot(732, 166, 244, 164, (first, final), (0, high))
    powers = range(first, final + 1, -(-(final - first) // 4))
    plot.draw_frame(sheet, {p: f"{10.0**p:g}" for p in powers}, _ticks(high, 4, ",.0f", whole=True))
    for i, (name, members, colour) in enumerate(groups):
        if counts[i].any():
            sheet.steps(plot.y(counts[i]), plot.x(edges), plot.y(0), colour)
        left = 692 + 140 * i
        sheet.box(left, 149, 10, 10, colour)
        sheet.text(left + 16, 154, f"{name} {members.sum():,}", color=colour, weight="bold")
    when = f"in epoch {frame.epoch}" if frame.epoch else "before training"
    sheet.text(692, 134, f"sample losses {when}", size=11, color=INK)
    sheet.text(976, 360, "loss (nats), end bins open", size=9, ha="right")


def _keep_image(frames: Sequence[EpochFrame], last: int) -> tuple[np.ndarray, np.ndarray]:
    """The keep history, most kept samples first.

    Returns:
        image: (rows <= ROWS, last + 1) float, share of the row's samples kept in each epoch, NaN
            for epochs that are not trained.
        times: (n,) int, how often each sample was kept so far.
    """
    n = len(frames[0].kept)
    times, moment = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for frame in frames[1:]:
        times += frame.kept
        moment += frame.epoch * frame.kept
    order = np.lexsort((moment, -times))  # among equals the earlier kept: fewer ragged bands
    rows = min(n, ROWS)
    starts = np.arange(rows) * n // rows
    sizes = np.diff(starts, append=n)
    image = np.full((rows, last + 1), np.nan)
    for frame in frames[1:]:
        image[:, frame.epoch] = np.add.reduceat(frame.kept[order], starts, dtype=np.int64) / sizes
    return image, times


def _draw_kept(sheet: _Sheet, frames: Sequence[EpochFrame], last: int) -> None:
    """What was kept when, and the shares of samples kept always, sometimes and never."""
    image, times = _keep_image(frames, last)
    n, trained = len(times), len(frames) - 1
    plot = _Plot(64, 394, 540, ROWS, (-0.5, last + 0.5))
    sheet.image(64, 394, 540, ROWS, image)
    plot.draw_frame(sheet, _ticks(last, 5, whole=True), {})
    sheet.text(24, 374, "what was kept when", size=11, color=INK)
    name = f"samples, n = {n:,}"
    sheet.text(50, 394 + ROWS / 2, name, size=9, va="center", ha="center", rotation=90)
    sheet.text(604, 624, "epoch", size=9, ha="right")
    sheet.image(462, 369, 100, 10, np.linspace(0, 1, 100)[None])
    sheet.text(456, 374, "share kept: 0 %", size=9, ha="right")
    sheet.text(568, 374, "100 %", size=9)

    # A bar as high as the image, as its rows are sorted: it says where always and never begin.
    always, never = int((times == trained).sum()), int((times == 0).sum())
    counts = (always, n - always - never, never) if trained else (0, 0, 0)
    parts = zip(("always", "sometimes", "never"), counts, (BLUE, SKY, PALE), strict=True)
    top = 394.0
    for i, (name, count, colour) in enumerate(parts):
        height = ROWS * count / n
        sheet.box(616, top, 12, height, colour)
        top += height
        middle = 394 + ROWS * (i + 0.5) / 3
        sheet.box(692, middle - 17, 12, 12, colour)
        percent = f"{100 * count / n:.0f} %" if trained else "-"
        sheet.text(716, middle - 11, percent, size=16, color=INK, weight="bold")
        sheet.text(716, middle + 12, f"{name} kept: {count:,} of {n:,}")


class Window:
    """A live matplotlib window for render_mode="human".

    Raises:
        RuntimeError: no window can be opened here, as on a machine without a display.
    """

    def __init__(self) -> None:
        import matplotlib.pyplot as plt

        hint = 'render_mode="human" needs a display; use render_mode="rgb_array" instead'
        try:
            self._figure = plt.figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
        except Exception as error:  # each GUI toolkit has its own exceptions
            raise RuntimeError(f"{hint} ({error})") from error
        if self._figure.canvas.required_interactive_framework is None:
            self.close()
            raise RuntimeError(f"{hint} (matplotlib's backend is {plt.get_backend()})")
        axes = self._figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        blank = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
        self._image = axes.imshow(blank, aspect="auto")
        self._figure.show()
        self._told = 0.0

    def tell(self, text: str) -> None:
        """Shows a line as the window's title, and answers the user; now and then, not each time."""
        import matplotlib.pyplot as plt

        if time.monotonic() - self._told > 0.2 and plt.fignum_exists(self._figure.number):
            self._told = time.monotonic()
            if self._figure.canvas.manager is not None:
                self._figure.canvas.manager.set_window_title(text)
            self._figure.canvas.flush_events()

    def show(self, rgb: np.ndarray) -> None:
        """Show an (H, W, 3) uint8 image; nothing happens once the user has closed the window."""
        import matplotlib.pyplot as plt

        if plt.fignum_exists(self._figure.number):
            self._image.set_data(rgb)
            self._figure.canvas.draw()
            self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window; closing twice is harmless."""
        import matplotlib.pyplot as plt

        plt.close(self._figure)
