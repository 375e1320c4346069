"""What decides a number is in its identity: another one is noticed, and nothing else is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from helpers import command
from helpers.results import run, with_epochs
from helpers.slow import slow

import dynprune_agents
from dynprune_agents.learning.evolution import EvolutionSettings, EvolutionTrainer
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.training import Plan, train
from dynprune_env import register_task
from dynprune_env.benchmark import identity
from dynprune_env.benchmark.best_epoch import BestEpoch
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.results import Result, load_results
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.benchmark.standing import save_anew, set_aside
from dynprune_env.common import sources
from dynprune_env.tasks import registry, variants

pytestmark = pytest.mark.usefixtures("few_evaluations")
SMALL: dict[str, Any] = {"train_size": 80, "epochs": 3, "budget": 0.5}
RULE = """
from dataclasses import dataclass
from dynprune_agents import Agent
from dynprune_env import keep_top
{imports}

@dataclass
class Mine(Agent):
    def select(self, observation):
        return keep_top({sign}observation["loss"], self.keep_count(observation), self.rng)
"""


class Workplace:
    """A folder of a user's own modules and results; every sweep is that of a new process."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.notes: list[str] = []
        self._before = set(sys.modules)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")

    def forget(self) -> None:
        """What a new process does not know yet."""
        invalidate_caches()
        for name in set(sys.modules) - self._before:
            if str(self.folder) in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]
        variants._load.cache_clear()

    def sweep(self, agent: str, env: str = "DynPrune-Digits-v0", **options: Any) -> list[int]:
        """Plays seeds 0 and 1; returns those that were played now."""
        self.forget()
        for module in options.get("imports", ()):
            import_module(module)
        self.notes.clear()
        kwargs = {**SMALL, **options.pop("env_kwargs", {})}
        label = repr(dynprune_agents.make(agent))
        outcomes = run_sweep(
            [RunGroup(env, kwargs, label, (0, 1))],
            dynprune_agents.make,
            self.folder / "results",
            device="cpu",
            on_note=self.notes.append,
            **options,
        )
        outcome = list(outcomes)[-1]
        assert outcome.error is None, outcome.traceback
        return [result.config.seed for result in outcome.results]

    def results(self) -> list[Result]:
        return list(load_results([self.folder / "results"]))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    monkeypatch.setattr(registry, "_OWN", dict(registry._OWN))
    place = Workplace(tmp_path)
    yield place
    place.forget()
    gym.registry.pop("DynPrune-OwnTable-v0", None)


def mine(sign: str = "", imports: str = "") -> str:
    return RULE.format(sign=sign, imports=imports)


def test_nothing_is_played_again_where_nothing_changed(place: Workplace) -> None:
    place.write("own_rule.py", mine())
    assert place.sweep("own_rule:Mine") == [0, 1]
    assert place.sweep("own_rule:Mine") == []
    assert place.notes == []


def test_an_edited_agent_is_played_again_to_what_its_file_gives(place: Workplace) -> None:
    place.write("own_rule.py", mine())
    place.sweep("own_rule:Mine")
    old = [result.selections for result in place.results()]
    place.write("own_rule.py", mine("-"))
    assert place.sweep("own_rule:Mine") == [0, 1]
    assert [result.selections for result in place.results()] != old
    (note,) = place.notes
    assert "own_rule:Mine" in note and "the code of own_rule changed" in note
    assert [result.selections for result in load_results([place.folder / "results/stale"])] == old
    assert place.sweep("own_rule:Mine") == []


def test_a_result_that_cannot_be_played_again_is_not_taken_for_a_new_one(place: Workplace) -> None:
    place.write("own_rule.py", mine())
    place.sweep("own_rule:Mine")
    place.write("own_rule.py", mine("nothing."))
    with pytest.raises(AssertionError, match="NameError"):
        place.sweep("own_rule:Mine")
    assert place.results() == []


@pytest.mark.parametrize("edited", [True, False])
def test_the_command_run_loses_no_result_of_an_edited_agent_either(
    edited: bool, place: Workplace
) -> None:
    out = place.folder / "results"
    arguments = ["run", *command.SMALL, "--agent", "own_rule:Mine", "--seeds", "2"]
    place.write("own_rule.py", mine())
    command.call(*arguments, "--out", str(out))
    old = [result.selections for result in place.results()]
    place.write("own_rule.py", mine("-" if edited else "+"))  # the latter decides no number
    place.forget()
    said = " ".join(command.call(*arguments, "--out", str(out)).output.split())
    assert ("2 older results with other numbers moved into" in said) == edited
    assert ([result.selections for result in place.results()] != old) == edited
    assert (out / "stale").exists() == edited
    if edited:
        assert "/stale/; what differs: the code of own_rule" in said
        assert [result.selections for result in load_results([out / "stale"])] == old


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"versions": {"torch": "2.0.0"}}, "the libraries"),
        ({"machine": "aarch64 Other"}, "the machine"),
        ({}, "nothing that is on record"),
    ],
)
def test_a_result_with_other_numbers_is_set_aside_whatever_made_it(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    made_by = Fingerprint("0" * 16, data="0" * 16, engine={"device": "cpu"})
    new = replace(with_epochs(run(0.7), [0.5, 0.5]), fingerprint=made_by)
    old = replace(new, test_accuracy=0.5, **changes)
    old.save(tmp_path)
    assert save_anew(new, tmp_path) == {why}
    assert [each.test_accuracy for each in load_results([tmp_path])] == [0.7]
    assert [each.test_accuracy for each in load_results([tmp_path / "stale"])] == [0.5]


def test_what_was_not_asked_for_this_time_is_kept(tmp_path: Path) -> None:
    made_by = Fingerprint("0" * 16, data="0" * 16, engine={"device": "cpu"})
    played = with_epochs(run(0.7), [0.5, 0.5])
    old = replace(played, fingerprint=made_by, best_epoch=BestEpoch(1, 0.5, 0.75))
    old.save(tmp_path)
    assert save_anew(replace(old, best_epoch=None), tmp_path) == set()
    assert [each.best_epoch for each in load_results([tmp_path])] == [old.best_epoch]
    assert not (tmp_path / "stale").exists()


def test_what_is_set_aside_replaces_nothing(tmp_path: Path) -> None:
    for text in ("a", "b", "c"):
        path = tmp_path / "0123.json"
        path.write_text(text)
        set_aside(path)
    kept = {each.name: each.read_text() for each in (tmp_path / "stale").iterdir()}
    assert kept == {"0123.json": "a", "0123-2.json": "b", "0123-3.json": "c"}


IMPORTED: dict[str, tuple[str, str]] = {
    "beside it": ("import own_helper", "own_helper.py"),
    "from a package": ("from own_parts.deep import helper", "own_parts/deep/helper.py"),
    "by a name in it": ("from own_parts.deep.helper import A", "own_parts/deep/helper.py"),
    "that a helper imports": ("import own_between", "own_helper.py"),
}


@pytest.mark.parametrize("how", IMPORTED)
def test_an_edited_helper_counts(how: str, place: Workplace) -> None:
    imports, file = IMPORTED[how]
    place.write("own_between.py", "import own_helper")
    place.write("own_helper.py", "A = 1")
    for name in ("own_parts/__init__.py", "own_parts/deep/__init__.py"):
        place.write(name, "")
    place.write("own_parts/deep/helper.py", "A = 1")
    place.write("own_rule.py", mine(imports=imports))
    place.sweep("own_rule:Mine")
    place.write(file, "A = 2")
    assert place.sweep("own_rule:Mine") == [0, 1]
    assert "helper changed" in place.notes[0]


def test_an_edited_helper_that_is_imported_while_it_plays_counts(place: Workplace) -> None:
    place.write("own_helper.py", "A = 1")
    late = mine().replace("        return", "        import own_helper\n        return")
    place.write("own_rule.py", late)
    place.sweep("own_rule:Mine")
    place.write("own_helper.py", "A = 2")
    assert place.sweep("own_rule:Mine") == [0, 1]


def test_a_helper_that_is_gone_counts(place: Workplace) -> None:
    place.write("own_helper.py", "A = 1")
    place.write("own_rule.py", mine(imports="try: import own_helper\nexcept ImportError: pass"))
    place.sweep("own_rule:Mine")
    (place.folder / "own_helper.py").unlink()
    assert place.sweep("own_rule:Mine") == [0, 1]


def test_an_edited_base_class_counts(place: Workplace) -> None:
    place.write("own_bases/__init__.py", mine())
    place.write("own_rule.py", "from own_bases import Mine as Base\nclass Mine(Base): pass")
    place.sweep("own_rule:Mine")
    place.write("own_bases/__init__.py", mine("-"))
    assert place.sweep("own_rule:Mine") == [0, 1]


@pytest.mark.parametrize("wrapper", ["pods", "random_control"])
def test_the_rule_within_a_wrapper_counts(wrapper: str, place: Workplace) -> None:
    place.write("own_rule.py", mine())
    kwargs = {"weights": "raw"} if wrapper == "random_control" else {}
    spec = f"{wrapper}(rule='own_rule:Mine')"
    place.sweep(spec, env_kwargs=kwargs)
    assert place.sweep(spec, env_kwargs=kwargs) == []
    place.write("own_rule.py", mine("-"))
    assert place.sweep(spec, env_kwargs=kwargs) == [0, 1]


def test_what_decides_no_number_changes_nothing(place: Workplace) -> None:
    place.write("own_rule.py", mine())
    place.write("README.md", "words")
    place.write("test_own.py", "def test_nothing(): pass")
    place.write("not_imported.py", "A = 1")
    place.sweep("own_rule:Mine")
    for name in ("README.md", "test_own.py", "not_imported.py"):
        place.write(name, "A = 2")
    assert place.sweep("own_rule:Mine") == []


def test_an_overwritten_policy_is_played_again(place: Workplace) -> None:
    from dynprune_agents.policies._files import find_policy

    path = place.folder / "policy.npz"
    path.write_bytes(find_policy("cautious").read_bytes())
    spec = f"learned(policy={str(path)!r})"
    place.sweep(spec)
    assert place.sweep(spec) == []
    old = [result.selections for result in place.results()]
    path.write_bytes(find_policy("weighted").read_bytes())
    assert place.sweep(spec) == [0, 1]
    assert "the policy file policy.npz changed" in place.notes[0]
    assert [result.selections for result in place.results()] != old


TASK = """
import numpy as np
from pathlib import Path
from dynprune_env import Recipe, own_task, register_task
TABLE = np.load(Path(__file__).with_name("table.npy"))

def make():
    x, y = TABLE[:, :-1].astype("f4"), TABLE[:, -1].astype(int)
    return own_task((x[:120], y[:120]), (x[120:], y[120:]), "mlp(width=8)", Recipe(3, 16, 0.1))

register_task("OwnTable", make)
"""


def table(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(200, 4))
    return np.column_stack([inputs, inputs[:, 0] > 0])


@pytest.mark.parametrize("what", ["data", "code"])
def test_a_task_whose_data_or_code_changed_is_played_again(what: str, place: Workplace) -> None:
    np.save(place.folder / "table.npy", table(0))
    place.write("own_tables.py", TASK)
    options: dict[str, Any] = {"env": "DynPrune-OwnTable-v0", "imports": ("own_tables",)}
    place.sweep("ucb", **options)
    assert place.sweep("ucb", **options) == []
    if what == "data":
        np.save(place.folder / "table.npy", table(1))
    else:
        place.write("own_tables.py", TASK.replace("width=8", "width=9"))
    assert place.sweep("ucb", **options) == [0, 1]
    assert ("the data changed" in place.notes[0]) == (what == "data")


def test_stale_results_can_be_accepted(place: Workplace) -> None:
    place.write("own_rule.py", mine())
    place.sweep("own_rule:Mine")
    place.write("own_rule.py", mine("-"))
    assert place.sweep("own_rule:Mine", accept_stale=True) == []
    assert "2 results whose fingerprint differs are kept" in place.notes[0]


ELSEWHERE: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "package": lambda patch: patch.setattr(identity, "package_hash", lambda: "another"),
    "numba": lambda patch: patch.setattr(identity, "HAS_NUMBA", not identity.HAS_NUMBA),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_what_another_version_or_engine_made_is_kept_and_said(
    what: str, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.sweep("ucb")
    ELSEWHERE[what](monkeypatch)
    assert place.sweep("ucb") == []
    assert "kept (--refresh plays them again)" in place.notes[0]
    assert place.sweep("ucb", refresh=True) == [0, 1]
    assert place.sweep("ucb", refresh=True) == []
    assert place.notes == []


def test_a_result_without_fingerprint_is_kept_and_said(place: Workplace) -> None:
    from dataclasses import replace

    place.sweep("ucb")
    for result in place.results():
        replace(result, fingerprint=None).save(place.folder / "results")
    assert place.sweep("ucb") == []
    assert "made before fingerprints were kept" in place.notes[0]


def test_the_sources_of_both_packages_count_but_for_reports_and_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = []
    for folder in ("dynprune_env/report", "dynprune_env/selection", "dynprune_agents/cli"):
        path = tmp_path / folder
        path.mkdir(parents=True)
    (tmp_path / "dynprune_agents/ucb.py").touch()
    monkeypatch.setattr(sources, "_folders", lambda package: [tmp_path / package])
    for file in (None, "env/report/page.py", "agents/cli/app.py", "agents/ucb.py"):
        if file:
            (tmp_path / f"dynprune_{file}").write_text("A = 1", encoding="utf-8")
        hashes.append(sources.package_hash.__wrapped__())
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    (tmp_path / "dynprune_env/selection/ranking.py").write_text("A = 1", encoding="utf-8")
    assert sources.package_hash.__wrapped__() != hashes[3]


def test_what_was_typed_at_a_prompt_has_the_hash_of_its_byte_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # it has no file
    hashes = []
    for value in (1, 1, 2):
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(f"class Rule:\n    def select(self): return (lambda: {value})()", space)
        hashes.append(sources.own_sources([space["Rule"]])["__main__:Rule"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_code_that_is_loaded_is_the_one_that_counts(place: Workplace) -> None:
    place.write("own_loaded.py", "def make(): return 1")
    make = import_module("own_loaded").make
    before = sources.own_sources([make])
    place.write("own_loaded.py", "def make(): return 2")
    assert sources.own_sources([make]) == before  # the old code is what runs
    place.forget()
    assert sources.own_sources([import_module("own_loaded").make]) != before


def test_what_python_and_installed_packages_bring_is_no_code_of_ones_own() -> None:
    assert sources.own_sources([Path, print, np.linspace, register_task]) == {}


# -- a training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["code", "data", "file", "package", *slow("nothing")])
def test_a_training_goes_on_only_where_all_of_it_is_the_same(
    what: str, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(place.folder / "table.npy", table(0))
    place.write("own_tables.py", TASK)
    start = place.folder / "start.npz"
    start.write_bytes(b"one")

    def again(stop: bool) -> None:
        place.forget()
        import_module("own_tables")
        mixture = Mixture(envs=("DynPrune-OwnTable-v0",), env_kwargs={"epochs": 2})
        few = EvolutionSettings(width=2, members=4, imitation=0)
        trainer = EvolutionTrainer(mixture, num_envs=8, steps=40, settings=few)
        plan = Plan(40, place.folder / "out.npz", files=(start,), checkpoint_every=0)

        def interrupt(steps: int, metrics: dict[str, float]) -> None:
            if stop and steps:
                raise KeyboardInterrupt

        train(trainer, plan, interrupt)

    with pytest.raises(KeyboardInterrupt):
        again(stop=True)
    if what == "code":
        place.write("own_tables.py", TASK.replace("width=8", "width=9"))
    elif what == "data":
        np.save(place.folder / "table.npy", table(1))
    elif what == "file":
        start.write_bytes(b"two")
    elif what == "package":
        monkeypatch.setattr(identity, "package_hash", lambda: "another")
    if what == "nothing":
        again(stop=False)
        return
    with pytest.raises(ValueError, match="holds a training that cannot go on"):
        again(stop=False)
