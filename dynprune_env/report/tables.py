"""A table of texts, for the terminal, for Markdown and for HTML; and dataclasses as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from dynprune_env.common.spelling import spelled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NOTHING = "there are no results to report"


class Bold(str):
    """A cell in bold; the terminal shows its whole row so."""

    __slots__ = ()


class Muted(str):
    """A cell that a page shows in grey."""

    __slots__ = ()


@dataclass(frozen=True)
class Grid:
    """Rows of cells under headers; a cell is a string, `Bold` or `Muted`.

    Attributes:
        title: above it.
        headers: one per column.
        rows: as many cells each.
        caption: below it, what the numbers are.
        text_columns: the columns that hold text, by index; the others hold numbers.
        code_columns: those that Markdown sets as code.
        subtitle: below the title, in brackets on a page.
        spans: a line of headers above the others, each with the number of columns it spans.
        sections: in the terminal, a heading over the rows that share it: one per row, or none.
        hidden: how many of the first columns the terminal leaves out, as the headings say it.
        others: characters that the columns beside the first usually take in the terminal: a wide
            one then gets more air, and a narrow one breaks the first cell where there is no room.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = (0,)
    code_columns: Sequence[int] = ()
    subtitle: str = ""
    spans: Sequence[tuple[str, int]] = ()
    sections: Sequence[str] = ()
    hidden: int = 0
    others: int = 0

    def print(self, console: Console) -> None:
        """Prints it, spelled in what the console can show; meant for 80 columns and more.

        Where there is less room, the last columns of numbers are left out, and named below.
        """
        from rich import box
        from rich.table import Table

        gap, room = 2, 23
        if self.others:
            gap = 2 if console.width >= 100 else 1
            room = console.width - self.others - gap * (len(self.headers) - self.hidden - 1)
        write = partial(_text, encoding=console.encoding)
        shown = self._fitting(console.width, gap)
        lost = [h.replace("\n", " ") for i, h in enumerate(self.headers) if i not in shown]
        lost = lost[self.hidden :]
        caption = self.caption + (f" No room for {', '.join(lost)}." if lost else "")
        table = Table(
            title=write(self.title, "bold").append(self.subtitle and write(f"\n{self.subtitle}")),
            title_justify="left",
            caption=write("\n" + caption) if caption else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, gap - 1, 0, 0),
        )
        headers = self._headers()
        for column in shown:
            text = column in self.text_columns
            table.add_column(
                write(headers[column]),
                justify="left" if text else "right",
                overflow="fold",
                no_wrap=not text,
            )
        above = ""
        for row, section in zip(self.rows, self.sections or [""] * len(self.rows), strict=True):
            if section != above:
                table.add_section()
                table.add_row(write(section, "italic"))
                above = section
            first, *others = (row[column] for column in shown)
            first = first if len(first) <= room else first.replace("(", "\n(", 1)
            style = "bold" if any(isinstance(cell, Bold) for cell in row) else ""
            table.add_row(*map(write, (first, *others)), style=style)
        console.print(table)
        console.print()

    def _fitting(self, width: int, gap: int) -> list[int]:
        """The columns that there is room for: all but the last ones of numbers."""
        shown = list(range(self.hidden, len(self.headers)))
        needed = {}
        for column, header in enumerate(self._headers()):
            cells = [header, *(row[column].replace("(", "\n(", 1) for row in self.rows)]
            longest = max(len(line) for cell in cells for line in cell.split("\n"))
            needed[column] = min(longest, 16) if column in self.text_columns else longest
        for column in reversed(shown[2:]):
            fits = sum(needed[each] for each in shown) + gap * (len(shown) - 1) <= width
            if not fits and column not in self.text_columns:
                shown.remove(column)
        return shown

    def _headers(self) -> list[str]:
        """One per column, with what spans it."""
        over = [text + "\n" if text else "" for text, width in self.spans for _ in range(width)]
        over = over or [""] * len(self.headers)
        return [above + header for above, header in zip(over, self.headers, strict=True)]

    def to_markdown(self) -> str:
        """A heading, the table and its caption."""
        heads = [header.replace("\n", " ") for header in self._headers()]
        kinds = [":---" if i in self.text_columns else "---:" for i in range(len(heads))]
        body = [[self._markdown(i, cell) for i, cell in enumerate(row)] for row in self.rows]
        subtitle = f" ({self.subtitle})" if self.subtitle else ""
        lines = [f"### {self.title}{subtitle}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (heads, kinds, *body)]
        return "\n".join([*lines, "", *([self.caption, ""] if self.caption else [])])

    def _markdown(self, column: int, cell: str) -> str:
        text = cell.replace("|", "\\|")
        text = f"`{text}`" if column in self.code_columns else text
        return f"**{text}**" if isinstance(cell, Bold) else text

    def to_html(self) -> str:
        """A <table> with a <caption>, escaped."""
        kinds = ["" if i in self.text_columns else "number" for i in range(len(self.headers))]
        over = "".join(
            f'<th scope="colgroup" colspan="{width}">{escape(text)}</th>' if text else "<th></th>"
            for text, width in self.spans
        )
        head = "".join(
            f'<th scope="col"{_class(kind)}>{escape(header)}</th>'
            for kind, header in zip(kinds, self.headers, strict=True)
        )
        body = "".join(
            f'<tr><th scope="row">{escape(first)}</th>'
            + "".join(_td(cell, kind) for cell, kind in zip(others, kinds[1:], strict=True))
            + "</tr>\n"
            for first, *others in self.rows
        )
        title = self.title + (f" ({self.subtitle})" if self.subtitle else "")
        note = f'<p class="note">{escape(self.caption)}</p>' if self.caption else ""
        return (
            f'<div class="scroll"><table><caption>{escape(title)}</caption><thead>'
            + (f"<tr>{over}</tr>" if over else "")
            + f"<tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{note}"
        )


def _text(text: str, style: str = "", encoding: str = "utf-8") -> Text:
    """Spelled before it is laid out; as Text, since brackets in it would be taken for markup."""
    from rich.text import Text

    return Text(spelled(text, encoding), style)


def _td(cell: str, kind: str) -> str:
    looks = {Bold: "best", Muted: "muted"}
    kinds = " ".join(filter(None, (kind, looks.get(type(cell), ""))))
    return f"<td{_class(kinds)}>{escape(cell)}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def to_csv(rows: Iterable[Any]) -> str:
    """Comma-separated values of dataclass instances, such as `Row`: one column per attribute.

    Unrounded, shares in [0, 1].

    Raises:
        ValueError: there are no rows.
    """
    rows = list(rows)
    if not rows:
        raise ValueError(NOTHING)
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
