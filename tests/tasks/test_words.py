"""Words of twenty languages: real labels, no word in two splits, models that read the letters."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers.episodes import run_script
from helpers.own import RECIPE, tokens
from hypothesis import given
from hypothesis import strategies as st

import dynprune_agents
from dynprune_env import own_task, register_task, run_episodes
from dynprune_env.envs.settings import Settings
from dynprune_env.tasks import datasets
from dynprune_env.tasks.datasets import DataNotFoundError, Split, read_raw, stratified
from dynprune_env.tasks.models import make_model
from dynprune_env.tasks.registry import _OWN, TASKS
from dynprune_env.tasks.text_models import TOKEN_MODELS, hashed_ngrams
from dynprune_env.tasks.variants import Dataset, Variant
from dynprune_env.tasks.words import ALPHABET, LANGUAGES, WORDS, WORDS_HASHED, spelled, tokens_of
from dynprune_env.training.module_state import draws_in_training, is_own

every_model = pytest.mark.parametrize("model", TOKEN_MODELS)


@pytest.fixture
def wordfreq() -> Any:
    """The package, or the test is skipped."""
    return pytest.importorskip("wordfreq")


def pairs(*splits: Split) -> Counter[tuple[str, str]]:
    """How often each (word, language) is there."""
    return Counter(
        (word, LANGUAGES[label])
        for split in splits
        for word, label in zip(spelled(split.inputs), split.labels.tolist(), strict=True)
    )


def words_of(split: Split) -> set[str]:
    return set(spelled(split.inputs))


# -- the data ----------------------------------------------------------------------------------


def test_labels_are_those_of_the_lists_and_each_language_has_its_most_frequent_words(
    wordfreq: Any,
) -> None:
    raw = read_raw(WORDS, None, False)
    found = pairs(raw.train, raw.test)
    assert set(found.values()) == {1}
    for language in LANGUAGES:
        plain = (w for w in wordfreq.iter_wordlist(language, "small") if 3 <= len(w) <= 16)
        expected = set(islice((w for w in plain if set(w) <= set(ALPHABET)), 2000))
        assert {word for word, label in found if label == language} == expected


@pytest.mark.usefixtures("wordfreq")
def test_words_that_anybody_can_tell_have_their_language() -> None:
    found = pairs(read_raw(WORDS, None, False).train, read_raw(WORDS, None, False).test)
    for word, language in [
        *(("through", "en"), ("wahrscheinlich", "de"), ("waarschijnlijk", "nl")),
        *(("toujours", "fr"), ("quindi", "it"), ("jeg", "da"), ("jeg", "nb"), ("değil", "tr")),
        *(("mañana", "es"), ("então", "pt"), ("protože", "cs"), ("miksi", "fi")),
    ]:
        assert found[word, language] == 1, (word, language)
    assert not {language for word, language in found if word == "jeg"} - {"da", "nb"}


@pytest.mark.usefixtures("wordfreq")
def test_words_are_letters_only_of_3_to_16_and_many_have_several_languages() -> None:
    raw = read_raw(WORDS, None, False)
    assert len(raw.train) + len(raw.test) == 40_000
    of_word = defaultdict(set)
    for word, language in pairs(raw.train, raw.test):
        of_word[word].add(language)
        assert word.isalpha()
        assert 3 <= len(word) <= 16
    shared = sum(len(languages) for languages in of_word.values() if len(languages) > 1)
    assert 0.2 < shared / 40_000 < 0.35


@pytest.mark.usefixtures("wordfreq")
@pytest.mark.parametrize("variant", [{}, {"data_seed": 7}, {"train_size": 3000, "data_seed": 1}])
def test_no_word_is_in_two_splits_whatever_its_labels(variant: dict[str, Any]) -> None:
    dataset = Variant(**variant).build(WORDS, None, False)
    train, val, test = map(words_of, (dataset.train, dataset.val, dataset.test))
    assert not train & val
    assert not train & test
    assert not val & test
    for split in (dataset.val, dataset.test):
        assert np.bincount(split.labels.numpy()).tolist() == [250] * 20


@pytest.mark.usefixtures("wordfreq")
def test_hashed_words_are_the_same_samples_in_the_same_splits() -> None:
    tokens, counted = (
        Variant(train_size=2000, label_noise=0.3, data_seed=3).build(source, None, False)
        for source in (WORDS, WORDS_HASHED)
    )
    for name in ("train", "val", "test"):
        one, other = getattr(tokens, name), getattr(counted, name)
        assert torch.equal(one.labels, other.labels)
        sums = (other.inputs**2).sum(1)
        assert other.inputs.shape == (len(one), 1024)
        assert (sums >= 1 - 1e-5).all()  # of counts c over the root of their sum: sum c² / sum c
        rows = defaultdict(set)
        for word, row in zip(spelled(one.inputs), other.inputs.numpy(), strict=True):
            rows[word].add(row.tobytes())
        assert {len(found) for found in rows.values()} == {1}


CONTENT = """
from dynprune_env.tasks.registry import TASKS
from dynprune_env.tasks.variants import Variant
for name in ("Words", "WordsHashed"):
    print(Variant(train_size=500).build(TASKS[name].info, None, False).content_hash)
"""


@pytest.mark.usefixtures("wordfreq")
def test_the_data_are_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    monkeypatch.setenv("PYTHONHASHSEED", there)  # sets and dicts of strings have another order
    found = run_script(CONTENT).split()
    here = [Variant(train_size=500).build(each, None, False) for each in (WORDS, WORDS_HASHED)]
    assert found == [each.content_hash for each in here]
    assert len(set(found)) == 2
    other = Variant(train_size=500, data_seed=1).build(WORDS, None, False)
    assert other.content_hash != here[0].content_hash
    assert torch.equal(other.test.inputs, here[0].test.inputs)


@pytest.mark.parametrize("task", ["Words", "WordsHashed"])
def test_without_wordfreq_the_first_reset_says_what_to_install(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)  # as if it were not there
    datasets._read_once.cache_clear()
    env = gym.make(f"dynprune_env:DynPrune-{task}-v0", train_size=321)
    with pytest.raises(DataNotFoundError, match=r"wordfreq.*pip install 'dynprune\[text\]'"):
        env.reset(seed=0)


@given(st.text(ALPHABET, min_size=3, max_size=16))
def test_what_is_spelled_is_what_was_written(word: str) -> None:
    row = tokens_of([word])
    assert spelled(row) == [word]
    assert row.shape == (1, 16)
    assert 0 <= row.min() <= row.max() < WORDS.vocabulary


# -- splits of whole groups --------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(0, 10))
def test_whole_groups_are_chosen_and_the_counts_are_exact(
    seed: int, classes: int, wanted: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(classes, size=200), rng.integers(60, size=200)
    alone = np.repeat(np.arange(classes), 10)  # so that the counts can be reached
    labels, groups = np.append(labels, alone), np.append(groups, 60 + np.arange(len(alone)))
    counts = np.full(classes, wanted)
    chosen = stratified(labels, counts, rng, groups)
    assert np.bincount(labels[chosen], minlength=classes).tolist() == counts.tolist()
    assert len(set(chosen.tolist())) == len(chosen)
    assert not set(groups[chosen]) & set(np.delete(groups, chosen))


def test_groups_that_do_not_add_up_are_named() -> None:
    labels, groups = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    with pytest.raises(ValueError, match="1 samples of class 0 are needed, but whole groups give"):
        stratified(labels, np.array([1, 1]), np.random.default_rng(0), groups)


# -- the models --------------------------------------------------------------------------------


def grams(word: str, longest: int) -> list[str]:
    """The n-grams of a word, by hand: single letters, and longer ones with its ends."""
    marked = f"<{word}>"
    longer = [marked[i : i + n] for n in range(2, longest + 1) for i in range(len(marked) - n + 1)]
    return [*word, *longer]


@given(
    st.lists(st.text(ALPHABET[:3], min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(0, 4),
)
def test_ngrams_are_those_counted_by_hand(words: list[str], longest: int, room: int) -> None:
    bucket_of: dict[str, int] = {}
    rows = hashed_ngrams(tokens_of(words)[:, : 9 + room], longest, 2**35)  # none meet
    for word, row in zip(words, rows.tolist(), strict=True):
        found = [bucket for bucket in row if bucket]
        for gram, bucket in zip(grams(word, longest), found, strict=True):
            assert bucket_of.setdefault(gram, bucket) == bucket
    assert len(set(bucket_of.values())) == len(bucket_of)


def test_buckets_are_in_their_range_and_all_of_them_are_used() -> None:
    rows = torch.randint(1, 84, (2000, 16), generator=torch.Generator().manual_seed(0))
    found = hashed_ngrams(rows, 3, 512)
    counts = np.bincount(found.flatten().numpy(), minlength=513)
    assert len(counts) == 513
    assert counts[0] == 2 * 2000  # the ends are no n-grams of their own
    assert counts[1:].min() > 0


def test_the_bag_is_an_mlp_on_the_counts_of_hashed_ngrams() -> None:
    words = ["aujourd", "jeg", "through", "quindi"]
    rows = tokens_of(words)
    bag = make_model("ngram_bag(width=8, buckets=64)", (16,), 20)
    found = hashed_ngrams(rows, 3, 64)
    counts = torch.zeros(4, 65).scatter_add_(1, found, torch.ones(found.shape))
    features = counts[:, 1:] / counts[:, 1:].sum(1, keepdim=True).sqrt()
    mlp = make_model("mlp(width=8)", (64,), 20)
    with torch.no_grad():
        mlp[1].weight.copy_(bag.vectors.weight[1:].T)
        mlp[1].bias.copy_(bag.bias)
        mlp[3].weight.copy_(bag.out.weight)
        mlp[3].bias.copy_(bag.out.bias)
    torch.testing.assert_close(bag(rows), mlp(features), rtol=1e-4, atol=1e-5)


@every_model
def test_a_model_gives_each_word_its_own_logits(model: str) -> None:
    torch.manual_seed(0)
    net = make_model(model, (16,), 7).eval()
    rows = tokens_of(["one", "two", "internationale", "eno"])
    with torch.no_grad():
        logits, alone = net(rows), net(rows[2:3])
    assert logits.shape == (4, 7)
    torch.testing.assert_close(logits[2:3], alone, rtol=1e-4, atol=1e-5)
    assert len({tuple(row) for row in logits.tolist()}) == 4  # "eno" is not "one"
    assert not is_own(net)
    assert not draws_in_training(net)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"task": "Words", "model": "mlp"}, "mlp needs numbers .* this task has token ids"),
        ({"task": "Words", "model": "small_cnn"}, r"needs images, .* token ids of shape \(16,\)"),
        ({"task": "Digits", "model": "ngram_bag"}, r"needs rows of token ids, .* features"),
        ({"task": "CIFAR10", "model": "token_cnn"}, r"needs rows of token ids, .* \(3, 32, 32\)"),
        ({"task": "WordsHashed", "model": "token_cnn"}, "needs rows of token ids, .* features"),
        ({"task": "Words", "model": "token_cnn(tokens=83)"}, "tokens is at least 84, got 83"),
        ({"task": "Words", "model": "ngram_bag(buckets=0)"}, "buckets is at least 1, got 0"),
        ({"task": "Words", "model": "ngram_bag(longest=0)"}, "longest is at least 1, got 0"),
        ({"task": "Words", "model": "ngram_bag(width=0)"}, "width is at least 1, got 0"),
        ({"task": "Words", "model": "ngrambag"}, "mean 'ngram_bag'"),
    ],
)
def test_a_model_that_does_not_fit_the_inputs_is_refused_before_anything_is_built(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        Settings(**settings)


@pytest.fixture
def forget() -> Any:
    """Leaves no task behind for tests of all tasks."""
    yield
    _OWN.pop("OwnText", None)
    TASKS.pop("OwnText", None)
    gym.registry.pop("DynPrune-OwnText-v0", None)


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("model", ["ngram_bag(buckets=99)", "token_cnn(width=16, tokens=20)"])
def test_the_models_of_text_serve_token_ids_of_ones_own(model: str) -> None:
    register_task("OwnText", lambda: own_task(tokens(300, 0), tokens(80, 1), model, RECIPE))
    agent, kwargs = dynprune_agents.make("full_data"), {"budget": 1.0, "epochs": 15}
    (result,) = run_episodes("DynPrune-OwnText-v0", agent, [0], env_kwargs=kwargs)
    assert result.test_accuracy > 0.8


@pytest.mark.usefixtures("forget")
def test_too_few_vectors_for_token_ids_of_ones_own_are_found_at_the_first_reset() -> None:
    model = "token_cnn(tokens=5)"
    register_task("OwnText", lambda: own_task(tokens(300, 0), tokens(80, 1), model, RECIPE))
    expected = re.escape("fails on inputs (2, 6) torch.int64: index out of range")
    with pytest.raises(ValueError, match=expected):
        gym.make("DynPrune-OwnText-v0", device="cpu").reset(seed=0)


# -- what they learn ---------------------------------------------------------------------------


def by_single_letters(data: Dataset) -> float:
    """Test accuracy of naive Bayes on how often a language has each letter."""
    counts = np.ones((20, WORDS.vocabulary))
    np.add.at(counts, (data.train.labels.numpy()[:, None], data.train.inputs.numpy()), 1)
    counts[:, 0] = 0
    chances = np.log(counts / counts.sum(1, keepdims=True), where=counts > 0, out=counts)
    guessed = chances.T[data.test.inputs.numpy()].sum(1).argmax(1)
    return float((guessed == data.test.labels.numpy()).mean())


@pytest.mark.usefixtures("wordfreq")
@pytest.mark.parametrize(
    ("task", "model", "lead"),
    [
        ("Words", "ngram_bag", 0.09),
        ("Words", "token_cnn", 0.05),
        ("WordsHashed", "mlp", 0.05),
    ],
)
def test_a_few_epochs_tell_more_than_a_rule_on_single_letters(
    task: str, model: str, lead: float
) -> None:
    kwargs = {"train_size": 6000, "epochs": 6, "budget": 1.0, "model": model, "learning_rate": 0.3}
    if model == "token_cnn":
        kwargs["learning_rate"] = 0.1
    agent = dynprune_agents.make("full_data")
    (result,) = run_episodes(f"DynPrune-{task}-v0", agent, [0], env_kwargs=kwargs, device="cpu")
    rule = by_single_letters(Variant(train_size=6000).build(WORDS, None, False))
    assert 0.2 < rule < 0.4  # one in twenty is chance
    assert result.test_accuracy > rule + lead


@pytest.mark.usefixtures("wordfreq")
@every_model
def test_gradients_per_sample_go_through_the_models(model: str) -> None:
    kwargs = {"train_size": 200, "epochs": 3, "budget": 0.5, "model": model}
    agent = dynprune_agents.make("grand")
    (result,) = run_episodes("DynPrune-Words-v0", agent, [0], env_kwargs=kwargs, device="cpu")
    assert not result.diverged
    assert result.visits == 300
