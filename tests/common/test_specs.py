"""Specs are names with literal arguments: parsed, never evaluated; mistakes are explained."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynprune_env.common.specs import checked_arguments, literal, lookup, parse_spec

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(str.isidentifier)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SIMPLE = NUMBERS | st.booleans() | st.none() | st.text(max_size=10)
LITERALS = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(SIMPLE, inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(["c", "period", "width", "label_noise"])


@given(NAMES, st.dictionaries(KEYS, LITERALS, max_size=3))
def test_a_spec_gives_back_what_it_was_written_from(name: str, arguments: dict[str, Any]) -> None:
    spec = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    assert parse_spec(spec) == (name, arguments)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ucb", ("ucb", {})),
        ("ucb()", ("ucb", {})),
        (" ucb ( c = -2.0, ) ", ("ucb", {"c": -2.0})),
        ("my_package.my_module:Mine(x='a,)(')", ("my_package.my_module:Mine", {"x": "a,)("})),
    ],
)
def test_these_are_specs(spec: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert parse_spec(spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "expected a name such as ucb"),
        ("2", "expected a name such as ucb"),
        ("u cb", "expected a name such as ucb"),
        ("a:b:c", "expected a name such as ucb"),
        ("ucb(c=1", "expected name.key=value"),
        ("ucb(c=1))", "expected name.key=value"),
        ("ucb(c=1).run", "expected name.key=value"),
        ("ucb(c=1)(d=2)", "expected name.key=value"),
        ("ucb(c=1); import os", "expected name.key=value"),
        ("ucb(c=1, c=2)", "'c'|repeated"),
        ("ucb(1)", r"give every value with its name, as in ucb\(key=value\)"),
        ("ucb(*[1])", "give every value with its name"),
        ("ucb(**{'c': 1})", "give every value with its name"),
        ("ucb(c=float)", "float is not a Python literal"),
        ("ucb(c=1 if 1 else 2)", "is not a Python literal"),
        ("ucb(c=2 * 3)", "is not a Python literal"),
        ("ucb(c=[x for x in 'ab'])", "is not a Python literal"),
        ("ucb(c=f'{1}')", "is not a Python literal"),
        ("ucb(c={[]: 1})", "is not a Python literal"),
        ("ucb(c='\0')", "expected name.key=value"),
    ],
)
def test_these_are_not_and_the_error_names_the_text(spec: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as problem:
        parse_spec(spec)
    assert repr(spec) in str(problem.value)


@pytest.mark.parametrize(
    "code",
    ["__import__('sys').modules.update(evaluated=1)", "print('evaluated')", "(lambda: 1)()"],
)
def test_code_is_refused_and_not_run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is not a Python literal"):
        parse_spec(f"ucb(c={code})")
    with pytest.raises(ValueError, match="is not a Python literal"):
        literal(code, "c=...")
    assert "evaluated" not in sys.modules
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["a + ", "abc", "", "1 2", "{[]: 1}", "{}[0]"])
def test_what_is_no_literal_is_refused_whatever_python_would_say(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Python literal"):
        literal(text, "key=text")


def test_what_is_looked_up_is_found_or_what_there_is_is_told() -> None:
    registry = {"small_loss": 1, "ucb": 2, "full_data": 3}
    assert lookup("ucb", registry, "agent") == 2
    with pytest.raises(
        ValueError, match=r"no agent is called 'x'; .* small_loss, ucb, full_data\.$"
    ):
        lookup("x", registry, "agent")
    with pytest.raises(ValueError, match=r"Did you mean 'small_loss'\?$"):
        lookup("smal_los", registry, "agent")


def test_only_parameters_with_a_default_are_parameters() -> None:
    def factory(shape: int, width: int = 1, *rest: int, depth: int = 2, **more: int) -> None:
        """Stands for any model or agent."""

    checked_arguments(factory, {}, "it")
    checked_arguments(factory, {"width": 3, "depth": 4}, "it")
    for name in ("shape", "rest", "more", "wdth"):
        with pytest.raises(ValueError, match=f"it has no parameter '{name}'; it has width, depth$"):
            checked_arguments(factory, {name: 1}, "it")
    with pytest.raises(ValueError, match=r"it has no parameter 'x'; it has none$"):
        checked_arguments(lambda: None, {"x": 1}, "it")
