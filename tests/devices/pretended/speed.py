"""What measures an accelerator runs on a pretended one, so that it runs on the day there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pretend_device import MISSING, pretended

from benchmarks.speed import gpu
from benchmarks.speed.__main__ import main

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
