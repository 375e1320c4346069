"""What measures an accelerator runs on a pretended one, so that it runs on the day there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pretend_device import MISSING, pretended
from torch import nn

from benchmarks.speed import clock, convolutions, gpu
from benchmarks.speed.__main__ import main
from dynprune_env.training import step_graphs

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_the_whole_table_is_made(tmp_path: Path) -> None:
    with pretended():
        main(parts=["gpu"], device="pretend", dry_run=True, out=tmp_path / "speed.md")
    text = (tmp_path / "speed.md").read_text(encoding="utf-8")
    for part in ("val losses against the CPU's", "waits of the host", "/ roofline", "keeping 50%"):
        assert part in text
    assert "R = 3, half kept, stacked" in text
    waits = next(line for line in text.splitlines() if "waits of the host" in line)
    assert "not measured" in waits
    assert "met" not in waits.replace("not measured", "")


@pytest.mark.parametrize(("task", "size"), gpu.DRY.checked)
def test_a_device_that_computes_as_the_cpu_agrees_with_it(task: str, size: int) -> None:
    with pretended():
        first, third = gpu.agreement_rows("pretend", task, size)
    assert max(first.high, third.high) < 1e-4
    assert first.verdict == "met"


def test_the_roofline_is_that_of_the_named_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert gpu.roofline("cuda", 45_000) == pytest.approx(0.3030, rel=1e-3)
    monkeypatch.setattr(gpu.torch.cuda, "get_device_name", lambda device: "another")
    assert gpu.roofline("cuda", 45_000) is None
    assert gpu.roofline("cpu", 45_000) is None


@pytest.mark.parametrize(("kind", "named"), [("cuda:1", ["cuda:1"]), ("xpu", ["xpu"]), ("mps", [])])
def test_the_clock_waits_for_the_device_that_it_is_of(
    kind: str, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[str, tuple[str, ...]]] = []
    for owner in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(
            getattr(torch, owner),
            "synchronize",
            lambda *device, owner=owner: waits.append((owner, device)),
        )
    clock.wall_clock_of("cpu")()
    assert not waits
    clock.wall_clock_of(kind)()
    assert waits == [(kind.partition(":")[0], tuple(named))]


@pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")
def test_the_table_is_of_the_device_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []

    def wait(device: Any = "the current one") -> None:
        waits.append(str(device))

    monkeypatch.setattr(step_graphs, "LANES", 0)  # the pretended device has no streams
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"the card {device}")
    monkeypatch.setattr(gpu, "waits_row", lambda *_: clock.Row("waits", "", "", 1, 1, 1))
    monkeypatch.setattr(gpu, "precisions", lambda device: {gpu.fp32_name(device): FP32})
    monkeypatch.setattr(gpu, "convolution_seconds", lambda model, x: float(x.device.index))
    with pretended("cuda:1"):
        main(parts=["gpu"], device="cuda:1", dry_run=True, out=tmp_path / "speed.md")
    assert set(waits) == {"cuda:1"}
    text = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "plain step / recorded step" in text


FP32 = {"precision": "fp32"}


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        ([], "fp32"),
        (["convolutions"], "fp32 (convolutions in TF32)"),
        (["convolutions", "products"], "fp32 (convolutions and products in TF32)"),
    ],
)
def test_the_row_of_fp32_says_what_takes_tf32(
    kinds: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "where_tf32", lambda: kinds)
    assert gpu.precisions("cuda:1")[name] == FP32
    assert gpu.precisions("mps")["fp32"] == FP32


def test_convolutions_are_recorded_on_the_device_of_the_net(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a CUDA of our own, in which the current device is the first until another is chosen."""
    current, used = [torch.device("cuda:0")], []

    @contextmanager
    def chosen(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    @contextmanager
    def entered(*what: Any, **options: Any) -> Iterator[None]:
        yield

    class Graph:
        def replay(self) -> None:
            used.append(current[-1])

    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: used.append(current[-1]))
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", entered)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: used.append(current[-1]))
    with pretended("cuda:1"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).to("cuda:1")
        assert convolutions.convolution_seconds(net, torch.ones(2, 3, 8, 8, device="cuda:1")) > 0
    assert len(used) == 2 * (1 + 3 + 1 + convolutions.REPLAYS)
    assert set(used) == {torch.device("cuda:1")}
