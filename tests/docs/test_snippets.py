"""Every snippet of the README and of the documentation runs as it stands."""

from __future__ import annotations

import difflib
import re
import shlex
from pathlib import Path

import pytest
from helpers.pages import PAGES, ROOT, run, snippets, text_of
from helpers.slow import slow

import dynprune_agents

SHORTER = {"learned_policies": ("learn(3200)", "learn(320)")}
"""What is replaced in a page, so that its snippets end soon."""

YOURS = """
import dynprune_agents, torch
from torch.utils.data import DataLoader, TensorDataset
from dynprune_env import Indexed, PruningSampler

torch.manual_seed(0)
inputs = torch.randn(200, 5)
labels = (inputs[:, 0] > 0).long()
dataset = TensorDataset(inputs, labels)
net = torch.nn.Linear(5, 2)
train_step = lambda inputs, targets: net(inputs)
"""
"""What the reader of the README's last snippet has: data, and a step that returns logits."""

LEFT = {"learned_policies": "set_policy.npz", "own_policy": "mine.pt"}
"""Files that the snippets of a page leave."""

WITH_SNIPPETS = [page for page in PAGES if snippets(page)]
LONG = ("learned_policies", "own_policy")
"""Pages whose snippets train networks."""

RUN = [page for page in WITH_SNIPPETS if page not in ("quickstart", *LONG)] + slow(*LONG)


def test_the_pages_that_have_snippets_are_found() -> None:
    assert {"README", "quickstart", "own_rule", "own_policy", "own_task"} <= set(WITH_SNIPPETS)
    assert sum(len(snippets(page)) for page in PAGES) >= 12


@pytest.mark.parametrize("page", RUN)
def test_the_snippets_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    if page == "reports":
        pytest.importorskip("pandas", reason="an extra")
    blocks = snippets(page)
    if page == "README":
        blocks.insert(-1, YOURS)
        blocks.append("assert sampler.finished and sampler.progress == 1")
    script = "\n".join(blocks)
    for old, new in [SHORTER[page]] if page in SHORTER else []:
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    run(["page.py"], tmp_path)
    assert page not in LEFT or (tmp_path / LEFT[page]).exists()


def test_the_page_quickstart_has_one_snippet_which_is_tried_below() -> None:
    assert len(snippets("quickstart")) == 1


def test_the_quick_start_is_in_the_readme_and_prints_accuracy_and_saved_share(
    tmp_path: Path,
) -> None:
    assert snippets("README")[0] == snippets("quickstart")[0]
    accuracy, saved = map(float, run(["-c", snippets("quickstart")[0]], tmp_path).split())
    assert accuracy > 0.9
    assert saved == pytest.approx(0.7)


@pytest.mark.filterwarnings("ignore:.*spend the whole budget")
@pytest.mark.parametrize("name", dynprune_agents.names())
def test_the_quick_start_plays_any_agent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = snippets("quickstart")[0]
    for old, new in (("ucb(c=2.0)", name), ("budget=0.3", "budget=0.3, train_size=100, epochs=12")):
        assert script.count(old) == 1
        script = script.replace(old, new)
    exec(script, {})
    accuracy, saved = map(float, capsys.readouterr().out.split())
    assert 0 <= accuracy <= 1
    assert saved >= 0.69


@pytest.mark.parametrize(
    ("page", "block", "spec"),
    [("own_rule", 0, "mine:SmallMargin(noise=2.0)"), ("README", 1, "mine:Hardest")],
)
def test_a_rule_of_ones_own_plays_by_its_spec(
    page: str, block: int, spec: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(snippets(page)[block])
    play = (
        "from dynprune_env import run_episodes; import dynprune_agents; "
        f"agent = dynprune_agents.make({spec!r}); print(repr(agent)); "
        "kwargs = {'train_size': 60, 'epochs': 3}; "
        "print(run_episodes('DynPrune-Digits-v0', agent, [0], env_kwargs=kwargs)[0].visits)"
    )
    assert run(["-c", play], tmp_path).split() == [spec, "90"]


def test_a_policy_of_ones_own_goes_on_from_a_saved_run_to_the_same_end(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(snippets("own_policy")[0])
    play = """
import gymnasium as gym, torch
from mine import Mine, network
torch.manual_seed(1)
torch.save(network().state_dict(), "mine.pt")

def go_on(env, agent, seen, steps):
    for _ in range(steps):
        seen, _, ended, _, info = env.step(agent.select(seen))
    return seen, info

env = gym.make("dynprune_env:DynPrune-Digits-v0", epochs=6, **Mine.env_kwargs)
agent = Mine()
seen, _ = env.reset(seed=0)
agent.reset(env.unwrapped.episode(seed=0))
seen, _ = go_on(env, agent, seen, 3)
env.unwrapped.save("run.npz", agent=agent)
first = go_on(env, agent, seen, 2)[1]["val_loss"]
other = Mine()
env.unwrapped.load("run.npz", agent=other)
print(first == go_on(env, other, seen, 2)[1]["val_loss"])
"""
    assert run(["-c", play], tmp_path).strip() == "True"


def test_the_diff_turns_the_plain_loop_into_the_pruned_one() -> None:
    (diff,) = snippets("own_training", "diff")
    plain, pruned = (
        (ROOT / "examples" / name).read_text().splitlines()[2:]  # without what each says of itself
        for name in ("plain_loop.py", "pruned_loop.py")
    )
    changes = [line for line in difflib.ndiff(plain, pruned) if line[0] in "+-"]
    shown = [line for line in diff.splitlines() if line[:1] in ("+", "-")]
    assert sorted(line[0] + line[2:] for line in changes) == sorted(shown)
    kept = [line[1:] for line in diff.splitlines() if line[:1] not in ("+", "-")]
    assert set(kept) <= set(plain) & set(pruned)


def test_a_task_of_ones_own_plays_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "tumours.py").write_text(snippets("own_task")[0])
    options = ["--env", "DynPrune-Tumours-v0", "--agent", "ucb", "--env-kwargs", "epochs=3"]
    play = f"import sys; sys.argv[1:] = ['--import', 'tumours', 'run', *{options}]"
    text = run(["-c", f"{play}; from dynprune_agents.cli.app import main; main()"], tmp_path)
    assert "ucb" in text
    assert len(list((tmp_path / "results").glob("*.json"))) == 1


def test_the_sweep_of_the_page_is_one(tmp_path: Path) -> None:
    from dynprune_env.benchmark.sweeps import load_sweep

    (block,) = snippets("sweeps", "toml")
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    assert load_sweep(str(tmp_path / "mine.toml")).seeds == tuple(range(20))


def commands() -> list[tuple[str, str]]:
    """Every line of a page that runs the command, and the page."""
    found = []
    for page in PAGES:
        for block in snippets(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                found += [(page, part) for part in re.findall(r"dynprune [^&#\n]*", line)]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_of_a_page_names_options_that_exist(page: str, line: str) -> None:
    from typer.main import get_command

    from dynprune_agents.cli.app import app

    whole = get_command(app)
    group, words = whole, shlex.split(line)[1:]
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            known = {name for option in group.params for name in option.opts}
            assert word.partition("=")[0] in known, f"{page}: {line}"
            words = words if "=" in word else words[1:]
        elif group is whole:
            group = whole.commands[word]


@pytest.mark.slow
def test_the_tutorials_training_and_comparison_run_as_they_stand(tmp_path: Path) -> None:
    blocks = snippets("train_a_policy", "bash")
    train, bench = (block.removeprefix("dynprune ") for block in blocks)
    assert f"dynprune {train}" in text_of("README")
    command = ["-c", "from dynprune_agents.cli.app import main; main()"]
    printed = run([*command, *shlex.split(train)], tmp_path)
    leads = re.findall(r"([+-][\d.]+) points above dynamic random", printed)
    assert float(leads[-1]) > 1
    assert float(leads[-1]) - float(leads[0]) > 0.4  # what the untrained policy has is luck
    run([*command, *shlex.split(bench.replace("\\\n", " "))], tmp_path)
    rows = (tmp_path / "results/table.csv").read_text(encoding="utf-8")
    assert "tilts.npz" in rows
