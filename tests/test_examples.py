"""The examples and the README's snippets run as they stand."""

from __future__ import annotations

import difflib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHORT = {
    "learn_to_select.py": ["1280"],
    "reinforce.py": ["2"],
    "ppo_single_file.py": ["--updates", "2", "--games", "2", "--test-runs", "4"],
}
"""Arguments with which those examples end soon that train for a minute."""

SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs_and_prints_an_accuracy(name: str, tmp_path: Path) -> None:
    assert "test accuracy" in run([str(ROOT / "examples" / name), *SHORT.get(name, [])], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reinforce.py", "ppo_single_file.py"])
def test_an_example_of_reinforcement_learning_beats_dynamic_random(
    name: str, tmp_path: Path
) -> None:
    text = run([str(ROOT / "examples" / name)], tmp_path)
    for split in ("val", "test"):
        zero, learned = map(float, re.findall(rf"{split} accuracy ([\d.]+)%", text))
        assert learned > zero + 1.5


def test_the_first_snippet_of_the_readme_runs_and_prints_accuracy_and_saved_share(
    tmp_path: Path,
) -> None:
    accuracy, saved = map(float, run(["-c", SNIPPETS[0]], tmp_path).split())
    assert accuracy > 0.9
    assert saved == pytest.approx(0.7)


def test_the_readmes_own_agent_is_the_one_in_the_examples_and_plays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SNIPPETS[1])
    play = (
        "from dynprune_env import run_episodes; import dynprune_agents; "
        "agent = dynprune_agents.make('mine:SmallMargin(noise=2.0)'); print(repr(agent)); "
        "kwargs = {'train_size': 60, 'epochs': 3}; "
        "print(run_episodes('DynPrune-Digits-v0', agent, [0], env_kwargs=kwargs)[0].visits)"
    )
    assert run(["-c", play], tmp_path).split() == ["mine:SmallMargin(noise=2.0)", "90"]


def test_the_readmes_stable_baselines_snippet_trains(tmp_path: Path) -> None:
    run(["-c", SNIPPETS[2].replace("learn(3200)", "learn(320)")], tmp_path)
    assert (tmp_path / "set_policy.npz").exists()


def test_the_readmes_diff_turns_the_plain_loop_into_the_pruned_one() -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    plain, pruned = (
        (ROOT / "examples" / name).read_text().splitlines()[2:]  # without what each says of itself
        for name in ("plain_loop.py", "pruned_loop.py")
    )
    changes = [line for line in difflib.ndiff(plain, pruned) if line[0] in "+-"]
    shown = [line for line in diff.splitlines() if line[:1] in ("+", "-")]
    assert sorted(line[0] + line[2:] for line in changes) == sorted(shown)
    kept = [line[1:] for line in diff.splitlines() if line[:1] not in ("+", "-")]
    assert set(kept) <= set(plain) & set(pruned)


def test_the_readmes_own_task_plays_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "tumours.py").write_text(SNIPPETS[3])
    options = ["--env", "DynPrune-Tumours-v0", "--agent", "ucb", "--env-kwargs", "epochs=3"]
    play = f"import sys; sys.argv[1:] = ['--import', 'tumours', 'run', *{options}]"
    text = run(["-c", f"{play}; from dynprune_agents.cli.app import main; main()"], tmp_path)
    assert "ucb" in text
    assert len(list((tmp_path / "results").glob("*.json"))) == 1


@pytest.mark.slow
def test_the_tutorials_training_and_comparison_run_as_they_stand(tmp_path: Path) -> None:
    text = (ROOT / "docs/train_a_policy.md").read_text(encoding="utf-8")
    train, bench = re.findall(r"```bash\ndynprune (.*?)```", text, re.DOTALL)
    command = ["-c", "from dynprune_agents.cli.app import main; main()"]
    printed = run([*command, *shlex.split(train)], tmp_path)
    leads = re.findall(r"([+-][\d.]+) points above dynamic random", printed)
    assert float(leads[-1]) > 1
    run([*command, *shlex.split(bench.replace("\\\n", " "))], tmp_path)
    rows = (tmp_path / "results/table.csv").read_text(encoding="utf-8")
    assert "tilts.npz" in rows
