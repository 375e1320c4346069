"""A sampler takes what a loop hands it or says what is wrong; a state fits or changes nothing."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_env import Episode, PruningSampler, WholeBatches
from dynprune_env.common.plain import plain_hash
from dynprune_env.sampler.state import check_settings

N, CLASSES = 40, 4
LABELS = np.arange(N) % CLASSES


def new(agent: Agent | str = "dynamic_random", labels: Any = LABELS, **changes: Any) -> Any:
    player = dynprune_agents.make(agent) if isinstance(agent, str) else agent
    return PruningSampler(labels, player, **{"epochs": 6, "budget": 0.5, "seed": 2, **changes})


def record(sampler: PruningSampler, ids: Any = None) -> None:
    """Records made-up losses of these samples, of all that are left by default."""
    ids = np.array(list(sampler)) if ids is None else ids
    sampler.record(ids, losses=torch.sin(torch.as_tensor(ids) + 0.1 * sampler.epoch) + 1)


def play(sampler: PruningSampler, epochs: int = 99) -> list[Any]:
    """What each epoch visits, and its gradient weights."""
    seen = []
    while not sampler.finished and len(seen) < epochs:
        seen.append((np.array(list(sampler)), sampler.weights(sampler.kept)))
        record(sampler)
        sampler.select()
    return seen


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# -- what is taken -----------------------------------------------------------------------------

SAME: dict[str, dict[str, Any]] = {
    "labels as a list": {"labels": LABELS.tolist()},
    "labels as a tensor": {"labels": torch.from_numpy(LABELS)},
    "labels as bytes": {"labels": LABELS.astype(np.uint8)},
    "labels as uint16": {"labels": torch.from_numpy(LABELS.astype(np.uint16))},
    "labels of the other endianness": {"labels": LABELS.astype(">i4")},
    "epochs of numpy": {"epochs": np.int64(6)},
    "epochs of torch": {"epochs": torch.tensor(6)},
    "a budget of numpy": {"budget": np.float32(0.5)},
    "classes of numpy": {"num_classes": np.int32(CLASSES)},
    "a seed of numpy": {"seed": np.int64(2)},
    "ranks of numpy": {"num_replicas": np.int64(1), "rank": np.int64(0)},
}


@pytest.mark.parametrize("what", SAME)
def test_numbers_of_any_library_make_the_same_sampler(what: str) -> None:
    sampler = new("infobatch", **SAME[what])
    assert_same(play(sampler), play(new("infobatch")))


def test_a_number_of_samples_may_be_of_numpy() -> None:
    assert list(new(labels=np.int64(N))) == list(new(labels=N))


def test_a_seed_of_none_is_drawn_recorded_and_gone_on_with() -> None:
    first, second = new(seed=None), new(seed=None)
    assert first.seed != second.seed
    assert list(new(seed=first.seed)) == list(first)
    play(first, 2)
    second.load_state_dict(through_a_file(first.state_dict()))
    assert second.seed == first.seed
    assert_same(play(second), play(first))


WAYS: dict[str, Callable[[np.ndarray, torch.Tensor], Any]] = {
    "list of losses": lambda ids, losses: (ids.tolist(), None, losses.tolist()),
    "tuple of ids": lambda ids, losses: (tuple(ids.tolist()), None, losses),
    "array of losses": lambda ids, losses: (ids, None, losses.numpy()),
    "double losses": lambda ids, losses: (ids, None, losses.double()),
    "int16 ids": lambda ids, losses: (torch.from_numpy(ids.astype(np.int16)), None, losses),
    "uint8 ids": lambda ids, losses: (torch.from_numpy(ids.astype(np.uint8)), None, losses),
    "uint32 ids": lambda ids, losses: (ids.astype(np.uint32), None, losses),
    "ids one by one": lambda ids, losses: ([torch.tensor(i) for i in ids], None, losses),
    "losses one by one": lambda ids, losses: (ids, None, [*losses.requires_grad_()]),
}


@pytest.mark.parametrize("way", WAYS)
def test_ids_and_losses_may_be_of_any_kind(way: str) -> None:
    sampler, other = new("ucb"), new("ucb")
    ids = sampler.kept
    losses = torch.linspace(0, 2, len(ids))
    other.record(ids, losses=losses.clone())
    given, logits, values = WAYS[way](ids, losses)
    sampler.record(given, logits, losses=values)
    sampler.select()
    other.select()
    assert_same(play(sampler), play(other))


def test_logits_may_be_an_array_or_lists() -> None:
    samplers = [new("ucb") for _ in range(3)]
    logits = torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(1))
    for sampler, given in zip(samplers, (logits, logits.numpy(), logits.tolist()), strict=True):
        sampler.record(sampler.kept[:20], given)
        sampler.select()
    first, *others = [play(sampler) for sampler in samplers]
    for other in others:
        assert_same(other, first)


def test_nothing_may_be_recorded_and_a_buffer_used_again() -> None:
    sampler, other = new(), new()
    sampler.record([], losses=[])
    buffer = torch.empty(10, dtype=torch.int64)
    for part in np.split(sampler.kept, 2):
        buffer[:] = torch.from_numpy(part)
        sampler.record(buffer, losses=torch.sin(buffer) + 1)
    record(other)
    sampler.select()
    other.select()
    assert_same(play(sampler), play(other))


@pytest.mark.parametrize("value", [0.4, np.float32(0.4), torch.tensor(0.4), torch.tensor([0.4])])
def test_val_values_may_be_numbers_of_any_library(value: Any) -> None:
    sampler = new()
    record(sampler)
    sampler.select(val_loss=value, val_accuracy=value)
    assert float(sampler._metrics.val_accuracy[0]) == pytest.approx(0.4)


# -- what is refused ---------------------------------------------------------------------------

NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "half an epoch": ({"epochs": 2.5}, "epochs is a whole number, got 2.5"),
    "a float of epochs": ({"epochs": 6.0}, "epochs is a whole number, got 6.0"),
    "a bool of epochs": ({"epochs": True}, "epochs is a whole number, got True"),
    "a text of epochs": ({"epochs": "6"}, "epochs is a whole number, got '6'"),
    "no epochs": ({"epochs": 0}, "epochs is at least 1, got 0"),
    "no samples": ({"labels": 0}, "the number of samples is at least 1, got 0"),
    "negative samples": ({"labels": -3}, "the number of samples is at least 1, got -3"),
    "a bool of samples": ({"labels": True}, "the number of samples is a whole number, got True"),
    "a float of samples": ({"labels": 40.0}, r"labels are \(n,\) integers, or n alone"),
    "no labels": ({"labels": []}, r"at least 1, got \(0,\)"),
    "bool labels": ({"labels": LABELS > 1}, r"got \(40,\) bool"),
    "float labels": ({"labels": LABELS / 2}, r"got \(40,\) float64"),
    "labels in columns": ({"labels": LABELS[:, None]}, r"got \(40, 1\) int64"),
    "labels of words": ({"labels": ["cat", "dog"]}, "labels are a tensor, an array or a list"),
    "ragged labels": ({"labels": [[1], [1, 2]]}, "labels are a tensor, an array or a list"),
    "no label at all": ({"labels": None}, "labels are a tensor, an array or a list"),
    "negative labels": ({"labels": LABELS - 1}, "got values from -1 to 2"),
    "few classes": ({"num_classes": 3}, r"labels are in \[0, 3\)"),
    "half a class": ({"num_classes": 4.5}, "num_classes is a whole number, got 4.5"),
    "a budget above 1": ({"budget": 50}, r"in \(0, 1\], got 50"),
    "a NaN budget": ({"budget": math.nan}, r"in \(0, 1\], got nan"),
    "a text budget": ({"budget": "0.5"}, r"in \(0, 1\], got '0.5'"),
    "a bool budget": ({"budget": True}, r"in \(0, 1\], got True"),
    "a negative seed": ({"seed": -1}, "seed is at least 0, got -1"),
    "half a seed": ({"seed": 0.5}, "seed is a whole number, got 0.5"),
    "half a rank": ({"num_replicas": 1, "rank": 0.5}, "rank is a whole number, got 0.5"),
    "no processes": ({"num_replicas": 0, "rank": 0}, "num_replicas is at least 1, got 0"),
    "other weights": ({"weights": "none"}, "no weights is called 'none'"),
    "a class of agents": ({"agent": DynamicRandom}, "pass an agent, such as"),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_a_sampler_of_something_else_is_refused_in_a_sentence(what: str) -> None:
    changes, sentence = NUMBERS[what]
    with pytest.raises(ValueError, match=sentence) as caught:
        new(**changes)
    assert "\n" not in str(caught.value)


BATCHES: dict[str, tuple[Any, Any, Any, str]] = {
    "float ids": (np.array([0.0]), None, [1.0], r"indices are \(B,\) integers, got \(1,\)"),
    "bool ids": (np.ones(N, dtype=bool), None, np.ones(N), r"indices are \(B,\) integers"),
    "a single id": (3, None, [1.0], r"indices are \(B,\) integers, got \(\)"),
    "no ids": (None, None, [1.0], "indices are a tensor, an array or a list"),
    "ids of words": (["a"], None, [1.0], "indices are a tensor, an array or a list"),
    "a negative id": ([-1], None, [1.0], r"indices are in \[0, 40\), got -1"),
    "an id of n": (torch.tensor([N], dtype=torch.int16), None, [1.0], r"\[0, 40\), got 40"),
    "a huge id": (np.array([2**63], dtype=np.uint64), None, [1.0], r"\[0, 40\), got -9"),
    "other lengths": ([0, 1], None, [1.0], r"one value per sample, \(2,\)"),
    "losses of words": ([0], None, ["a"], "losses are a tensor, an array or a list"),
    "losses of bools": ([0], None, [True], "losses are real numbers"),
    "complex losses": ([0], None, [1j], "losses are real numbers"),
    "flat logits": ([0], np.zeros(4), None, r"logits are \(B, C\) for B = 1"),
    "few logits": ([0], [[0.0, 1.0]], None, "a column for each of 4 classes, got 2"),
    "both": ([0], np.zeros((1, 4)), [1.0], "either logits or losses"),
}


@pytest.mark.parametrize("what", BATCHES)
def test_a_batch_of_something_else_is_refused_and_not_noted(what: str) -> None:
    sampler, other = new("ucb"), new("ucb")
    ids, logits, losses, sentence = BATCHES[what]
    with pytest.raises(ValueError, match=sentence):
        sampler.record(ids, logits, losses=losses)
    assert_same(play(sampler), play(other))


def test_too_many_records_are_refused_and_the_epoch_goes_on() -> None:
    sampler, other = new(), new()
    record(sampler, sampler.kept[:15])
    with pytest.raises(RuntimeError, match="21 samples were recorded, but the epoch has 20"):
        record(sampler, sampler.kept[:6])
    record(sampler, sampler.kept[15:])
    record(other)
    sampler.select()
    other.select()
    assert_same(play(sampler), play(other))


@pytest.mark.parametrize(
    "ids", [[-1], [N], np.array([0.0]), np.array([True]), [0.5], torch.tensor([True])]
)
def test_weights_of_what_is_no_sample_are_refused(ids: Any) -> None:
    with pytest.raises(ValueError, match=r"indices are (in \[0, 40\)|\(B,\) integers)"):
        new().weights(ids)


VAL_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "percent": ({"val_accuracy": 93.2}, r"a share in \[0, 1\], got 93.2: divide by 100"),
    "percent of torch": ({"val_accuracy": torch.tensor(50.0)}, "got 50.0: divide by 100"),
    "a negative share": ({"val_accuracy": -0.1}, r"a share in \[0, 1\], got -0.1$"),
    "NaN": ({"val_loss": math.nan}, "finite, got nan as val_loss"),
    "infinity": ({"val_loss": np.inf}, "finite, got inf as val_loss"),
    "NaN accuracy": ({"val_loss": 0.5, "val_accuracy": np.nan}, "finite, got nan as val_acc"),
    "a text": ({"val_loss": "0.5"}, "finite, got '0.5' as val_loss"),
    "a bool": ({"val_accuracy": True}, "finite, got True as val_accuracy"),
    "several": ({"val_loss": torch.ones(3)}, r"finite, got tensor\(\[1., 1., 1.\]\) as val_loss"),
}


@pytest.mark.parametrize("what", VAL_VALUES)
def test_a_val_value_of_something_else_is_refused_before_the_epoch_is_lost(what: str) -> None:
    sampler, other = new("ucb"), new("ucb")
    values, sentence = VAL_VALUES[what]
    record(sampler)
    record(other)
    with pytest.raises(ValueError, match=sentence):
        sampler.select(**values)
    assert sampler.epoch == 0
    for each in (sampler, other):
        each.select(val_loss=0.4, val_accuracy=0.932)
    assert_same(play(sampler), play(other))


def test_a_batch_size_is_a_whole_number() -> None:
    for size, sentence in ((0, "at least 1"), (2.5, "whole number"), (True, "whole number")):
        with pytest.raises(ValueError, match=sentence):
            WholeBatches(new(), size)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=sentence):
            new().steps_remaining(size)
    assert new().steps_remaining(np.int64(8)) == new().steps_remaining(8)


# -- who plays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dynamic_random", "ucb", "infobatch"])
def test_an_agent_that_was_handed_on_is_noticed(name: str) -> None:
    agent = dynprune_agents.make(name)
    first = new(agent)
    record(first)
    second = new(agent)
    for use in (first.select, first.state_dict):
        with pytest.raises(RuntimeError, match="reset for another sampler or environment"):
            use()
    assert_same(play(second), play(new(name)))


def test_an_agent_that_was_handed_to_an_environment_is_noticed() -> None:
    agent = dynprune_agents.make("ucb")
    sampler, env = new(agent), make()
    env.reset(seed=1)
    agent.reset(env.episode(1))
    record(sampler)
    with pytest.raises(RuntimeError, match="reset for another sampler or environment"):
        sampler.select()


class Duck:
    """An agent by its methods alone, that keeps no episode."""

    env_kwargs: Any = {}  # noqa: RUF012

    def prepare(self, runs: Any) -> None: ...

    def reset(self, episode: Episode) -> None:
        self.n, self.epochs = episode.num_samples, 0

    def select(self, observation: Any) -> np.ndarray:
        self.epochs += 1
        return np.arange(self.n) % 2 == self.epochs % 2

    def update(self, *step: Any) -> None: ...


def test_any_agent_is_noticed_and_any_agent_goes_on() -> None:
    agent: Any = Duck()
    first, _second = new(agent), new(agent)
    record(first)
    with pytest.raises(RuntimeError, match="Duck was reset for another sampler"):
        first.select()
    sampler, other = new(Duck()), new(Duck())  # type: ignore[arg-type]
    play(sampler, 3)
    other.load_state_dict(through_a_file(sampler.state_dict()))
    assert_same(play(other), play(sampler))


def test_one_agent_may_play_for_one_sampler_after_another() -> None:
    agent = dynprune_agents.make("thompson")
    visits = [play(new(agent)) for _ in range(2)]
    assert_same(visits[0], visits[1])


def test_a_copied_sampler_plays_on_alone() -> None:
    sampler = new("ucb")
    play(sampler, 2)
    other = copy.deepcopy(sampler)
    assert_same(play(other), play(sampler))


@dataclass
class Scribbling(DynamicRandom):
    """Writes into everything that it is shown and that it gave."""

    def select(self, observation: Any) -> np.ndarray:
        kept = super().select(observation)
        for column in observation.values():
            column[...] = 0
        return kept

    def update(self, observation: Any, action: Any, reward: Any, next_observation: Any) -> None:
        action[...] = 0
        for seen in (observation, next_observation):
            for column in seen.values():
                column[...] = 7


def test_an_agent_that_writes_into_what_it_sees_changes_nothing() -> None:
    sampler, other = new(Scribbling(replacement=False)), new(DynamicRandom(replacement=False))
    labels = LABELS.copy()
    assert_same(play(sampler, 3), play(other, 3))
    kept, expected = sampler._statistics.state(), other._statistics.state()
    assert_same({name: kept[name] for name in expected}, expected)
    assert_same(sampler._metrics.__dict__, other._metrics.__dict__)
    assert (labels == LABELS).all()


def test_an_agent_that_writes_into_its_last_mask_changes_nothing() -> None:
    @dataclass
    class Reusing(DynamicRandom):
        def select(self, observation: Any) -> np.ndarray:
            self.mask = super().select(observation)
            return self.mask

        def update(self, *step: Any) -> None:
            assert step[1].any(), "the action is as it was given"

    sampler = new(Reusing())
    sampler.agent.mask[...] = False
    record(sampler)
    sampler.select()


# -- states ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["raw", "mean_one"])
@pytest.mark.parametrize("name", ["infobatch", "importance_sampling", "pods", "sb3", "exp3"])
@pytest.mark.parametrize("recorded", [0, 7])
def test_a_state_goes_on_bit_for_bit_and_holds_no_code(
    name: str, weights: str, recorded: int
) -> None:
    sampler, other = new(name, weights=weights), new(name, weights=weights)
    play(sampler, 2)
    if recorded:
        record(sampler, sampler.kept[:recorded])
    state = through_a_file(sampler.state_dict())
    assert state["agent"]["pickled"] is False
    other.load_state_dict(state)
    assert sampler.weights(sampler.kept).equal(other.weights(other.kept))
    if recorded:
        record(sampler, sampler.kept[recorded:])
        record(other)
        sampler.select()
        other.select()
    assert_same(play(other), play(sampler))


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "another order of labels": ({"labels": LABELS[::-1].copy()}, "labels .a hash of them in the"),
    "two labels swapped": ({"labels": np.concatenate([[1, 0], LABELS[2:]])}, "labels .a hash"),
    "no labels": ({"labels": N, "num_classes": CLASSES}, "labels .a hash"),
    "more samples": ({"labels": np.arange(44) % CLASSES}, "n 40, labels .* n 44"),
    "another agent": ({"agent": "ucb"}, "agent dynamic_random, this one has agent ucb"),
    "more epochs": ({"epochs": 7}, "epochs 6, this one has epochs 7"),
    "another budget": ({"budget": 0.6}, "budget 0.5, this one has budget 0.6"),
    "another seed": ({"seed": 3}, "seed 2, this one has seed 3"),
    "raw weights": ({"weights": "raw"}, "weights mean_one, this one has weights raw"),
    "more classes": ({"num_classes": 9}, "num_classes 4, this one has num_classes 9"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_state_of_another_run_is_refused_and_says_what_differs(what: str) -> None:
    changes, sentence = OTHERS[what]
    sampler, other, twin = new(), new(**changes), new(**changes)
    play(sampler, 2)
    with pytest.raises(ValueError, match=f"the state is of a run with .*{sentence}"):
        other.load_state_dict(sampler.state_dict())
    assert_same(play(other), play(twin))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where everything lies in nested dicts and lists."""
    found = [path] if path else []
    pairs = tree.items() if isinstance(tree, dict) else ()
    return found + [place for key, value in pairs for place in places(value, (*path, key))]


def put(tree: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """The tree with one thing changed, or left out where that gives KeyError."""
    *above, last = path
    node = tree
    for key in above:
        node = node[key]
    try:
        node[last] = change(node[last])
    except KeyError:
        del node[last]
    return tree


def left_out(value: Any) -> Any:
    raise KeyError


def truncated(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dim() and len(value):
        return value[:-1]
    return "something else"


def of_another_type(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(torch.float16) if value.is_floating_point() else value.to(torch.int8)
    return b"something else"


def of_another_shape(value: Any) -> Any:
    return value[None] if isinstance(value, torch.Tensor) else [value, [value]]


def out_of_range(value: Any) -> Any:
    return value - 1000 if isinstance(value, torch.Tensor) and value.dtype == torch.int64 else None


CHANGES = {"left out": left_out, "truncated": truncated, "of another type": of_another_type}
CHANGES |= {"of another shape": of_another_shape, "out of range": out_of_range}


@pytest.mark.parametrize("how", CHANGES)
def test_a_damaged_state_meets_one_value_error_and_changes_nothing(how: str) -> None:
    sampler, twin, saved = new("ucb"), new("ucb"), new("ucb")
    play(saved, 2)
    record(saved, saved.kept[:7])
    for each in (sampler, twin):
        play(each, 1)
        record(each, each.kept[:3])
    tried = 0
    for place in places(saved.state_dict()):
        if how == "out of range" and place[-1] not in ("epoch", "visits", "order", "ids"):
            continue
        state = put(saved.state_dict(), place, CHANGES[how])
        with pytest.raises(ValueError, match=r"^the state|^the seed of the state") as caught:
            sampler.load_state_dict(state)
        assert "\n" not in str(caught.value), place
        tried += 1
    assert tried >= (4 if how == "out of range" else 60)
    for each in (sampler, twin):
        record(each, each.kept[3:])
        each.select()
    assert_same(play(sampler), play(twin))


RESEALED: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "an epoch below 0": (("arrays", "epoch"), lambda v: v - 9),
    "more visits than are paid for": (("arrays", "visits"), lambda v: v + 999),
    "a sample out of range": (("arrays", "order"), lambda v: v + 1),
    "a sample twice": (("arrays", "order"), torch.zeros_like),
    "records of what is not handed out": (("arrays", "ids"), lambda v: (v + 1) % N),
    "fewer values than ids": (("arrays", "values"), lambda v: v[:, 1:]),
    "weights of other samples": (("arrays", "weights"), lambda v: v[1:]),
    "negative weights": (("arrays", "weights"), lambda v: v - 5),
    "metrics that are not finite": (("arrays", "metrics"), lambda v: v * torch.nan),
    "another type of losses": (("statistics", "loss"), lambda v: v.double()),
    "losses of fewer samples": (("statistics", "loss"), lambda v: v[:, 1:]),
    "a text for a number": (("largest_batch",), str),
    "ranks of floats": (("ranks",), lambda v: [1.0, 0, False]),
    "no action": (("action",), lambda v: None),
}


@pytest.mark.parametrize("what", RESEALED)
def test_a_state_that_somebody_made_must_still_fit(what: str) -> None:
    place, change = RESEALED[what]
    sampler, twin, saved = (new("small_loss") for _ in range(3))
    play(saved, 2)
    record(saved, saved.kept[:7])
    state = put(saved.state_dict(), place, change)
    del state["hash"]
    state["hash"] = plain_hash(state)
    with pytest.raises(ValueError, match=r"^the state is damaged: (?!its hash)"):
        sampler.load_state_dict(state)
    assert_same(play(sampler), play(twin))


@pytest.mark.parametrize("state", [None, 3, [], {}, {"settings": {}}, torch.zeros(3)])
def test_what_is_no_state_meets_one_value_error(state: Any) -> None:
    with pytest.raises(ValueError, match="the state is damaged, or of another version"):
        new().load_state_dict(state)


@dataclass
class Unplain(DynamicRandom):
    """Holds a function."""

    def reset(self, episode: Episode) -> None:
        super().reset(episode)
        self.call = print


def test_an_agent_that_is_no_plain_value_is_named_or_pickled_and_trusted() -> None:
    sampler, other = new(Unplain()), new(Unplain())
    play(sampler, 2)
    with pytest.raises(TypeError, match=r"the agent\.call is a builtin_function.*pickled=True"):
        sampler.state_dict()
    state = through_a_file(sampler.state_dict(pickled=True))
    with pytest.raises(ValueError, match="as a pickle, which runs code"):
        other.load_state_dict(state)
    other.load_state_dict(state, trust=True)
    assert_same(play(other), play(sampler))


def test_settings_that_are_tensors_are_refused_in_a_sentence() -> None:
    for wrong in (torch.arange(3), [torch.arange(3)], np.arange(3)):
        with pytest.raises(ValueError, match="the state is of a run with"):
            check_settings({"settings": {"epochs": wrong}}, {"epochs": 3}, frozenset())
