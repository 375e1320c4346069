"""The panel that render() draws, and the window for render_mode="human"."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from shutil import which
from typing import Any

import numpy as np
import pytest

from dynprune_env.envs import rendering
from dynprune_env.envs.rendering import (
    HEIGHT,
    ROWS,
    WIDTH,
    EpochFrame,
    Window,
    _keep_image,
    draw_panel,
)

# Left, top, right and bottom of each part in pixels, without the headings that name the epoch.
PARTS = {
    "budget": (0, 40, WIDTH, 112),
    "curves": (0, 120, 655, 352),
    "losses": (665, 142, WIDTH, 365),
    "kept": (0, 366, WIDTH, HEIGHT),
}


def episode(n: int, trained: int, *, seed: int = 0) -> list[EpochFrame]:
    rng = np.random.default_rng(seed)
    frames = []
    for epoch in range(trained + 1):
        kept = rng.random(n) < 0.3 if epoch else np.zeros(n, dtype=bool)
        loss = rng.lognormal(0.0, 1.0, n).astype(np.float32)
        frames.append(EpochFrame(epoch, epoch / 250, 2.3 / (1 + epoch), epoch / 250, kept, loss))
    return frames


def panel(frames: Sequence[EpochFrame], epochs: int = 20) -> np.ndarray:
    image = draw_panel(frames, title="a run", epochs=epochs, budget=0.3)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    return image


def changed_parts(one: np.ndarray, other: np.ndarray) -> set[str]:
    return {
        name
        for name, (left, top, right, bottom) in PARTS.items()
        if not np.array_equal(one[top:bottom, left:right], other[top:bottom, left:right])
    }


def test_the_size_is_even_so_that_video_encoders_accept_it() -> None:
    assert WIDTH % 2 == 0
    assert HEIGHT % 2 == 0


@pytest.mark.parametrize(("n", "trained"), [(1, 0), (1, 1), (7, 200), (1000, 0), (50_000, 3)])
def test_every_size_of_run_gives_a_panel_of_the_same_size(n: int, trained: int) -> None:
    assert panel(episode(n, trained), epochs=max(trained, 1)).std() > 0


@pytest.mark.parametrize("value", [0.0, 1.0, 2.5, 1e-20, 3e38, np.inf, np.nan])
def test_equal_and_extreme_losses_can_be_drawn(value: float) -> None:
    frames = [
        replace(f, val_loss=value, loss=np.full(70, value, np.float32)) for f in episode(70, 2)
    ]
    panel(frames)


def test_an_epoch_that_keeps_nothing_looks_different_from_one_that_keeps_everything() -> None:
    *past, latest = episode(50, 1)
    nothing = panel([*past, replace(latest, kept=np.zeros(50, dtype=bool))])
    everything = panel([*past, replace(latest, kept=np.ones(50, dtype=bool))])
    assert changed_parts(nothing, everything) == {"losses", "kept"}


def test_the_same_frames_give_the_same_pixels() -> None:
    np.testing.assert_array_equal(panel(episode(100, 3)), panel(episode(100, 3)))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("budget", {"spent": 0.9}),
        ("curves", {"val_loss": 1.7}),
        ("curves", {"val_accuracy": 0.6}),
        ("losses", {"loss": np.linspace(0.1, 5, 100, dtype=np.float32)}),
    ],
)
def test_each_number_moves_its_own_part_only(part: str, change: dict[str, object]) -> None:
    *past, latest = episode(100, 3)
    before = panel([*past, latest])
    after = panel([*past, replace(latest, **change)])  # type: ignore[arg-type]
    assert changed_parts(before, after) == {part}


def test_a_trained_epoch_fills_its_column_and_the_future_stays_blank() -> None:
    *past, latest = episode(100, 2)
    image = panel([*past, replace(latest, kept=np.ones(100, dtype=bool))], epochs=4)
    middle = 394 + ROWS // 2
    columns = [64 + int(540 * (epoch + 0.5) / 5) for epoch in range(5)]
    assert tuple(image[middle, columns[2]]) == (0x00, 0x72, 0xB2)
    assert [bool((image[middle, c] == 255).all()) for c in columns] == [
        True,
        False,
        False,
        True,
        True,
    ]


def test_the_keep_image_puts_the_most_kept_samples_on_top() -> None:
    empty = np.zeros(4, dtype=bool)
    masks = [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]]
    frames = [EpochFrame(0, 0, 1, 0, empty, empty.astype(np.float32))]
    frames += [replace(frames[0], epoch=i, kept=np.array(m, bool)) for i, m in enumerate(masks, 1)]
    image, times = _keep_image(frames, 4)
    assert times.tolist() == [0, 3, 2, 1]
    assert image[:, 1:4].tolist() == [[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert np.isnan(image[:, [0, 4]]).all()


def test_the_keep_image_bins_many_samples_into_rows_and_loses_none() -> None:
    frames = episode(1234, 4)
    frames.append(replace(frames[4], epoch=5, kept=np.ones(1234, dtype=bool)))
    image, _ = _keep_image(frames, 5)
    assert image.shape == (ROWS, 6)
    assert (image[:, 5] == 1).all()
    sizes = np.diff(np.arange(ROWS) * 1234 // ROWS, append=1234)
    for frame in frames[1:]:
        assert sizes @ image[:, frame.epoch] == pytest.approx(frame.kept.sum())


def test_a_title_that_looks_like_mathtext_or_is_too_long_can_be_drawn() -> None:
    for title in ("$x_{$", "long " * 100, ""):
        draw_panel(episode(5, 1), title=title, epochs=2, budget=1.0)


def test_drawing_leaves_the_frames_alone_and_hands_out_a_fresh_writable_image() -> None:
    frames = episode(30, 2)
    copies = [(f.kept.copy(), f.loss.copy()) for f in frames]
    image = panel(frames)
    image[:] = 0
    assert panel(frames).any()
    for frame, (kept, loss) in zip(frames, copies, strict=True):
        np.testing.assert_array_equal(frame.kept, kept)
        np.testing.assert_array_equal(frame.loss, loss)


def test_importing_does_not_import_matplotlib_and_drawing_does_not_import_pyplot() -> None:
    # The file is loaded by its path: what the rest of the package imports is not at issue here.
    code = """
import importlib.util, sys, numpy as np
spec = importlib.util.spec_from_file_location("rendering", sys.argv[1])
rendering = sys.modules["rendering"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rendering)
assert "matplotlib" not in sys.modules
frame = rendering.EpochFrame(0, 0.0, 1.0, 0.5, np.zeros(3, bool), np.ones(3, np.float32))
rendering.draw_panel([frame], title="", epochs=1, budget=1.0)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(rendering.__file__)], check=True)


@pytest.fixture
def backend() -> Iterator[types.ModuleType]:
    """A backend that claims a GUI and draws in memory, since tests run without a display."""
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    class Manager(FigureManagerBase):
        shown = 0

        def show(self) -> None:
            Manager.shown += 1

    class Canvas(FigureCanvasAgg):
        manager_class = Manager
        flushed = 0

        def flush_events(self) -> None:
            Canvas.flushed += 1

    module = types.ModuleType("dynprune_test_gui")
    module.FigureCanvas, module.FigureManager = Canvas, Manager  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    plt.switch_backend(f"module://{module.__name__}")
    Canvas.required_interactive_framework = "test"  # after the switch, which would look for it
    yield module
    plt.close("all")
    plt.switch_backend("agg")
    del sys.modules[module.__name__]


def test_the_window_shows_each_panel_in_one_figure_and_closes(backend: types.ModuleType) -> None:
    import matplotlib.pyplot as plt

    window = Window()
    first, second = panel(episode(100, 1)), panel(episode(100, 2))
    for image in (first, second):
        window.show(image)
        canvas: Any = plt.gcf().canvas
        np.testing.assert_array_equal(np.asarray(canvas.buffer_rgba())[..., :3], image)
    assert len(plt.get_fignums()) == 1
    assert (backend.FigureManager.shown, backend.FigureCanvas.flushed) == (1, 2)
    window.close()
    assert not plt.get_fignums()
    window.close()


def test_a_window_that_the_user_closed_ignores_further_panels(backend: types.ModuleType) -> None:
    import matplotlib.pyplot as plt

    window = Window()
    plt.close("all")
    window.show(panel(episode(10, 1)))
    assert backend.FigureCanvas.flushed == 0
    assert not plt.get_fignums()


def test_without_a_gui_the_window_names_the_alternative_and_leaves_no_figure() -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    with pytest.raises(RuntimeError, match='render_mode="rgb_array"'):
        Window()
    assert not plt.get_fignums()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux runs without a display server")
@pytest.mark.parametrize("choice", [None, "TkAgg"])
def test_without_a_display_the_window_names_the_alternative(choice: str | None) -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    if choice:
        env["MPLBACKEND"] = choice
    code = "from dynprune_env.envs.rendering import Window; Window()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError") and 'render_mode="rgb_array"' in last


@pytest.mark.skipif(not (which("Xvfb") and find_spec("_tkinter")), reason="needs Xvfb and tkinter")
def test_a_real_window_opens_and_updates_without_a_warning() -> None:
    code = """
import numpy as np, matplotlib.pyplot as plt
from dynprune_env.envs.rendering import Window
window = Window()
for shade in (10, 200):
    window.show(np.full((640, 1000, 3), shade, np.uint8))
    canvas = plt.gcf().canvas
    assert canvas.manager.window.winfo_viewable()
    assert (np.asarray(canvas.buffer_rgba())[..., :3] == shade).all()
top = canvas.manager.window
top.tk.eval(top.protocol("WM_DELETE_WINDOW"))  # what a click on the cross runs
assert not plt.get_fignums()
window.show(np.zeros((640, 1000, 3), np.uint8))
window.close()
window.close()
"""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            env = {**os.environ, "DISPLAY": f":{pipe.readline().strip()}", "MPLBACKEND": "TkAgg"}
        subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, check=True, timeout=60)
    finally:
        server.terminate()
        server.wait()
