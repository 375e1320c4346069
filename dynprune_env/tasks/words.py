"""Words of twenty languages, from the frequency lists of the package wordfreq."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dynprune_env.tasks.datasets import (
    DataNotFoundError,
    DatasetInfo,
    RawData,
    Split,
    read_raw,
    stratified,
)
from dynprune_env.tasks.text_models import hashed_ngrams

LANGUAGES = (
    *("ca", "cs", "da", "de", "en", "es", "fi", "fr", "hu", "id"),
    *("it", "nb", "nl", "pl", "pt", "ro", "sk", "sl", "sv", "tr"),
)
"""ISO 639 codes; a label is a place in this list. All write Latin letters, many are kin."""

ALPHABET = "abcdefghijklmnopqrstuvwxyzàáâãäåæçèéêëìíîïñòóôõöøùúûüýăąćčďęěğıĺľłńňőœŕřśşšťůűźżžșț"  # noqa: RUF001
"""Every letter of these words; its token id is its place, from 1 on. 0 stands behind a word."""

PER_LANGUAGE, TEST_PER_LANGUAGE = 2_000, 250
SHORTEST, LONGEST = 3, 16
"""Letters of a word."""
BUCKETS = 1024
"""Features of a word where n-grams are counted beforehand."""

_IDS = {letter: place for place, letter in enumerate(ALPHABET, start=1)}


def tokens_of(words: list[str]) -> Tensor:
    """The letters of words, (n, LONGEST) int64."""
    rows = np.zeros((len(words), LONGEST), dtype=np.int64)
    for row, word in zip(rows, words, strict=True):
        row[: len(word)] = [_IDS[letter] for letter in word]
    return torch.from_numpy(rows)


def spelled(inputs: Tensor) -> list[str]:
    """The words of inputs, (n, LONGEST) int64."""
    letters = ["", *ALPHABET]
    return ["".join(letters[token] for token in row) for row in inputs.tolist()]


def _read_words(data_dir: str | None, download: bool) -> RawData:
    """The most frequent words of each language, with those that several languages share in each.

    A split has all labels of a word, so that none that is tested was seen in training.
    """
    try:
        from wordfreq import iter_wordlist
    except ImportError as missing:
        raise DataNotFoundError(
            f"Words needs the package wordfreq, which cannot be imported ({missing}): "
            "install it with pip install 'dynprune[text]'"
        ) from missing
    words = [
        word
        for language in LANGUAGES
        for word in islice(filter(_is_plain, iter_wordlist(language, "small")), PER_LANGUAGE)
    ]
    labels = np.repeat(np.arange(len(LANGUAGES)), PER_LANGUAGE)
    groups = np.unique(words, return_inverse=True)[1]
    everything = Split(tokens_of(words), torch.from_numpy(labels))
    counts = np.full(len(LANGUAGES), TEST_PER_LANGUAGE)
    test = stratified(labels, counts, np.random.default_rng(0), groups)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    return RawData(everything.take(rest), everything.take(test), groups[rest])


def _read_hashed(data_dir: str | None, download: bool) -> RawData:
    """Counts of each word's hashed n-grams, n = 1, 2, 3, over the root of their number."""

    def counted(split: Split) -> Split:
        ngrams = hashed_ngrams(split.inputs, 3, BUCKETS)
        counts = torch.zeros(len(split), BUCKETS + 1)
        counts.scatter_add_(1, ngrams, (ngrams > 0).float())
        return Split(counts[:, 1:] / counts.sum(1, keepdim=True).sqrt(), split.labels)

    raw = read_raw(WORDS, data_dir, download)
    return RawData(counted(raw.train), counted(raw.test), raw.groups)


def _is_plain(word: str) -> bool:
    """Whether it is made of letters alone, neither too few nor too many."""
    return SHORTEST <= len(word) <= LONGEST and _IDS.keys() >= set(word)


WORDS = DatasetInfo(
    name="Words",
    read=_read_words,
    num_available=35_000,
    num_val=5_000,
    num_classes=len(LANGUAGES),
    input_shape=(LONGEST,),
    class_size=1_500,
    vocabulary=len(ALPHABET) + 1,
)
WORDS_HASHED = replace(
    WORDS, name="WordsHashed", read=_read_hashed, input_shape=(BUCKETS,), vocabulary=0
)
