"""Text for outputs that cannot show every character: what stands for those that they lack."""

from __future__ import annotations

import codecs

SPELLED = "dynprune.spelled"
"""The `errors=` of an encoder that takes other characters for those that it lacks."""

_STANDS_FOR = {
    "±": "+-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{NO-BREAK SPACE}": " ",
    "≈": "~",
    "†": "*",
    "·": "-",
    "…": "...",
    "²": "^2",
    "√": "sqrt ",
    "\N{MULTIPLICATION SIGN}": "x",
    "→": "->",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "─": "-",
    "│": "|",
}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Those without a counterpart, such as bytes of a path that are no text, are escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    escaped = (
        _STANDS_FOR.get(each) or each.encode("ascii", "backslashreplace").decode()
        for each in lacking
    )
    return "".join(escaped), error.end


codecs.register_error(SPELLED, _spell)


def spelled(text: str, encoding: str) -> str:
    """The text with nothing that this encoding lacks; the same where it lacks nothing."""
    return text.encode(encoding, SPELLED).decode(encoding)
