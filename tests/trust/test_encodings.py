"""Output survives its reader, and files are UTF-8, whatever the locale, console and path."""

from __future__ import annotations

import ast
import errno
import io
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import SMALL, results
from helpers.results import benchmark
from rich.console import Console

from dynprune_agents.cli import app as cli
from dynprune_env.benchmark.results import Failure, RunConfig
from dynprune_env.benchmark.sweeps import load_sweep
from dynprune_env.common.files import write_text
from dynprune_env.common.spelling import spelled
from dynprune_env.report.page import write_page
from dynprune_env.report.summary import summarize
from dynprune_env.report.summary_tables import accuracy_tables
from dynprune_env.report.tables import Grid

ROOT = Path(__file__).parents[2]
MAIN = "from dynprune_agents.cli.app import main; main()"
BENCH = ["bench", *SMALL, "--agents", "ucb", "--budgets", "0.5", "--seeds", "3", "--jobs", "1"]
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a terminal of known width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def dynprune(
    *arguments: str | bytes, settings: dict[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env={**os.environ, **(settings or {})},
        timeout=120,
        **{"capture_output": True, **options},  # type: ignore[call-overload]
    )


def decoded(done: subprocess.CompletedProcess[bytes], encoding: str) -> tuple[str, str]:
    """What it printed to the output and to the errors, in this encoding alone."""
    return done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of a small benchmark."""
    out = tmp_path_factory.mktemp("played") / "results"
    done = dynprune(*BENCH, "--out", str(out), settings={**PLAIN, "PYTHONIOENCODING": "ascii"})
    out_text, err_text = decoded(done, "ascii")
    assert done.returncode == 0, err_text
    assert "100 %" in out_text
    return out


def shown(
    *arguments: str, encoding: str, monkeypatch: pytest.MonkeyPatch, code: int = 0
) -> tuple[str, str]:
    """What the command prints on consoles of this encoding, which refuse all else."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        patch.setattr(sys, "argv", ["dynprune", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
    for stream in streams:
        stream.flush()
    out, errors = (stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
    assert (done.value.code or 0) == code, (out, errors)
    return out, errors


# -- what is printed ----------------------------------------------------------------------------


def test_a_benchmark_in_the_c_locale_leaves_all_files_as_utf_8(played: Path) -> None:
    assert len(results(played)) == 6
    assert "±" in (played / "table.md").read_text(encoding="utf-8")
    assert "\N{EN DASH}" in (played / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("encoding", "between", "to"),
    [("ascii", "+-", "-"), ("latin-1", "±", "-"), ("utf-8", "±", "\N{EN DASH}")],
)
def test_tables_are_printed_in_what_the_console_can_show(
    encoding: str, between: str, to: str, played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("report", "kept"):
        text, errors = shown(command, str(played), encoding=encoding, monkeypatch=monkeypatch)
        assert not errors
        assert "ucb" in text
        if command == "report":
            assert re.search(rf"\d {re.escape(between)} \d", text)
            assert re.search(rf"\d\.\d\d{to}\d", text)


def lines_of(rows: list[Grid], encoding: str) -> list[str]:
    """What grids print on a console of this encoding, 80 columns wide."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    for grid in rows:
        grid.print(Console(file=file, width=80))
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "cp1252", "utf-8"])
def test_every_table_keeps_its_columns_in_every_encoding(encoding: str) -> None:
    lines = lines_of(accuracy_tables(summarize(benchmark())), encoding)
    assert max(map(len, lines)) <= 80
    if encoding != "utf-8":  # ruled with |, which then stand below one another
        ruled = [line for line in lines if line.count("|") > 2]
        layouts = {tuple(i for i, sign in enumerate(line) if sign == "|") for line in ruled}
        assert len(layouts) == 1
        assert len(ruled) > 20


def test_a_grid_of_any_text_is_printed_anywhere() -> None:
    grid = Grid(
        "Tîtle…", ["agént", "±\n%"], [["módulo:Régla[x]", "1 ± 2†"], ["\udcff", "≈"]], "n² → ∞"
    )
    text = "\n".join(lines_of([grid], "ascii"))
    for part in ("T\\xeetle...", "m\\xf3dulo:R\\xe9gla[x]", "1 +- 2*", "\\udcff", "n^2 -> \\u221e"):
        assert part in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_spelling_changes_nothing_that_can_be_shown(encoding: str) -> None:
    shown = bytes(range(256)).decode(encoding, "ignore")
    assert spelled(shown, encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "arguments",
    [("run", "--agent", "régla[/x]≈"), ("report", "nö\udcff"), ("bench", "é[b]≈.toml")],
)
def test_errors_with_names_that_are_not_ascii_are_one_line(
    encoding: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, errors = shown(*arguments, encoding=encoding, monkeypatch=monkeypatch, code=2)
    assert not text
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert spelled(arguments[-1], encoding) in errors or ascii(arguments[-1])[1:-1] in errors


@pytest.mark.parametrize("arguments", [["--help"], ["agents"], ["envs"], ["sweeps"]])
def test_help_and_lists_are_printed_in_ascii(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, errors = shown(*arguments, encoding="ascii", monkeypatch=monkeypatch)
    assert not errors
    assert any(word in text for word in ("Dynamic data pruning", "ucb", "Digits", "quick"))


# -- paths that are no text ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r\udcff", "résultats [bold]", "[x] ≈"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_results_go_into_a_folder_of_any_name(
    name: str, encoding: str, played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(played, name, ignore=shutil.ignore_patterns("*.html", "*.md", "*.png"))
    run = ("run", *SMALL, "--agent", "static_random", "--out", name)
    for arguments in ((*BENCH, "--out", name), ("report", name), ("kept", name), run):
        text, errors = shown(*arguments, encoding=encoding, monkeypatch=monkeypatch)
        assert not errors
        assert spelled(name, encoding) in text.replace("\n", " ")
    assert {"report.html", "kept.png", "table.md"} <= set(os.listdir(name))
    assert len(results(Path(name))) == 7


def test_a_failure_that_names_bytes_that_are_no_text_is_on_the_page(folder: Path) -> None:
    found = benchmark()
    for run in found:
        object.__setattr__(run, "seconds", {**run.seconds, "prepare": 0.0})
    failure = Failure(RunConfig("Digits-v0", {"budget": 0.5}, "régla", 0), "OSError", "a\udcff")
    failure.save(folder)
    write_page(found, [failure], folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "a\\udcff" in page
    assert "régla" in page


# -- readers that go, and full disks ------------------------------------------------------------


def test_a_closed_pipe_loses_nothing_and_is_not_mentioned(folder: Path) -> None:
    command = f'{sys.executable} -c "{MAIN}" {" ".join(BENCH)}'
    for readers in ("| head -n 1", "2>&1 | true"):
        out = f"out{len(readers)}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{command} --out {out} {readers}"],
            capture_output=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(results(folder / out)) == 6
        assert (folder / out / "report.html").exists()


def test_an_output_on_a_full_device_loses_nothing_and_is_one_line(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = dynprune(*BENCH, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1
    assert b"what follows cannot be shown" in done.stderr
    assert (folder / "results" / "report.html").exists()


def limit(size: int) -> None:
    """Lets no file grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_disk_that_is_full_when_the_page_is_written_leaves_the_results(folder: Path) -> None:
    done = dynprune(*BENCH, preexec_fn=lambda: limit(12_000))
    errors = done.stderr.decode()
    assert done.returncode == 1
    assert "Traceback" not in errors
    assert "results/accuracy.png cannot be written: [Errno 27] File too large" in errors
    assert "results/report.html cannot be written: [Errno 27] File too large" in errors
    assert "the results are saved; once there is room the same command writes" in errors
    assert b"ucb" in done.stdout
    assert len(results()) == 6
    assert "ucb" in Path("results/table.csv").read_text(encoding="utf-8")
    assert not list(Path("results").glob(".*"))
    again = dynprune(*BENCH)
    assert (again.returncode, again.stderr) == (0, b"")
    assert Path("results/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", *SMALL, "--agent", "ucb"], "the result of seed 0 cannot be written: [Errno 28]"),
        (["kept", "played"], "played/kept.png cannot be written: [Errno 28] No space left"),
        (["report", "played"], "played/table.csv cannot be written: [Errno 28] No space left"),
    ],
)
def test_what_cannot_be_written_is_said_after_what_came_out(
    arguments: list[str], complaint: str, played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(played, "played")

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dynprune_env.common.files.os.replace", full)
    text, errors = shown(*arguments, encoding="utf-8", monkeypatch=monkeypatch, code=1)
    assert "ucb" in text
    assert complaint in errors


# -- files --------------------------------------------------------------------------------------


def sources() -> Iterator[Path]:
    """Every module that ships or that makes what ships."""
    for name in ("dynprune_env", "agents", "benchmarks", "examples"):
        yield from (ROOT / name).rglob("*.py")


def names_no_encoding(call: ast.Call) -> bool:
    """Whether it reads or writes text in the encoding of the locale."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg for keyword in call.keywords}
    constants = [each.value for each in call.args if isinstance(each, ast.Constant)]
    if name in ("read_text", "write_text"):
        before = 1 if name == "write_text" else 0  # arguments before the encoding
        ours = isinstance(call.func, ast.Name)  # `write_text` of ours, which takes UTF-8
        return "encoding" not in given and len(call.args) <= before and not ours
    if name in ("open", "fdopen", "NamedTemporaryFile", "TextIOWrapper"):
        if getattr(getattr(call.func, "value", None), "id", "") == "os" and name == "open":
            return False  # a number, not a file
        if getattr(getattr(call.func, "value", None), "attr", "") in ("zip", "_archive"):
            return False  # a member of an archive: bytes
        binary = any(isinstance(mode, str) and "b" in mode for mode in constants)
        return not binary and "encoding" not in given
    if name in ("run", "Popen", "check_output"):
        return bool(given & {"text", "universal_newlines"}) and "encoding" not in given
    return False


def test_every_file_of_text_is_opened_with_an_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and names_no_encoding(node)
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("path.read_text()", True),
        ("(a / b).write_text(x)", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("subprocess.run(x, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("write_text(path, x)", False),
        ("path.write_text(x, 'utf-8')", False),
        ("subprocess.run(x)", False),
    ],
)
def test_the_search_for_files_without_an_encoding_finds_them(code: str, wrong: bool) -> None:
    (call,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    assert names_no_encoding(call) == wrong


def test_text_is_written_as_utf_8_in_every_locale(folder: Path) -> None:
    code = r"from dynprune_env.common.files import write_text as w; w('a.md', '\xb1 \udcff \u2248')"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **PLAIN}, check=True)
    assert Path("a.md").read_text(encoding="utf-8") == "± \\udcff ≈"
    write_text("b.md", "é")
    assert Path("b.md").read_bytes() == b"\xc3\xa9"


def test_a_sweep_is_read_as_utf_8_in_every_locale() -> None:
    Path("é.toml").write_text('description = "größer"\nbudgets = [0.5]\n', encoding="utf-8")
    code = (
        "import sys; from dynprune_env.benchmark.sweeps import load_sweep; "
        "print(ascii(load_sweep(sys.argv[1]).description))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "é.toml"],
        env={**os.environ, **PLAIN},
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() == ascii("größer").encode()
    Path("b.toml").write_bytes(b'description = "\xff"')
    with pytest.raises(ValueError, match=r"^b\.toml is not a sweep: 'utf-8' codec"):
        load_sweep("b.toml")
