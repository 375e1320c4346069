"""Which rule is the best of a setting, and what intervals say whose test images are redrawn too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.committed_runs import read_rows
from benchmarks.learned.digits import settings
from benchmarks.learned.fresh import RUNS, best_rule, intervals


def test_what_differs_by_image_alone_is_sure_until_images_are_redrawn() -> None:
    difference = np.tile([0.0, 100.0], (30, 50))  # every run has the same fifty images more
    alone, both = intervals(difference, np.random.default_rng(0))
    assert alone == pytest.approx((50, 50))
    assert both == pytest.approx((50 - 9.8, 50 + 9.8), abs=2)  # 1.96 · 50 / √100


def test_what_differs_by_run_alone_is_as_unsure_either_way() -> None:
    difference = np.tile([[0.0], [100.0]], (50, 7))
    for found in intervals(difference, np.random.default_rng(0)):
        assert found == pytest.approx((50 - 9.8, 50 + 9.8), abs=2)


def test_the_best_rule_is_the_committed_tables() -> None:
    _, rows = read_rows(RUNS)
    found = [best_rule(rows, setting) for setting in settings()]
    assert found[:4] == ["dyn_impt", "emp", "dynamic_el2n", "align_prune"]


def test_the_clone_with_weights_is_above_the_best_rule_of_each_setting_in_fresh_runs() -> None:
    lines = Path("benchmarks/results/learned_digits_fresh.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in lines.splitlines() if "policy='weighted'" in line]
    leads = [float(row[4]) for row in rows]
    assert len(leads) == 9
    assert min(leads) == leads[1] == pytest.approx(0.05, abs=0.001)
    assert max(leads) == pytest.approx(1.29, abs=0.001)
