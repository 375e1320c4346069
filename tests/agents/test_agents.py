"""Every agent keeps one contract, and the paper's agents keep the paper's rules."""

from __future__ import annotations

import copy
import math
import random
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, make_vector

import dynprune_agents
from dynprune_agents import Agent
from dynprune_env import Episode, Settings, run_episodes
from dynprune_env.selection.actions import MAX_WEIGHT
from dynprune_env.selection.observations import PROGRESS
from dynprune_env.tasks.datasets import DatasetInfo, RawData, Split
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.registry import TASKS, Task

every_agent = pytest.mark.parametrize("name", dynprune_agents.names())

# Rules whose full epochs would be all of a short run: the contract is for what comes after them.
FULL_EPOCHS = ("early_stopping", "es", "eswp", "ies", "progressive_dropout", "random_progressive")
may_be_full_data = pytest.mark.filterwarnings("ignore:.* spend the whole budget")


def room(name: str) -> dict[str, Any]:
    """The rule's own settings, and a longer run where a short one would be full data."""
    longer = {"epochs": 10, "budget": 0.8} if name in FULL_EPOCHS else {}
    return {**dynprune_agents.make(name).env_kwargs, **longer}


def play(agent: Agent, env: Any, seed: int | list[int]) -> list[tuple[Any, np.ndarray, Any]]:
    """(observation, action, terminated) of each step of one episode."""
    observation, _ = env.reset(seed=seed)
    agent.prepare(env.scoring_runs(seed))
    agent.reset(env.episode(seed))
    steps, ended = [], False
    while not np.all(ended):
        before = copy.deepcopy(observation)
        action = agent.select(observation)
        assert_same(observation, before)
        observation, reward, ended, _, _ = env.step(action)
        agent.update(before, action, reward, observation)
        steps.append((before, np.array(action), ended))
    return steps


# -- the contract ------------------------------------------------------------------------------


@every_agent
def test_an_agent_is_a_documented_dataclass_with_defaults(name: str) -> None:
    agent, found = dynprune_agents.make(name), dynprune_agents.agent_class(name)
    assert is_dataclass(found)
    assert "__dataclass_fields__" in vars(found), "the class itself has no @dataclass"
    described = dynprune_agents.describe(name)
    assert described
    assert not described.startswith(f"{found.__name__}("), "this is what @dataclass writes"
    assert vars(agent) == {field.name: field.default for field in fields(found)}
    assert agent.env_kwargs.keys() <= {field.name for field in fields(Settings)} - {"budget"}


def changed(default: Any, kind: Any) -> Any:
    """Another value of the same kind, in the same range wherever that is a share."""
    if "bool" in str(kind):
        return not default
    if default is None and "str" in str(kind):
        return "5"
    return {int: lambda v: v + 1, float: lambda v: v / 2, type(None): lambda _: 5}.get(
        type(default), lambda v: v
    )(default)


@every_agent
def test_parameters_are_stored_as_given_and_the_repr_is_the_spec(name: str) -> None:
    found = dynprune_agents.agent_class(name)
    given = {field.name: changed(field.default, field.type) for field in fields(found)}
    assert MISSING not in given.values()
    agent = found(**given)
    assert vars(agent) == given
    assert repr(found()) == name
    for each in (agent, found()):
        again = dynprune_agents.make(repr(each))  # turns whole numbers into floats where due
        assert again == each
        assert repr(dynprune_agents.make(repr(again))) == repr(again)


@every_agent
def test_an_agent_plays_legal_actions_and_draws_nothing_from_global_generators(name: str) -> None:
    agent = dynprune_agents.make(name)
    env = make_vector(3, **room(name))
    env.reset(seed=0)  # what is imported on the way may draw
    states = [random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()]
    steps = play(agent, env, [3, 4, 5])
    after = [random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()]
    assert_same(after, states)
    for _, action, _ in steps:
        assert action.shape == env.action_space.shape
        if env.settings.action == "mask":
            assert action.dtype == bool
        elif env.settings.action == "weights":
            assert np.isfinite(action).all()
            assert action.min() >= 0
            assert action.max() <= MAX_WEIGHT


@every_agent
def test_a_row_is_the_agent_alone_with_its_seed(name: str) -> None:
    seeds = [3, 9]
    kwargs = {**room(name), "learner": "modules"}  # alike in company
    together = play(dynprune_agents.make(name), make_vector(2, **kwargs), seeds)
    for row, seed in enumerate(seeds):
        alone = play(dynprune_agents.make(name), make(**kwargs), seed)
        assert alone[-1][2]
        for (_, action, _), (_, actions, _) in zip(alone, together, strict=False):
            np.testing.assert_array_equal(action, actions[row])


@every_agent
def test_the_same_seeds_give_the_same_actions_whatever_was_played_before(name: str) -> None:
    agent = dynprune_agents.make(name)
    env = make_vector(2, **room(name))
    first, _, again = (
        [step[1] for step in play(agent, env, seeds)] for seeds in ([1, 2], [7, 8], [1, 2])
    )
    assert_same(again, first)


@may_be_full_data
@every_agent
def test_a_single_sample_is_enough_to_play_on(name: str) -> None:
    agent = dynprune_agents.make(name)
    assert play(agent, make_vector(2, train_size=1, **agent.env_kwargs), [0, 1])
    assert play(agent, make(train_size=1, **agent.env_kwargs), 0)


def _read_alike(data_dir: str | None, download: bool) -> RawData:
    split = Split(torch.ones(14, 3), torch.zeros(14, dtype=torch.int64))
    return RawData(train=split, test=split)


ALIKE = Task(
    DatasetInfo(
        "Alike", _read_alike, 14, num_val=2, num_classes=2, input_shape=(3,), class_size=12
    ),
    "mlp(width=4)",
    Recipe(epochs=3, batch_size=12, learning_rate=0.1),
)


@may_be_full_data
@every_agent
def test_where_all_samples_are_alike_no_position_is_preferred(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "Alike", ALIKE)
    agent, replicas = dynprune_agents.make(name), 50
    settings = {"task": "Alike", "train_size": None, "epochs": None, "batch_size": None}
    env = make_vector(replicas, **{**settings, **room(name)})
    if env.settings.action not in ("mask", "weights"):
        pytest.skip("its actions name no samples; ties fall at random where they are decoded")
    ended = np.zeros(replicas, dtype=bool)
    for _, actions, after in play(agent, env, list(range(replicas))):
        kept = (actions > 0)[~ended].mean(axis=0)
        share = kept.mean()
        tolerance = 5 * math.sqrt(share * (1 - share) / np.count_nonzero(~ended))
        assert kept == pytest.approx(np.full(12, share), abs=tolerance + 1e-9)
        ended = after


@may_be_full_data
@every_agent
@pytest.mark.parametrize("budget", [0.2, 0.5])
def test_the_budget_is_kept_and_a_small_one_is_spent(name: str, budget: float) -> None:
    small = {"train_size": 60, "epochs": 10, "budget": budget}
    agent = dynprune_agents.make(name)
    (result,) = run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=small, device="cpu")
    spent = result.visits + result.scored / 3
    assert spent <= budget * 600 + 1e-6
    if budget == 0.2:  # rules with a rate of their own may leave something of a large one
        assert spent >= budget * 600 - 0.5 * 10  # half a visit an epoch for rounding


# -- the paper's agents, by hand ---------------------------------------------------------------


def episode(num_samples: int, epochs: int = 10, budget: float = 0.5, seeds: Any = 0) -> Episode:
    return Episode(num_samples, 10, epochs, budget, seeds, probe=None)  # type: ignore[arg-type]


def observed(game: Episode, epoch: int, loss: Any, visits: Any = 1) -> dict[str, np.ndarray]:
    """What is seen after `epoch` epochs at an even pace: K = budget * n in each epoch to come."""
    progress = {"epoch": epoch / game.epochs, "spent": epoch / game.epochs}
    losses = np.asarray(loss, dtype=np.float32)
    return {
        "loss": losses,
        "visits": np.broadcast_to(np.float32(visits), losses.shape),
        "progress": np.array([progress.get(name, 0) for name in PROGRESS], dtype=np.float32),
    }


@pytest.mark.parametrize(("c", "kept"), [(0, [1, 3]), (1, [1, 3]), (2, [0, 3])])
def test_ucb_without_a_first_deviation_scores_by_mean_and_variance(
    c: float, kept: list[int]
) -> None:
    agent = dynprune_agents.make(f"ucb(c={c}, period=1, from_zero=False)")
    game = episode(4)
    agent.reset(game)
    assert agent.select(observed(game, 0, np.log([10] * 4), visits=0)).all()  # the warm-up
    # The first losses are the means; the variances are zero.
    mask = agent.select(observed(game, 1, [2.0, 1.9, 0.5, 3.0]))
    assert np.flatnonzero(mask).tolist() == [0, 3]
    # Samples 0 and 3 were trained: mean = .2 · 2 + .8 · 1.5 = 1.6, var = .8 · (1.5 - 2)² = .2, and
    # mean = .2 · 3 + .8 · 2.9 = 2.92, var = .8 · (2.9 - 3)² = .008. The others are frozen.
    mask = agent.select(observed(game, 2, [1.5, 1.9, 0.5, 2.9], visits=[2, 1, 1, 2]))
    assert agent.moments.mean == pytest.approx([1.6, 1.9, 0.5, 2.92])
    assert agent.moments.var == pytest.approx([0.2, 0, 0, 0.008], abs=1e-6)
    # Scores of sample 0: 1.6 + c · .2, below the 1.9 of sample 1 unless c > 1.5. With the
    # deviation .447 instead of the variance, 0 would win at c = 1 already.
    assert np.flatnonzero(mask).tolist() == kept
    # Samples 1 and 3: 1 gets the same loss again; 3 gets mean = .2 · 2.92 + .8 · 1 = 1.384 and
    # var = .2 · .008 + .8 · (1 - 2.92)² = 2.95072.
    agent.select(observed(game, 3, [1.5, 1.9, 0.5, 1.0], visits=[2, 2, 1, 3]))
    assert agent.moments.mean == pytest.approx([1.6, 1.9, 0.5, 1.384])
    assert agent.moments.var == pytest.approx([0.2, 0, 0, 2.95072])


def test_ucbs_first_loss_deviates_from_zero() -> None:
    agent = dynprune_agents.make("ucb(period=1)")
    game = episode(2)
    agent.reset(game)
    agent.select(observed(game, 0, np.log([10] * 2), visits=0))
    assert agent.moments.var.tolist() == [0, 0]
    # mean = 2 and var = .8 · 2² = 3.2; the other was not visited.
    agent.select(observed(game, 1, [2.0, np.log(10)], visits=[1, 0]))
    assert agent.moments.mean == pytest.approx([2, np.log(10)])
    assert agent.moments.var == pytest.approx([3.2, 0])
    # var = .2 · 3.2 + .8 · (1 - 2)² = 1.44, mean = .2 · 2 + .8 · 1 = 1.2; and .8 · .5² = .2.
    agent.select(observed(game, 2, [1.0, 0.5], visits=[2, 1]))
    assert agent.moments.mean == pytest.approx([1.2, 0.5])
    assert agent.moments.var == pytest.approx([1.44, 0.2])


@pytest.mark.parametrize("c", [0.0, 1.0, 3.0])
def test_ucb_keeps_what_the_sources_lines_keep_in_every_epoch(c: float) -> None:
    n, epochs, a = 40, 60, 0.8
    agent, game = dynprune_agents.make(f"ucb(c={c}, period=1)"), episode(n, epochs)
    agent.reset(game)
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.5, 3, n)
    loss, visits = np.full(n, np.log(10)), np.zeros(n)
    mean, variance = np.zeros(n), np.zeros(n)
    for epoch in range(epochs):
        mask = agent.select(observed(game, epoch, loss, visits=visits))
        if epoch:
            assert np.flatnonzero(mask).tolist() == sorted(np.argsort(mean + c * variance)[-20:])
        else:
            assert mask.all()
        for i in np.flatnonzero(mask):
            value = float(np.float32(hardness[i] * rng.exponential() * 0.97**epoch))
            variance[i] = (1 - a) * variance[i] + a * (value - mean[i]) ** 2
            mean[i] = value if visits[i] == 0 else (1 - a) * mean[i] + a * value
            loss[i] = value
            visits[i] += 1


def test_the_weight_of_the_newest_loss_is_a_parameter() -> None:
    agent = dynprune_agents.make("ucb(a=0.25)")
    game = episode(1)
    agent.reset(game)
    for epoch, loss in enumerate([2.0, 1.0], start=1):
        agent.select(observed(game, epoch, [loss], visits=epoch))
    assert agent.moments.mean == pytest.approx([0.75 * 2 + 0.25 * 1])
    assert agent.moments.var == pytest.approx([0.75 * 0.25 * 2**2 + 0.25 * (1 - 2) ** 2])


@pytest.mark.parametrize(("epsilon", "explored"), [(0.35, 3), (0.1, 1), (0.05, 0), (1.0, 10)])
def test_epsilon_greedy_keeps_the_top_and_draws_from_all_of_the_rest(
    epsilon: float, explored: int
) -> None:
    replicas, n, count = 400, 20, 10
    agent = dynprune_agents.make(f"epsilon_greedy(epsilon={epsilon}, warmup=0)")
    game = episode(n, seeds=tuple(range(replicas)))
    agent.reset(game)
    seen = observed(game, 0, np.tile(np.arange(n), (replicas, 1)))
    seen["progress"] = np.tile(seen["progress"], (replicas, 1))
    mask = agent.select(seen)
    assert (mask.sum(axis=1) == count).all()
    greedy = count - explored
    assert mask[:, n - greedy :].all()
    # The R others are uniform over the n - K + R that are left, the last of them included.
    rest = mask[:, : n - greedy].mean(axis=0)
    share = explored / (n - greedy)
    tolerance = 5 * math.sqrt(share * (1 - share) / replicas)
    assert rest == pytest.approx(np.full(n - greedy, share), abs=tolerance)


def test_epsilon_greedy_ranks_by_the_running_mean_of_the_loss() -> None:
    agent = dynprune_agents.make("epsilon_greedy(epsilon=0.0, period=1)")
    game = episode(4)
    agent.reset(game)
    agent.select(observed(game, 1, [5.0, 1.0, 1.9, 0.1]))
    # .2 · 5 + .8 · 1 = 1.8, .2 · 1 + .8 · 2.5 = 2.2: sample 1 is ahead of 2, and 0 behind it.
    mask = agent.select(observed(game, 2, [1.0, 2.5, 1.9, 0.1], visits=[2, 2, 1, 1]))
    assert agent.moments.mean == pytest.approx([1.8, 2.2, 1.9, 0.1])
    assert np.flatnonzero(mask).tolist() == [1, 2]


@pytest.mark.parametrize("name", ["ucb", "epsilon_greedy"])
@pytest.mark.parametrize(
    ("parameters", "epochs", "selections"),
    [
        ("", 200, [1, 11, 21]),
        ("", 40, [*range(1, 30, 2)]),
        ("", 30, [*range(1, 30)][::2]),
        ("", 4, [1, 2, 3]),
        ("period=7, warmup=3", 100, [3, 10, 17, 24]),
        ("period=5, warmup=0", 100, [0, 5, 10, 15, 20, 25]),
    ],
)
def test_the_paper_selects_after_a_full_epoch_and_then_each_period(
    name: str, parameters: str, epochs: int, selections: list[int]
) -> None:
    agent, game = dynprune_agents.make(f"{name}({parameters})"), episode(60, epochs=epochs)
    agent.reset(game)
    rng, masks = np.random.default_rng(0), []
    for epoch in range(min(epochs, 30)):
        masks.append(agent.select(observed(game, epoch, rng.random(60), visits=epoch)).copy())
    assert all(mask.all() for mask in masks[: selections[0]])
    assert all(mask.sum() == 30 for mask in masks[selections[0] :])
    new = [t for t, mask in enumerate(masks) if t and not np.array_equal(mask, masks[t - 1])]
    assert new == [t for t in selections if t]


@pytest.mark.parametrize(
    "spec",
    [
        "static_random",
        "dynamic_random",
        "dynamic_random(replacement=False)",
        "epsilon_greedy",
        "ucb",
        "ucb(period=3)",
    ],
)
@pytest.mark.parametrize("budget", [0.33, 0.5, 1.0])
def test_the_papers_agents_spend_the_budget_evenly_to_within_rounding(
    spec: str, budget: float
) -> None:
    small = {"train_size": 61, "epochs": 10, "budget": budget}
    agent = dynprune_agents.make(spec)
    (result,) = run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=small, device="cpu")
    total = round(budget * 610)
    assert total - 5 <= result.visits <= total
    kept = result.history["kept"]
    assert len(kept) == 10
    warm = 1 if hasattr(agent, "warmup") and agent.warmup else 0
    assert kept[:warm] == [61] * warm
    assert kept[warm:] == pytest.approx([(total - 61 * warm) / (10 - warm)] * (10 - warm), abs=2)


def test_dynamic_random_without_replacement_visits_all_before_any_twice() -> None:
    agent = dynprune_agents.make("dynamic_random(replacement=False)")
    steps = play(agent, make_vector(3, epochs=9, budget=0.3), [0, 1, 2])
    visits = np.zeros((3, 48))
    for _, mask, _ in steps:
        visits += mask
        assert (visits.max(axis=1) - visits.min(axis=1) <= 1).all()
    assert visits.max() == 3


def test_dynamic_random_draws_a_fresh_subset_each_period() -> None:
    agent, game = dynprune_agents.make("dynamic_random(period=2)"), episode(60)
    agent.reset(game)
    masks = [agent.select(observed(game, t, np.zeros(60))).tobytes() for t in range(6)]
    assert masks[0::2] == masks[1::2]
    assert len(set(masks)) == 3


def test_static_random_keeps_one_random_subset() -> None:
    steps = play(dynprune_agents.make("static_random"), make_vector(3, budget=0.25), [0, 1, 2])
    masks = np.array([mask for _, mask, _ in steps])
    assert len(masks) == 4
    assert (masks == masks[0]).all()
    assert (masks.sum(axis=-1) == 12).all()
    assert len({row.tobytes() for row in masks[0]}) == 3


def test_full_data_keeps_everything_until_the_budget_is_spent() -> None:
    steps = play(dynprune_agents.make("full_data"), make_vector(2), [0, 1])
    assert all(mask.all() for _, mask, _ in steps)
    assert len(steps) == 2


# -- names -------------------------------------------------------------------------------------


OWN = '''
from dataclasses import dataclass
import numpy as np
from dynprune_agents import Agent

@dataclass
class Mine(Agent):
    """Keeps the first k."""
    k: int = 1
    label: str = "a"

    def select(self, observation):
        return np.arange(observation["loss"].shape[-1]) < self.k + 0 * observation["loss"]

class Stranger:
    pass

class Unsaid(Mine):
    def __init__(self, k=1, sign=1):
        super().__init__(k)
        self.sign = sign
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with an agent of one's own."""
    (tmp_path / "own_agents.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_agents", raising=False)
    return "own_agents"


def test_an_agent_of_ones_own_is_named_by_module_and_class(own: str) -> None:
    agent = dynprune_agents.make(f"{own}:Mine(k=3, label='x, (y)')")
    assert (agent.k, agent.label) == (3, "x, (y)")
    assert repr(agent) == f"{own}:Mine(k=3, label='x, (y)')"
    assert dynprune_agents.make(repr(agent)) == agent
    assert repr(dynprune_agents.make(f"{own}:Mine")) == f"{own}:Mine"
    assert dynprune_agents.describe(f"{own}:Mine") == "Keeps the first k."
    assert [mask.sum() for _, mask, _ in play(agent, make_vector(2), [0, 1])] == [6] * 4


@pytest.mark.parametrize("module", ["dynprune_agents.dynamic.ucb", "dynprune_agents.ucb"])
def test_a_module_can_name_an_agent_of_the_package(module: str) -> None:
    """Also as it was before there were families."""
    assert repr(dynprune_agents.make(f"{module}:UCB(c=2.0)")) == "ucb(c=2.0)"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("uct", "no agent is called 'uct'; there are .*dynamic_random.* mean 'ucb'"),
        ("_agent", "no agent is called '_agent'"),
        ("ucb(x=1)", "the agent ucb has no parameter 'x'; it has period, warmup, c, a"),
        ("full_data(x=1)", "the agent full_data has no parameter 'x'; it has none"),
        ("ucb(c=-1)", "c is at least 0 .* got -1"),
        ("ucb(a=0)", r"a in \(0, 1\], got .* 0"),
        ("ucb(period=0)", "period .* at least 1, got 0"),
        ("ucb(warmup=-1)", "warmup .* at least 0, got -1"),
        ("epsilon_greedy(epsilon=1.5)", r"epsilon is in \[0, 1\] .* got 1.5"),
        ("ucb(c='high')", "c.*high"),
        ("ucb(period=2.5)", r"period.*2\.5"),
        ("ucb(c=1e999)", "c.*inf"),
        ("no_such_module:Mine", "cannot load the agent 'no_such_module:Mine': No module named"),
        ("own_agents:Nobody", "cannot load the agent 'own_agents:Nobody': .* no attribute"),
        ("own_agents:Stranger", "'own_agents:Stranger' is not a subclass of .*Agent"),
        ("own_agents:Unsaid(k=2, sign=-1)", "takes sign, which is no field .* with @dataclass"),
        ("dynprune_agents:PeriodicAgent", "'dynprune_agents:PeriodicAgent' .* abstract"),
    ],
)
@pytest.mark.usefixtures("own")
def test_a_wrong_spec_is_refused_with_what_would_be_right(spec: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        dynprune_agents.make(spec)
