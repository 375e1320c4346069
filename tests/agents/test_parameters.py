"""Every rule refuses a parameter outside its documented range, and says what it expected."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.by_hand import episode, observed

import dynprune_agents


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("align_prune(r=1.0)", "r .* 1"),
        ("align_prune(window=3)", "window is at least 4 losses, got 3"),
        ("ccs(bins=0)", "bins is at least 1, got 0"),
        ("ccs(cut=1.0)", "cut .* got 1"),
        ("cover(period=0)", "period .* at least 1, got 0"),
        ("dual(c=0.0)", "c positive.* 0"),
        ("dual(early=0.0)", "early .* 0"),
        ("dual(window=1)", "window is at least 2 epochs.* got 1"),
        ("dyn_impt(window=1)", "window is at least 2 losses, got 1"),
        ("dyn_unc(window=1)", "window is at least 2 epochs, got 1"),
        ("early_stopping(patience=0)", "patience .* at least 1, got 0"),
        ("el2n(early=1.5)", "early .* 1.5"),
        ("el2n(nets=0)", "nets is at least 1, got 0"),
        ("emp(beta=-0.5)", "beta is at least 0, got -0.5"),
        ("es(b1=1.0)", "b1 .* 1"),
        ("es(b2=-0.1)", "b2 .* -0.1"),
        ("eswp(full=1.0)", "full .* 1"),
        ("exp3(gamma=0.0)", r"gamma is in \(0, 1\], got 0"),
        ("grand(early=-0.1)", "early .* -0.1"),
        ("grand(nets=0)", "at least 1, got 0"),
        ("ies(delta=-1.0)", "delta is at least 0.* -1"),
        ("ies(window=0)", "window at least 1.* 0"),
        ("importance_sampling(uniform=0.0)", "uniform .* 0.0"),
        ("infobatch(delta=1.1)", "delta .* 1.1"),
        ("infobatch(r=1.0)", "r .* 1.0"),
        ("kakurenbo(fraction=1.0)", "fraction .* 1.0"),
        ("kakurenbo(tau=-0.1)", "tau .* -0.1"),
        ("linear_thompson(ridge=0.0)", "ridge positive, got .* 0"),
        ("linear_thompson(v=-1.0)", "v is at least 0, got -1"),
        ("linucb(alpha=-1.0)", "alpha is at least 0, got -1"),
        ("linucb(discount=0.0)", r"discount is in \(0, 1\], .* got 0"),
        ("molpeg(beta=1.0)", r"beta is in \[0, 1\), got 1"),
        ("orderdp(ratio_q=0.0)", "ratio_q"),
        ("orderdp(ratio_s=0.0)", "ratio_s"),
        ("pods(cycle=1)", "cycle at least 2"),
        ("pods(rule='aum')", "asks at every selection how many samples to keep; aum chooses once"),
        ("pods(rule='nobody')", "no agent is called 'nobody'"),
        ("pods(swing=0.0)", r"swing is in \(0, 1\)"),
        ("progressive_dropout(tau=0.0)", "tau .* 0"),
        ("random_control(rule='nobody')", "no agent is called 'nobody'"),
        ("random_control(rule='sb3')", "has to give masks or weights, sb3 gives"),
        ("random_progressive(tau=1.5)", "tau .* 1.5"),
        ("rcap(beta=0.0)", "beta is a positive temperature, got 0"),
        ("repb(rho=1.0)", "rho"),
        ("selective_backprop(beta=-1.0)", "beta is at least 0, got -1"),
        ("seta(groups=0)", "at least one group, got 0"),
        ("seta(r=1.0)", "r "),
        ("seta(scale=0.0)", "scale .* 0.0"),
        ("small_loss(end=1.5)", "end .* 1.5"),
        ("small_loss(start=0.0)", "start"),
        ("tdds(early=1.5)", "early .* 1.5"),
        ("tdds(window=2)", "window is at least 3 epochs, got 2"),
        ("thompson(sigma=0.0)", "sigma is positive, got 0"),
        ("ucb1(c=-1.0)", "c is at least 0, got -1"),
    ],
)
def test_a_value_outside_its_documented_range_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dynprune_agents.make(spec)


def test_a_temperature_at_which_importance_overflows_is_refused_with_the_number_of_classes() -> (
    None
):
    game = episode(40)
    with pytest.raises(
        ValueError, match=r"at least ln\(10\) / 600 = 0\.0038 with 10 classes.*0\.003"
    ):
        dynprune_agents.make("rcap(beta=0.003)").reset(game)
    agent = dynprune_agents.make("rcap(beta=0.00384)")  # just above: everything is finite
    agent.reset(game)
    losses, labels = np.linspace(0, 5, 40), np.arange(40) % 10
    with np.errstate(all="raise", under="ignore", divide="ignore"):
        mask = agent.select(observed(game, 0, loss=losses, label=labels))
    assert mask.sum() == 20
    # Of the four samples of a class those above ln 10 weigh all: these are kept first.
    assert mask[losses > 2.31].sum() >= 18
