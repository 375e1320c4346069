"""What was trained is what was handed out, or somebody says so."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, TensorDataset

import dynprune_agents
from dynprune_env import Indexed, PruningSampler, WholeBatches
from dynprune_env.common.plain import plain_hash
from dynprune_env.sampler.handed_out import check_together
from dynprune_env.sampler.processes import Ranks

N, CLASSES = 120, 4
LABELS = np.arange(N) % CLASSES


def new(agent: str = "dynamic_random", labels: Any = LABELS, **changes: Any) -> PruningSampler:
    kwargs = {"epochs": 5, "budget": 0.5, "seed": 2, **changes}
    return PruningSampler(labels, dynprune_agents.make(agent), **kwargs)


def record(sampler: PruningSampler, ids: Any = None) -> None:
    ids = np.array(list(sampler)) if ids is None else np.asarray(ids)
    sampler.record(ids, losses=torch.sin(torch.as_tensor(ids) + 0.1 * sampler.epoch) + 1)


def record_in_batches(sampler: PruningSampler, size: int, most: int = 99) -> None:
    for batch in [*BatchSampler(sampler, size, False)][:most]:
        record(sampler, batch)


def play(sampler: PruningSampler) -> list[Any]:
    seen = []
    while not sampler.finished:
        seen.append((np.array(list(sampler)), sampler.weights(sampler.kept)))
        record(sampler)
        sampler.select()
    return seen


# -- shortfalls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 3, 5])  # of 8, the last one of 4 samples
def test_an_epoch_that_lost_more_than_a_batch_is_an_error_that_names_the_causes(
    batches: int,
) -> None:
    sampler = new()
    record_in_batches(sampler, 8, batches)
    with pytest.raises(RuntimeError, match=rf"^{8 * batches} of the 60 samples") as caught:
        sampler.select()
    for cause in ("dealt the samples out again", "length was cached", "batches were skipped"):
        assert cause in str(caught.value)
    assert (sampler.epoch, sampler.visits) == (0, 0)


@pytest.mark.parametrize("batches", [7, 8])
def test_an_epoch_without_its_last_batch_is_charged_for_what_it_trained(batches: int) -> None:
    sampler = new()
    record_in_batches(sampler, 8, batches)
    sampler.select()
    assert sampler.visits == min(60, 8 * batches)


def test_a_shortfall_may_be_a_warning_from_the_start_or_later() -> None:
    for sampler in (new(on_shortfall="warn"), new()):
        sampler.on_shortfall = "warn"
        record_in_batches(sampler, 8, 2)
        with pytest.warns(UserWarning, match="16 of the 60 samples"):
            sampler.select()
        assert sampler.visits == 16
    with pytest.raises(ValueError, match="no on_shortfall is called 'ignore'"):
        new(on_shortfall="ignore")
    with pytest.raises(ValueError, match="no on_shortfall is called 'wran'"):
        sampler.on_shortfall = "wran"


def test_an_epoch_of_no_batch_names_the_cause_and_may_be_gone_on_from() -> None:
    sampler = new()
    with pytest.raises(RuntimeError, match="drop_last with a batch_size above the number of"):
        sampler.select()
    sampler.on_shortfall = "warn"
    with pytest.warns(UserWarning, match="nothing was recorded"):
        sampler.select()
    assert (sampler.epoch, sampler.visits) == (1, 0)


@pytest.mark.parametrize(("scale", "shift"), [(1000, 0), (1, -10)])
def test_losses_that_the_agent_cannot_tell_apart_are_said_once(scale: float, shift: float) -> None:
    sampler = new()
    sampler.record(sampler.kept, losses=np.linspace(0.5, 5, 60) * scale + shift)
    with pytest.warns(UserWarning, match=r"^100% of the epoch's losses lie outside of \[0, 20\]"):
        sampler.select()
    sampler.record(sampler.kept, losses=np.full(len(sampler.kept), 1e3))
    sampler.select()


def test_a_few_losses_may_be_clipped_in_silence() -> None:
    sampler = new()
    sampler.record(sampler.kept, losses=np.where(np.arange(60) < 6, 99.0, 1.0))
    sampler.select()


def test_a_second_division_into_shares_is_an_error() -> None:
    sampler = new()
    half = DistributedSampler([*sampler], 2, 0, shuffle=False)  # type: ignore[arg-type]
    kept = [*sampler]
    for batch in BatchSampler([kept[place] for place in half], 8, False):
        record(sampler, batch)
    with pytest.raises(RuntimeError, match=r"30 of the 60 samples.*dealt the samples out again"):
        sampler.select()


def test_a_resume_that_skips_batches_a_second_time_is_an_error() -> None:
    sampler, other = new(), new()
    record_in_batches(sampler, 8, 3)
    other.load_state_dict(sampler.state_dict())
    for batch in [*BatchSampler(other, 8, False)][3:]:
        record(other, batch)
    with pytest.raises(RuntimeError, match="36 of the 60 samples"):
        other.select()


# -- an epoch anew -------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", ["a loss that is not finite", "a batch twice", "too few"])
def test_an_epoch_can_be_forgotten_and_trained_again(mistake: str) -> None:
    sampler, other = new("ucb"), new("ucb")
    if mistake == "a batch twice":
        record(sampler, np.repeat(sampler.kept[:8], 2))
    elif mistake == "too few":
        record_in_batches(sampler, 8, 2)
    else:
        losses = torch.ones(len(sampler))
        losses[3] = torch.nan
        sampler.record(sampler.kept, losses=losses)
    with pytest.raises((RuntimeError, ValueError)):
        sampler.select()
    sampler.forget_epoch()
    assert sampler.progress == 0
    assert_same(play(sampler), play(other))


def test_an_epoch_that_was_gone_on_with_is_forgotten_whole() -> None:
    sampler, other = new(), new()
    record_in_batches(sampler, 8, 3)
    other.load_state_dict(sampler.state_dict())
    other.forget_epoch()
    assert [*other] == other.kept.tolist()


def test_the_errors_name_the_way_back() -> None:
    sampler = new()
    record(sampler, np.repeat(sampler.kept[:8], 2))
    with pytest.raises(RuntimeError, match=r"only once.*forget_epoch\(\)"):
        sampler.select()
    with pytest.raises(RuntimeError, match=r"76 samples were recorded.*forget_epoch\(\)"):
        record(sampler)


# -- older states --------------------------------------------------------------------------------


def test_an_older_state_of_the_same_epoch_is_refused_and_changes_nothing() -> None:
    sampler, twin = new("ucb"), new("ucb")
    states = []
    for batch in BatchSampler(new("ucb"), 24, False):
        states.append(sampler.state_dict())
        record(sampler, batch)
        record(twin, batch)
    for state, count in zip(states, (0, 24, 48), strict=False):
        with pytest.raises(ValueError, match=rf"the state is older: it has {count} of the 120"):
            sampler.load_state_dict(state)
    sampler.select()
    twin.select()
    assert_same(play(sampler), play(twin))


def test_the_newest_state_and_those_of_other_epochs_are_taken() -> None:
    sampler = new()
    first = sampler.state_dict()
    record_in_batches(sampler, 8, 3)
    sampler.load_state_dict(sampler.state_dict())
    later = new()
    record(later)
    later.select()
    later.load_state_dict(first)  # back to an epoch before
    assert later.epoch == 0
    sampler.forget_epoch()
    sampler.load_state_dict(first)
    assert len(sampler) == 60


# -- a sampler of torch's distributed kind -------------------------------------------------------


def test_a_sampler_is_a_distributed_sampler_that_nobodys_epoch_changes() -> None:
    sampler, twin = new(), new()
    assert isinstance(sampler, DistributedSampler)
    assert (sampler.num_replicas, sampler.rank, sampler.drop_last) == (1, 0, False)
    assert sampler.num_samples == sampler.total_size == len(sampler) == 60
    sampler.set_epoch(3)
    assert (sampler.epoch, [*sampler]) == (0, [*twin])


def test_shares_can_be_left_to_a_framework() -> None:
    order = np.arange(50)
    mine = Ranks(2, 1, False, "framework")
    assert mine.share(order).tolist() == order.tolist()
    assert mine.fair_share(51) == 26
    with pytest.raises(ValueError, match="no shares is called 'nobody'"):
        new(shares="nobody")
    assert_same(play(new(shares="framework")), play(new()))


def test_what_a_framework_dealt_out_is_compared_as_a_whole() -> None:
    order = np.arange(50)
    halves = [order[::2], order[1::2]]
    check_together(halves, order, 8)
    check_together([np.append(halves[0], halves[1][:3]), halves[1]], order, 8)  # filled batches
    with pytest.raises(RuntimeError, match="100 samples of an epoch of 50: no framework dealt"):
        check_together([order, order], order, 8)
    with pytest.raises(RuntimeError, match="25 of the 50 samples"):
        check_together([halves[0], halves[0]], order, 8)
    with pytest.raises(RuntimeError, match="samples 50 were recorded"):
        check_together([order[:25], np.arange(25, 51)], order, 8)


# -- states at every batch -----------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["ucb", "infobatch", "sb3", "exp3"])
def test_states_within_an_epoch_are_those_of_a_sampler_that_never_saved(agent: str) -> None:
    sampler = new(agent)
    while not sampler.finished:
        for batch in BatchSampler(sampler, 16, False):
            state = sampler.state_dict()
            assert plain_hash({k: v for k, v in state.items() if k != "hash"}) == state["hash"]
            assert_same(state, copy.deepcopy(sampler).state_dict())
            record(sampler, batch)
        sampler.select()


def test_a_change_of_one_state_reaches_no_other() -> None:
    sampler = new("infobatch")
    first = sampler.state_dict()
    first["agent"].clear()
    first["ranks"].clear()
    first["settings"].clear()
    new("infobatch").load_state_dict(sampler.state_dict())


def test_a_sampler_can_be_pickled_between_states() -> None:
    sampler = new()
    record_in_batches(sampler, 8, 3)
    sampler.state_dict()
    other = pickle.loads(pickle.dumps(sampler))
    assert_same(other.state_dict(), sampler.state_dict())


# -- batches with a state ------------------------------------------------------------------------


def test_whole_batches_save_and_load_the_state_of_their_sampler() -> None:
    batches = WholeBatches(new("ucb"), 16)
    record_in_batches(batches.sampler, 16, 3)  # type: ignore[arg-type]
    other = WholeBatches(new("ucb"), 16)
    other.load_state_dict(batches.state_dict())
    assert [*other] == [*batches][3:]
    assert sum(map(len, other)) == 120 - 48


def test_whole_batches_of_a_plain_sampler_go_on_where_they_were() -> None:
    batches = WholeBatches(range(50), 8)  # type: ignore[arg-type]
    walk: Any = iter(batches)
    begun = [next(walk), next(walk)]
    other: Any = iter(WholeBatches(range(50), 8))  # type: ignore[arg-type]
    other.load_state_dict(walk.state_dict())
    assert [*begun, *other] == [*batches]


def test_a_place_that_the_sampler_has_not_reached_is_refused() -> None:
    sampler = new()
    walk: Any = iter(sampler)
    for _ in range(16):
        next(walk)
    other: Any = iter(new())
    with pytest.raises(ValueError, match=r"16 samples handed out.*with 0 recorded"):
        other.load_state_dict(walk.state_dict())


# -- data sets -----------------------------------------------------------------------------------


class Pictures(Dataset):
    classes = ("cat", "dog")

    def __init__(self) -> None:
        self.targets = [0, 1, 0]

    def __getitem__(self, index: int) -> tuple[int, int]:
        return 10 * index, self.targets[index]

    def __len__(self) -> int:
        return 3


def test_an_indexed_data_set_has_the_attributes_of_its_data_set() -> None:
    indexed = Indexed(Pictures())
    assert indexed.classes == ("cat", "dog")
    assert indexed.targets == [0, 1, 0]
    assert not hasattr(indexed, "nothing")
    for other in (pickle.loads(pickle.dumps(indexed)), copy.deepcopy(indexed)):
        assert (other.targets, other[1]) == ([0, 1, 0], (1, (10, 1)))
    assert len([*DataLoader(Indexed(TensorDataset(torch.zeros(4))), 2)]) == 2


# -- weights of classes --------------------------------------------------------------------------

CLASS_WEIGHTS = np.array([1.0, 1.0, 2.0, 4.0])


def test_base_weights_are_gradient_weights_of_mean_one() -> None:
    sampler = new(base_weights=CLASS_WEIGHTS[LABELS])
    assert [*sampler] == [*new()], "they choose nothing"
    kept = sampler.kept
    expected = CLASS_WEIGHTS[LABELS[kept]] / CLASS_WEIGHTS[LABELS[kept]].mean()
    np.testing.assert_allclose(sampler.weights(kept).numpy(), expected, rtol=1e-6)


def test_base_weights_are_multiplied_with_those_of_the_agent() -> None:
    raw = {"budget": 1.0, "weights": "raw"}
    sampler, other = (
        new("infobatch", base_weights=CLASS_WEIGHTS[LABELS], **raw),
        new("infobatch", **raw),
    )
    seen = set()
    while not sampler.finished:
        product = other.weights(other.kept).numpy() * CLASS_WEIGHTS[LABELS[other.kept]]
        np.testing.assert_array_equal(sampler.weights(other.kept).numpy(), product)
        seen |= set(product.tolist())
        for each in (sampler, other):
            record(each)
            each.select()
    assert seen == {1.0, 2.0, 4.0, 8.0}


def test_a_state_knows_its_base_weights() -> None:
    state = new(base_weights=CLASS_WEIGHTS[LABELS]).state_dict()
    with pytest.raises(ValueError, match=r"base_weights .a hash of them in their order. "):
        new().load_state_dict(state)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (CLASS_WEIGHTS, r"one value per sample, \(120,\), got \(4,\).*class_weights\[labels\]"),
        (np.zeros(N), "positive and finite, got values from 0.0 to 0.0"),
        (np.full(N, np.nan), "positive and finite"),
        (["a"] * N, "base_weights are a tensor, an array or a list"),
        (np.ones(N, dtype=bool), "base_weights are real numbers"),
    ],
)
def test_base_weights_of_another_kind_are_refused(weights: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        new(base_weights=weights)


# -- labels and logits of other kinds ------------------------------------------------------------

LABEL_KINDS: dict[str, tuple[Any, str]] = {
    "words": (["cat", "dog"] * 3, r"np\.unique\(labels, return_inverse=True\)\[1\] numbers them"),
    "an array of words": (np.array(["cat", "dog"]), r"np\.unique\(labels"),
    "bools": (LABELS > 1, r"labels\.astype\(int\)"),
    "bools of torch": (torch.from_numpy(LABELS > 1), r"labels\.long\(\)"),
    "one-hot": (np.eye(CLASSES, dtype=int)[LABELS], r"labels\.argmax\(1\) if they are one-hot"),
    "one-hot floats": (np.eye(CLASSES)[LABELS], r"labels\.argmax\(1\) if they are one-hot"),
    "a column": (LABELS[:, None], r"labels\[:, 0\]"),
    "floats": (LABELS.astype(float), r"labels\.astype\(int\).*of a regression n"),
    "ignored ones": (np.where(LABELS == 1, -100, LABELS), "-100 marks .*leave these samples out"),
    "only ignored ones": (np.full(N, -100), "-100 marks"),
}


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_labels_of_another_kind_meet_the_way_out(kind: str) -> None:
    labels, sentence = LABEL_KINDS[kind]
    with pytest.raises(ValueError, match=sentence) as caught:
        new(labels=labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("columns", [CLASSES - 1, CLASSES + 1, 1000])
def test_logits_of_another_number_of_classes_are_refused(columns: int) -> None:
    sampler = new()
    sentence = f"a column for each of 4 classes, got {columns}: num_classes= of the sampler"
    with pytest.raises(ValueError, match=sentence):
        sampler.record([0], torch.zeros(1, columns))
    wide = new(num_classes=1000)
    wide.record(wide.kept, torch.zeros(60, 1000))
    wide.select()
