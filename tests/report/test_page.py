"""The report's page holds what it should, and a real browser shows all of it without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.results import run, runs

import dynprune_agents
from dynprune_env.benchmark.episodes import run_episodes
from dynprune_env.benchmark.results import Failure, Result, RunConfig
from dynprune_env.common.palette import BLUE
from dynprune_env.report.page import write_page

DIGITS = "DynPrune-Digits-v0"
AGENTS = ("dynamic_random", "ucb", "infobatch", "el2n", "full_data")


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """Real runs in two variants, one of them said to have diverged."""
    found: list[Result] = []
    for noise in ({}, {"label_noise": 0.4}):
        pairs = [(agent, budget) for agent in AGENTS for budget in (0.3, 0.6)]
        for agent, budget in [*pairs, ("full_data", 1.0)]:
            kwargs = {"train_size": 100, "epochs": 5, "budget": budget, **noise}
            player = dynprune_agents.make(agent)
            found += run_episodes(DIGITS, player, (0, 1, 2), env_kwargs=kwargs, device="cpu")
    found[0] = replace(found[0], diverged=True)
    return found


@pytest.fixture(scope="module")
def page(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    cifar = "DynPrune-CIFAR10-v0"
    more = [
        *runs([0.951, 0.953], agent="ucb", env=cifar, budget=0.5, saved=0.48),
        *runs([0.948, 0.949], agent="dynamic_random", env=cifar, budget=0.5, saved=0.5),
        *runs([0.955, 0.957], agent="full_data", env=cifar, budget=1.0, saved=0.0),
    ]
    config = RunConfig(DIGITS, {"budget": 0.3}, "mine:<Agent>", 0)
    failure = Failure(config, "RuntimeError", "a <b>mistake</b>", "File <x>\nRuntimeError: a")
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page([*results, *more], [failure], path)
    return path


class Outline(HTMLParser):
    """Checks that tags close in order, and collects ids and what is linked."""

    VOID = ("meta", "link", "br", "hr", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_without_scripts_that_links_only_to_itself(page: Path) -> None:
    text = page.read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert "script" not in outline.tags
    targets = {link for link in outline.links if link != "data:,"}
    assert {link[0] for link in targets} == {"#"}
    assert {link[1:] for link in targets} <= set(outline.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(outline.ids)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_page_says_what_a_reader_must_know(page: Path) -> None:
    text = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "runs of 5 agents" in text
    assert "2 to 3 seeds" in text
    assert "1 run failed" in text
    assert "1 run diverged (†)" in text
    assert "intervals of so few say little" in text
    assert "its interval overlaps with those of" in text
    assert "nominally saved 70 %" in text
    assert "a &lt;b&gt;mistake&lt;/b&gt;" in text
    assert "<b>mistake" not in text
    # Scoring runs of el2n cost more than the budget leaves out: it saved less than nothing.
    (row,) = re.findall(r'<tr><th scope="row">el2n</th>(.*?)</tr>', text)[-1:]
    assert re.search(r"-\d+\.\d", row)


def test_the_page_is_the_same_every_time(page: Path, results: list[Result], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page(results[:12], [], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("case", ["full data alone", "nothing spent", "all the same", "one run"])
def test_a_page_can_be_made_of_little(case: str, tmp_path: Path) -> None:
    found = {
        "full data alone": runs([0.9, 0.8], agent="full_data", budget=1.0),
        "nothing spent": [
            *runs([0.1, 0.1], agent="a", saved=1.0, seconds={"total": 0.0}),
            *runs([0.1, 0.1], agent="b", saved=1.0, seconds={"total": 0.0}),
        ],
        "all the same": [*runs([0.5, 0.5], agent="a"), *runs([0.5, 0.5], agent="b")],
        "one run": [run(0.7)],
    }[case]
    write_page(found, [], tmp_path / "page.html")
    assert "dynprune report" in (tmp_path / "page.html").read_text()


def test_a_page_says_in_a_heading_that_dynamic_random_is_not_the_reference(tmp_path: Path) -> None:
    write_page([*runs([0.5, 0.6], agent="a"), *runs([0.5, 0.6], agent="b")], [], tmp_path / "page")
    text = (tmp_path / "page").read_text()
    assert "<h2>Over all tasks, compared with a, not dynamic_random</h2>" in text
    assert "All agents over 1 task (" in text


# -- in a browser ------------------------------------------------------------------------------

MEASURE = """
<script>
const box = e => e.getBoundingClientRect();
const figures = [...document.querySelectorAll("figure svg")].map(svg => {
  const frame = box(svg), texts = [...svg.querySelectorAll("text")];
  const out = texts.filter(t => {
    const b = box(t);
    return b.left < frame.left - 1 || b.right > frame.right + 1 || b.bottom > frame.bottom + 1;
  });
  return {width: frame.width, height: frame.height, texts: texts.length,
    paths: svg.querySelectorAll("path").length, outside: out.map(t => t.textContent)};
});
document.title = JSON.stringify({
  figures, fetched: performance.getEntriesByType("resource").length,
  width: document.documentElement.scrollWidth, window: innerWidth,
  tables: [...document.querySelectorAll("table")].filter(t => t.closest("details") === null)
    .map(t => box(t).width)});
</script>
"""


def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    return found


def look(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1280,800",
        "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
        "--enable-logging=stderr",
        f"--user-data-dir={page.parent / 'profile'}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=90)


def test_a_browser_shows_every_plot_without_a_network_or_an_error(
    page: Path, tmp_path: Path
) -> None:
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text().replace("</body>", MEASURE + "</body>"))
    done = look(measured, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    seen: dict[str, Any] = json.loads(title[1].replace("&gt;", ">").replace("&lt;", "<"))
    # Over all tasks; accuracy, curves and kept-when of two variants; accuracy of CIFAR-10.
    assert len(seen["figures"]) == 1 + 2 * 3 + 1
    for figure in seen["figures"]:
        assert figure["width"] > 900
        assert figure["height"] > 100
        assert figure["texts"] > 10
        assert figure["paths"] > 10
        assert figure["outside"] == []
    assert seen["fetched"] == 0
    assert seen["width"] <= seen["window"]  # nothing to scroll sideways at a laptop's width
    assert all(0 < width <= 1100 for width in seen["tables"])


def test_a_browser_paints_and_prints_it(page: Path, tmp_path: Path) -> None:
    import matplotlib.image

    picture, pdf = tmp_path / "page.png", tmp_path / "page.pdf"
    look(page, "--hide-scrollbars", f"--screenshot={picture}", "--window-size=1280,4000")
    pixels = (matplotlib.image.imread(picture)[..., :3] * 255).round().astype(int)
    blue = [int(BLUE[i : i + 2], 16) for i in (1, 3, 5)]
    assert ((pixels == blue).all(-1)).sum() > 100  # curves are there
    look(page, f"--print-to-pdf={pdf}")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) >= 3
