"""Specs such as "ucb(c=2.0)": a name and literal keyword arguments, parsed without eval."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from inspect import Parameter, signature
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from dynprune_env.common.checks import plain, shown


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Splits "name(key=literal, ...)" into its name and keyword arguments.

    Names may hold dots and one colon ("package.module:Class").

    Raises:
        ValueError: the text is not of that form, or a value is not a Python literal.
    """
    name, bracket, rest = spec.strip().partition("(")
    name = name.strip()
    if not all(part.isidentifier() for part in name.replace(":", ".", 1).split(".")):
        raise ValueError(f"{spec!r}: expected a name such as ucb or ucb(c=2.0)")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{spec!r}: expected name(key=value, ...): {error.msg}") from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"{spec!r}: expected name(key=value, ...)")
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(f"{spec!r}: give every value with its name, as in {name}(key=value)")
    given = [keyword.arg for keyword in call.keywords]
    for key in given:
        if given.count(key) > 1:
            raise ValueError(f"{spec!r}: {key!r} is given twice")
    return name, {str(keyword.arg): literal(keyword.value, spec) for keyword in call.keywords}


def literal(node: ast.AST | str, context: str) -> Any:
    """The value of a Python literal (number, string, bool, None, tuple, list, dict).

    Raises:
        ValueError: it is anything else.
    """
    try:
        return ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError) as error:
        text = node if isinstance(node, str) else ast.unparse(node)
        raise ValueError(
            f"{context!r}: {text} is not a Python literal (number, string, ...)"
        ) from (error)


def lookup(
    name: str, registry: dict[str, Any], kind: str, also: Mapping[str, str] | None = None
) -> Any:
    """The entry of that name; `also` as in `did_you_mean`.

    Raises:
        ValueError: there is none; the message lists what there is.
    """
    if not isinstance(name, str):
        raise ValueError(f"a {kind} is named by one of {', '.join(registry)}, got {shown(name)}")
    if name in registry:
        return registry[name]
    hint = did_you_mean(name, registry, also)
    raise ValueError(f"no {kind} is called {name!r}; there are {', '.join(registry)}.{hint}")


def own_function(kind: str, name: str, of: str) -> Callable[..., Any]:
    """The function behind "my_module:function", as it is.

    Args:
        kind: what it is, for the message.
        name: the module, a colon, the function.
        of: what it is a function of, for the message.

    Raises:
        ValueError: it cannot be loaded, or is no function.
    """
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot load the {kind} {name!r}: {error}") from error
    if not callable(found) or isinstance(found, type):
        raise ValueError(f"the {kind} {name!r} is a function of {of}, got {shown(found)}")
    return found


def did_you_mean(name: str, known: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """Says " Did you mean ...?" with what was probably meant, or nothing.

    Args:
        name: what was given; upper case, spaces and dashes count as little as in speech.
        known: what there is.
        also: other names that somebody may say, with what they stand for.
    """
    names = {_spoken(each): each for each in known}
    names |= {_spoken(each): meant for each, meant in (also or {}).items()}
    close = get_close_matches(_spoken(name), names, n=1)
    return f" Did you mean {names[close[0]]!r}?" if close else ""


def _spoken(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


def checked_arguments(
    factory: Callable[..., Any], arguments: dict[str, Any], context: str
) -> dict[str, Any]:
    """Checks keyword arguments against a factory's signature and type hints.

    Returns:
        The arguments, whole numbers turned into floats where floats are asked for, lists into
        tuples likewise, numpy's numbers into Python's.

    Raises:
        ValueError: one is unknown (the message lists those that exist) or of the wrong type.
    """
    known = [
        name
        for name, parameter in signature(factory).parameters.items()
        if parameter.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is not Parameter.empty
    ]
    hints = _type_hints(factory)
    checked = {}
    for name, value in arguments.items():
        if name not in known:
            raise ValueError(
                f"{context} has no parameter {name!r}; it has {', '.join(known) or 'none'}"
            )
        value = plain(value)
        checked[name] = checked_value(f"{context}: {name}", value, hints.get(name, type(value)))
    return checked


def checked_value(what: str, value: Any, hint: Any) -> Any:
    """Checks a value against a type hint.

    Args:
        what: the beginning of the sentence, if it is of the wrong type.
        value: what was given.
        hint: a type, or a union of types.

    Returns:
        The value, a whole number turned into a float where floats are asked for, a list into a
        tuple likewise.

    Raises:
        ValueError: it is of the wrong type.
    """
    hinted = get_args(hint) or (hint,)
    kinds = [get_origin(kind) or kind for kind in hinted]  # tuple of tuple[str, ...]
    if tuple in kinds and type(value) is list:
        value = tuple(value)
    if float in kinds and type(value) is int and abs(value) < 2**1023:
        value = float(value)
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        finite = " and finite" if float in kinds else ""
        raise ValueError(f"{what} is {names}{finite}, got {shown(value)}")
    return value


@lru_cache(maxsize=256)
def _type_hints(factory: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(factory.__init__ if isinstance(factory, type) else factory)  # type: ignore[misc]
