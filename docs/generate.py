"""Writes what is made from the package: pages of rules, commands and results; tables in pages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import dynprune_agents
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.observations import OBSERVATIONS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "generated"
LIBRARIES = tomllib.loads((ROOT / "docs/libraries.toml").read_text(encoding="utf-8"))
MARKS = ("<!-- made from libraries.toml by generate.py -->", "<!-- end -->")

FAMILIES = {
    "baselines": "Baselines",
    "dynamic": "Dynamic rules",
    "weighted": "Rules that weigh gradients",
    "static": "Static scores",
    "bandits": "Bandits over arms",
    "policies": "Learned policies as agents",
}

LINK = re.compile(r"\]\((?!https?:|#|/|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def included() -> dict[Path, str]:
    """Files of the repository that are pages as they stand, and the names of these pages."""
    files = [
        *(ROOT / "benchmarks/results").rglob("*.md"),
        *(ROOT / "agents/dynprune_agents/policies").glob("*.md"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
    ]
    return {path: "_".join(path.relative_to(ROOT).with_suffix("").parts[-2:]) for path in files}


def with_local_links(text: str, folder: Path, here: Path = ROOT / "docs") -> str:
    """The text of a file of `folder` for a page of `here`: links to included files lead to pages.

    Links to other files of the repository stay links to these files, which are then downloads.
    """
    pages = included()

    def moved(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / match[1]))
        if target in pages:
            return f"](/generated/{pages[target]}.md{match[2] or ''})"
        if target == ROOT / "README.md" or target.is_dir():
            return "](/index.md)"
        return f"]({os.path.relpath(target, here)}{match[2] or ''})"

    return LINK.sub(moved, text)


def titled(text: str, path: Path) -> str:
    """The text below a title, its own or one of the file's name."""
    if text.startswith("# "):
        return text
    name = path.parent.name if path.stem == "table" else path.stem
    return f"# {name.replace('_', ' ').capitalize()}\n\n{text}"


def table_rows(path: Path, name: str) -> list[tuple[str, list[str], list[str]]]:
    """The rows of a rule in a file's tables: the heading above, the columns, and the cells."""
    found, heading, columns = [], "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("#"):
            heading, columns = line.lstrip("# "), []
        elif line.startswith("|") and not columns:
            columns = cells
        elif any(re.fullmatch(rf"`{name}(\(.*\))?`", cell) for cell in cells[:2]):
            found.append((heading, columns, cells))
    return found


def rule_section(name: str) -> str:
    """A rule: formula, source, parameters, what differs from its source, and how it does."""
    found = dynprune_agents.agent_class(name)
    module = found.__module__
    shown = {
        label: cells[columns.index(label)]
        for _, columns, cells in table_rows(ROOT / "benchmarks/results/rules.md", name)
        for label in ("compared with", "differs on purpose")
        if label in columns
    }
    lines = [
        f"({name})=",
        f"## `{name}`",
        "",
        "```{eval-rst}",
        f".. automodule:: {module}",
        "   :no-members:",
        "",
        f".. autoclass:: {module}.{found.__name__}",
        "   :no-members:",
        "```",
        "",
        f"Source: {found.source}.",
        *(f"\n{label.capitalize()}: {text}" for label, text in shown.items()),
        "",
    ]
    rows = table_rows(ROOT / "benchmarks/results/leaderboard.md", name)
    if rows:
        wanted = (
            "agent",
            "place",
            "lead",
            "95 % interval",
            "worst",
            "where",
            "selection ms",
            "settings",
        )
        lines += [
            "Its rows of the [leaderboard](/generated/results_leaderboard.md):",
            "",
            "| regime | " + " | ".join(wanted) + " |",
            "|---" * (len(wanted) + 1) + "|",
        ]
        for regime, columns, cells in rows:
            row = dict(zip(columns, cells, strict=True))
            lines.append(f"| {regime} | " + " | ".join(row.get(key, "") for key in wanted) + " |")
    return "\n".join([*lines, ""])


def family_page(family: str, rules: list[str]) -> str:
    """All rules of a family."""
    about = import_module(f"dynprune_agents.{family}").__doc__
    return "\n".join([f"# {FAMILIES[family]}", "", about, "", *map(rule_section, rules)])


def command_page() -> str:
    """Every command with its options, as the application declares them."""
    command = [sys.executable, "-m", "typer", "dynprune_agents.cli.app", "utils", "docs"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "agents"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--name", "dynprune"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return done.stdout.replace("# `dynprune`", "# All options", 1)


def kinds(names: list[str], known: Iterable[str]) -> str:
    """Kinds of observations or actions as a cell."""
    return "all" if {*names} == {*known} else ", ".join(f"`{name}`" for name in names)


def library_rows() -> list[list[str]]:
    """What tests/integrations plays with libraries of reinforcement learning."""
    rows = [["library", "how the environment is made", "autoreset mode", "observations", "actions"]]
    for row in LIBRARIES["library"]:
        mode = " or ".join(f"`{name}`" for name in row["modes"])
        mode = ", ".join(filter(None, [mode, row.get("note")]))
        seen, done = kinds(row["observations"], OBSERVATIONS), kinds(row["actions"], ACTIONS)
        rows.append([row["name"], row["made"], mode, seen, done])
    return rows


def framework_rows() -> list[list[str]]:
    """What tests/integrations trains with training frameworks."""
    rows = [["framework", "what to use", "example", "goes on within an epoch", "two processes"]]
    for row in LIBRARIES["framework"]:
        name = row.get("example")
        example = f"[`{name}`](../examples/integrations/{name})" if name else ""
        shown = ["yes" if key in row else "not tried" for key in ("resume", "processes")]
        rows.append([row["name"], row["use"], example, *shown])
    return rows


def with_table(text: str, rows: list[list[str]]) -> str:
    """The text of a page with this table in place of the one between its two marks."""
    head, *others = ["| " + " | ".join(cells) + " |" for cells in rows]
    table = "\n".join([head, "|---" * len(rows[0]) + "|", *others])
    before, _, rest = text.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


TABLES = {"libraries": library_rows, "own_training": framework_rows}
"""The committed pages with a table that is made from `libraries.toml`."""


def write_tables() -> None:
    """Writes these tables into their pages."""
    for name, rows in TABLES.items():
        path = ROOT / f"docs/{name}.md"
        path.write_text(with_table(path.read_text(encoding="utf-8"), rows()), encoding="utf-8")


def write_pages() -> None:
    """Writes them all below `docs/generated`; a page that did not change keeps its time."""
    pages = {name: family_page(name, rules) for name, rules in dynprune_agents.families().items()}
    pages["commands"] = command_page()
    for path, name in included().items():
        text = titled(path.read_text(encoding="utf-8"), path)
        pages[name] = with_local_links(text, path.parent, OUT)
    OUT.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = OUT / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in OUT.glob("*.md"):
        if path.stem not in pages:
            path.unlink()


if __name__ == "__main__":
    write_tables()
