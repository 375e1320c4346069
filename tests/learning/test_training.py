"""Training a policy by the command's loop: draws, evaluation, checkpoints, kills, the curve."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_agents.baselines.full_data import FullData
from dynprune_agents.cli import app as cli
from dynprune_agents.learning import training
from dynprune_agents.learning.evolution import EvolutionSettings, EvolutionTrainer
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture
from dynprune_agents.learning.trainers import make_trainer
from dynprune_agents.learning.training import Plan, PolicyEvaluation, train
from dynprune_agents.policies._files import load_scorer

pytestmark = pytest.mark.usefixtures("few_evaluations")
SMALL: dict[str, Any] = {"train_size": 60, "epochs": 3, "reward": "val_accuracy"}
MIXTURE = Mixture(budgets=(0.3, 0.6), label_noise=(0.0, 0.4), env_kwargs=SMALL)
FEW = EvolutionSettings(width=2, members=4, imitation=3)
DYNPRUNE = [sys.executable, "-c", "from dynprune_agents.cli.app import main; main()"]
COMMAND = [
    *("train", "--env-kwargs", "train_size=60", "--env-kwargs", "epochs=3", "--device", "cpu"),
    *("--set", "members=4", "--set", "imitation=3", "--set", "width=2", "--envs", "8"),
]


def trainer() -> EvolutionTrainer:
    return EvolutionTrainer(MIXTURE, num_envs=8, steps=150, settings=FEW)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, arguments)


# -- draws -------------------------------------------------------------------------------------


def test_a_mixture_draws_every_value_and_data_of_its_own() -> None:
    mixture = Mixture(
        envs=("DynPrune-Digits-v0", "DynPrune-Planted-v0"),
        budgets=(0.1, 0.5),
        label_noise=(0.0, 0.4),
        vary={"epochs": [2, 3]},
        env_kwargs={"train_size": 50},
    )
    mixture.check()
    rng = np.random.default_rng(0)
    draws = [mixture.draw(rng) for _ in range(60)]
    assert {draw.env for draw in draws} == set(mixture.envs)
    for name, values in {"budget": (0.1, 0.5), "label_noise": (0, 0.4), "epochs": (2, 3)}.items():
        assert {draw.env_kwargs[name] for draw in draws} == set(values)
    assert all(draw.env_kwargs["train_size"] == 50 for draw in draws)
    seeds = [draw.env_kwargs["data_seed"] for draw in draws]
    assert len(set(seeds)) == 60
    assert min(seeds) >= FIRST_SEED


def test_what_is_drawn_for_one_task_replaces_what_is_drawn_for_all() -> None:
    mixture = Mixture(
        envs=("DynPrune-Digits-v0", "DynPrune-Planted-v0"),
        vary={"Planted:epochs": [7], "epochs": [2], "Digits:budget": [0.9]},
    )
    mixture.check()
    rng = np.random.default_rng(0)
    draws = [mixture.draw(rng) for _ in range(20)]
    drawn = {(d.env, d.env_kwargs["epochs"], d.env_kwargs["budget"]) for d in draws}
    assert drawn == {("DynPrune-Digits-v0", 2, 0.9), ("DynPrune-Planted-v0", 7, 0.3)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"budgets": ()}, "nothing to draw budget from"),
        ({"budgets": (0.5, 2.0)}, r"budget is a share .* got 2\.0"),
        ({"vary": {"Planted:epochs": [3]}}, "Planted:epochs is of a task that is not played"),
        ({"vary": {"Digits:epoch": [3]}}, "no parameter 'epoch'; it has .*epochs"),
        ({"vary": {"epoch": [3]}}, "no parameter 'epoch'; it has .*epochs"),
        ({"label_noise": (0.0, 1.2)}, r"label_noise .* got 1\.2"),
        ({"envs": ("DynPrune-Digits-v0", "DynPrune-MNIST-v0")}, "MNIST"),
        ({"envs": ("CartPole-v1",)}, "CartPole-v1 is not an environment of dynprune_env"),
        (
            {"vary": {"imbalance": [1.0, 0.02], "train_size": [80, 300]}},
            "imbalance=0.02 with train_size=300 needs 107 samples of class 0",
        ),
        *(
            ({"vary": {"Digits:epochs": [3]}, "env_kwargs": {key: value}}, expected)
            for key, value, expected in (
                ("budget", 0.5, "env_kwargs cannot set budget, .* in budgets, got 0.5"),
                ("label_noise", 0.4, "cannot set label_noise, .* in label_noise, got 0.4"),
                ("data_seed", 1, "cannot set data_seed, .* one of its own, got 1"),
                ("epochs", 5, "cannot set epochs, which is drawn: list its values in vary, got 5"),
            )
        ),
    ],
)
def test_a_mixture_that_could_fail_later_is_refused_at_once(change: Any, expected: str) -> None:
    with pytest.raises(Exception, match=expected):
        Mixture(**{"label_noise": (0.0,), **change}).check()


def test_of_a_large_mixture_no_value_goes_unchecked() -> None:
    many = {"threads": range(1, 20), "epochs": range(1, 40), "batch_size": range(1, 60)}
    vary = {**many, "imbalance": [1.0, 0.02], "train_size": [80, 300]}
    mixture = Mixture(budgets=(0.1, 0.2), vary=vary)
    found = list(zip(*mixture.combinations("DynPrune-Digits-v0"), strict=True))
    assert len(found[0]) == 2000
    for name, values in zip(mixture.choices("DynPrune-Digits-v0"), found, strict=True):
        assert set(values) == set(vary.get(name, mixture.budgets if name == "budget" else [None]))
    with pytest.raises(ValueError, match=r"imbalance=0\.02 with train_size=300 needs"):
        mixture.check()


def test_a_check_tells_how_many_samples_the_draws_have() -> None:
    vary = {"train_size": [300, 200], "Planted:train_size": [500]}
    mixture = Mixture(envs=("DynPrune-Digits-v0", "DynPrune-Planted-v0"), vary=vary)
    assert mixture.check() == {200, 300, 500}


def test_evaluation_compares_with_dynamic_random_on_seeds_of_its_own() -> None:
    evaluation = PolicyEvaluation(MIXTURE, seed=0)
    assert all(kwargs["data_seed"] < FIRST_SEED for _, kwargs in evaluation._draws)
    assert evaluation.lead(DynamicRandom()) == (0.0, 0.0)
    lead, error = evaluation.lead(FullData())
    assert abs(lead) < 0.2
    assert error > 0


# -- the loop ----------------------------------------------------------------------------------


def test_training_leaves_a_policy_a_curve_and_no_checkpoints(tmp_path: Path) -> None:
    out = tmp_path / "there" / "policy.zip"
    updates_seen: list[int] = []
    plan = Plan(300, out, evaluate_every=0.5, checkpoint_every=0)
    curve = train(trainer(), plan, lambda steps, metrics: updates_seen.append(steps))
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "policy.curve.json",
        "policy.curve.png",
        "policy.zip",
    ]
    assert (out.parent / "policy.curve.png").read_bytes()[:4] == b"\x89PNG"
    kept = json.loads((out.parent / "policy.curve.json").read_text())
    assert [0, *(update["steps"] for update in kept["updates"])] == updates_seen
    assert updates_seen[-1] >= 300
    assert [round(p["steps"] / 150) for p in kept["evaluations"]] == [0, 1, 2]
    untrained = PolicyEvaluation(trainer().mixture, plan.seed).lead(trainer().agent())
    first = kept["evaluations"][0]
    assert (first["steps"], first["lead"], first["error"]) == (0, *untrained)
    assert curve.seconds_of_evaluations > 0
    assert kept["visits"] == curve.visits > 0
    assert 0 < curve.seconds_in_env <= curve.seconds


def test_names_with_dots_do_not_share_their_files(tmp_path: Path) -> None:
    for out in ("lr0.1", "lr0.2", "p.npz"):
        train(trainer(), Plan(20, tmp_path / out))
    names = ["lr0.1", "lr0.2", "p"]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("lr0.1", "lr0.2", "p.npz"),
        *(f"{name}.curve.{ending}" for name in names for ending in ("json", "png")),
    }
    folders = [Plan(1, Path("at", out)).checkpoints.name for out in ("lr0.1", "p.npz", "p.zip")]
    assert folders == ["lr0.1.checkpoints", "p.checkpoints", "p.checkpoints"]


@pytest.mark.parametrize("name", ["policy.npz", "policy"])
def test_a_finished_policy_is_kept_and_so_is_its_curve(name: str, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def other(seed: int) -> EvolutionTrainer:
        return EvolutionTrainer(MIXTURE, num_envs=8, steps=20, settings=FEW, seed=seed)

    plan = Plan(20, tmp_path / name)
    old = "policy.old{}" + name.removeprefix("policy")
    train(other(0), plan)
    first = files()
    train(other(0), plan)  # the same again
    assert (files().keys(), files()[name]) == (first.keys(), first[name])
    first = files()
    (tmp_path / "policy.old1.curve.png").touch()  # somebody's
    for seed in (1, 2):
        train(other(seed), plan)
    found = files()
    assert found[old.format(2)] == first[name]
    for ending in ("json", "png"):
        assert found[f"policy.old2.curve.{ending}"] == first[f"policy.curve.{ending}"]
    assert len({found[name], found[old.format(2)], found[old.format(3)]}) == 3
    assert len(found) == 10


def test_a_finished_policy_stays_until_the_next_is_finished(tmp_path: Path) -> None:
    def stop(steps: int, metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "policy.npz"
    out.write_bytes(b"old")
    plan = Plan(150, out, checkpoint_every=0)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(trainer(), plan, stop)
        assert out.read_bytes() == b"old"
    train(trainer(), plan)
    assert {path.name for path in tmp_path.glob("*.npz")} == {"policy.npz", "policy.old1.npz"}
    assert (tmp_path / "policy.old1.npz").read_bytes() == b"old"


def test_two_trainings_of_one_file_lose_no_policy(tmp_path: Path) -> None:
    refused = []

    def meanwhile(steps: int, metrics: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="another training that will write"):
            train(trainer(), plan)
        refused.append(steps)
        train(trainer(), Plan(20, tmp_path / "other.npz"))
        plan.out.write_bytes(b"of somebody else")

    plan = Plan(100, tmp_path / "policy.npz")
    train(trainer(), plan, meanwhile)
    assert refused
    assert (tmp_path / "policy.old1.npz").read_bytes() == b"of somebody else"
    load_scorer(str(plan.out))
    assert not [*tmp_path.glob("*.lock")]
    train(trainer(), plan)  # and again, once the first is over


def test_a_stopped_training_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole.zip", tmp_path / "stopped.zip"
    train(trainer(), Plan(150, whole))

    def stop(steps: int, metrics: dict[str, float]) -> None:
        if steps > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainer(), Plan(150, stopped, checkpoint_every=0), stop)
    assert not stopped.exists()
    half = tmp_path / "stopped.checkpoints" / ".000000000099.partial"
    half.mkdir()  # what a kill in the middle of writing leaves
    curve = train(trainer(), Plan(150, stopped, checkpoint_every=0))
    assert np.array_equal(load_scorer(str(whole))[1], load_scorer(str(stopped))[1])
    undisturbed = json.loads((tmp_path / "whole.curve.json").read_text())
    assert [u["return"] for u in curve.updates] == [u["return"] for u in undisturbed["updates"]]
    assert curve.evaluations == undisturbed["evaluations"]


def test_a_checkpoint_of_other_arguments_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    def stop(steps: int, metrics: dict[str, float]) -> None:
        if steps:
            raise KeyboardInterrupt

    out = tmp_path / "policy.zip"
    plan = Plan(150, out, arguments={"seed": 1, "algo": "es"}, checkpoint_every=0)
    assert plan.steps_saved() is None
    with pytest.raises(KeyboardInterrupt):
        train(trainer(), plan, stop)
    assert (plan.steps_saved() or 0) > 0
    other = Plan(150, out, arguments={"seed": 2, "algo": "es"})
    expected = r"other arguments \(seed: 1 there, 2 now\): take another --out"
    with pytest.raises(ValueError, match=expected):
        train(trainer(), other)


def test_tensorboard_is_fed_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(trainer(), Plan(40, tmp_path / "policy.zip", tensorboard=tmp_path / "board"))
    assert list((tmp_path / "board").glob("events*"))


# -- the command -------------------------------------------------------------------------------


def test_without_tensorboard_nothing_is_trained_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    made = trainer()
    with pytest.raises(ValueError, match="pip install tensorboard"):
        train(made, Plan(40, tmp_path / "policy.zip", tensorboard=tmp_path / "board"))
    assert made.steps == 0


def test_the_command_trains_a_policy_that_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--budgets", "0.3", "--budgets", "0.6", "--label-noise", "0.2", "--steps", "60"]
    done = call(*COMMAND, *options, "--vary", "Digits:batch_size=[16, 32]")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "above dynamic random" in done.output
    assert "Policy: policy.npz" in done.output
    assert "policy.old" not in done.output
    with np.load("policy.npz") as file:
        origin = json.loads(str(file["head"]))["origin"]
    assert origin["mixture"]["budgets"] == [0.3, 0.6]
    assert origin["mixture"]["vary"] == {"Digits:batch_size": [16, 32]}
    assert origin["steps"] >= 60
    small = ["--env-kwargs", "train_size=60", "--env-kwargs", "epochs=2"]
    played = call("run", *small, "--agent", "learned(policy='policy.npz')")
    assert played.exit_code == 0, (played.output, played.exception)
    again = call(*COMMAND, "--steps", "9", "--seed", "1")
    assert again.exit_code == 0, (again.output, again.exception)
    assert "policy.npz was there before: it is kept, with its curve, as policy.old1.npz" in (
        " ".join(again.output.split())
    )


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    command = [*DYNPRUNE, *COMMAND, "--steps", "600", "--checkpoint-every", "0"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    running = subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(killed.glob("policy.checkpoints/[0-9]*"))) < 1:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (killed / "policy.npz").exists()
    told = [
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=120
        ).stdout
        for folder in (killed, whole)
    ]
    assert ["goes on from what is saved in policy.checkpoints, after " in out for out in told] == [
        True,
        False,
    ]
    assert all("s more to evaluate" in out for out in told)
    one, other = (load_scorer(str(folder / "policy.npz"))[1] for folder in (killed, whole))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--algo", "reinforce"], "no algorithm is called 'reinforce'; there are es, "),
        (["--algo", "es", "--action", "quantiles"], "trains a scorer (observation samples, "),
        (["--set", "sigmas=1.0"], "no parameter 'sigmas'; it has width, "),
        (["--vary", "epochs=3"], r"--vary takes KEY=[VALUE, ...], got epochs=3"),
        (["--vary", "budget=[0.5]"], "--vary cannot draw budget"),
        (["--vary", "Digits:reward=['val_loss']"], "--vary cannot draw Digits:reward"),
        (["--env-kwargs", "label_noise=.4"], "--env-kwargs cannot set label_noise: it has an op"),
        (["--env-kwargs", "reward=val_loss"], "--env-kwargs cannot set reward: it has an option"),
        (["--env-kwargs", "observation=run"], "--env-kwargs cannot set observation: it has an"),
        (["--env-kwargs", "data_seed=1"], "cannot set data_seed, which is drawn"),
        (["--budgets", "1.5"], "budget is a share of a full run in (0, 1], got 1.5"),
        (["--start", "nobody"], "there is no policy file 'nobody'"),
    ],
)
def test_a_mistake_is_seen_before_anything_is_trained(
    options: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dynprune", *COMMAND, "--steps", "9", *options])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("algo", "action", "kinds"),
    [
        ("ppo", None, ("run", "tilts")),
        ("ppo", "weights", ("samples", "weights")),
        ("sac", "weights", ("samples", "weights")),
        ("dqn", None, ("run", "strategy")),
        ("ars", None, ("run", "tilts")),
        ("ars", "weights", ("run", "weights")),
    ],
)
def test_every_algorithm_has_defaults_for_the_form_that_fits_it(
    algo: str, action: str | None, kinds: tuple[str, str]
) -> None:
    if algo == "ars":
        pytest.importorskip("sb3_contrib")
    made = make_trainer(
        algo,
        MIXTURE,
        observation=None,
        action=action,
        num_envs=2,
        steps=10,
        seed=0,
        settings={},
    )
    found = made.mixture.env_kwargs
    assert (found["observation"], found["action"]) == kinds
