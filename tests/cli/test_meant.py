"""What was misspelt, or given in one go, is answered with what was probably meant."""

from __future__ import annotations

import pytest
from helpers.command import refuse

from dynprune_agents.cli.command import split_list

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("run --env Digits", "'DynPrune-Digits-v0'?"),
        ("bench --env cifar10small", "'DynPrune-CIFAR10Small-v0'?"),
        ("bench --env DynPrune-Digit-v0", "'DynPrune-Digits-v0'?"),
        ("train --env digits", "'DynPrune-Digits-v0'?"),
        ("bench Digits", "'digits'?"),
        ("bench fashion_mnist", "'fashion-mnist'?"),
        ("bench nois", "'noise'?"),
        ("run --agent UCB", "'ucb'?"),
        ("run --agent dynamic-random", "'dynamic_random'?"),
        ("bench --agents learned-robust", "\"learned(policy='robust')\"?"),
        ("bench --agents learned_weighted", "\"learned(policy='weighted')\"?"),
        ("run --agent learned(robust)", "\"learned(policy='robust')\"?"),
        ("run --agent UCB(1)", "'ucb'?"),
        ("run --agent ppo", "\"sb3(policy='ppo')\"?"),
        ("bench --agents ucb,exp3", "--agents ucb --agents exp3?"),
        ("bench --agents=ucb,exp3", "--agents ucb --agents exp3?"),
        ("bench --agents ucb exp3", "--agents ucb --agents exp3?"),
        ("bench --budgets 0.3 0.5", "--budgets 0.3 --budgets 0.5?"),
        ("bench --budgets 0.3 0.5 0.7", "--budgets 0.3 --budgets 0.5 --budgets 0.7?"),
        ("bench --budgets 0.3,0.5", "--budgets 0.3 --budgets 0.5?"),
        ("train --budgets 0.3 0.5", "--budgets 0.3 --budgets 0.5?"),
        ("train --label-noise 0,0.4", "--label-noise 0 --label-noise 0.4?"),
        ("bench --agents ucb digit", "'digits'?"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(
    arguments: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = refuse(*arguments.split(" "), capsys=capsys)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert err.endswith(f" Did you mean {meant}\n")


def test_what_is_like_nothing_gets_no_guess(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["bench", "qqq"], ["run", "--agent", "qqq"], ["run", "--env", "qqq"]):
        assert "Did you mean" not in refuse(*arguments, capsys=capsys)[1]


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ("ucb(1.0)", "give every value with its name, as in ucb(key=value)"),
        ("ucb(c=1,c=2)", ""),  # which of two parsers says so depends on the Python
        ("ucb(c=1", "expected name(key=value, ...)"),
    ],
)
def test_wrong_arguments_of_an_agent_mean_no_other_agent(
    spec: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = refuse("run", "--agent", spec, capsys=capsys)
    assert err.startswith(f"error: {spec!r}: {wrong}")
    assert "Did you mean" not in err


def test_commas_within_brackets_and_quotes_part_nothing() -> None:
    assert split_list("ucb") == ["ucb"]
    assert split_list("ucb(c=1.0, a=0.5)") == ["ucb(c=1.0, a=0.5)"]
    assert split_list("ucb(c=1.0, a=0.5),exp3") == ["ucb(c=1.0, a=0.5)", "exp3"]
    assert split_list("random_control(rule='ucb(c=1.0, a=0.5)')") == [
        "random_control(rule='ucb(c=1.0, a=0.5)')"
    ]
