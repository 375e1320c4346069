"""Models of short texts: (B, L) int64 token ids, with zeros behind the last, to logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MASK = (1 << 40) - 1
_BASE = 1_000_003
"""Of a polynomial hash, which stays below 2^61."""


def hashed_ngrams(tokens: Tensor, longest: int, buckets: int) -> Tensor:
    """The n-grams of each text, n = 1 .. longest, hashed (Weinberger et al. 2009).

    The ends of a text count as tokens for n > 1, as in fastText (Bojanowski et al. 2017).

    Args:
        tokens: (B, L) int64, at least 0; zeros behind the last token of a text.
        longest: n of the longest, at least 1.
        buckets: how many there are.

    Returns:
        (B, k) int64 in [1, buckets], 0 where there is no n-gram.
    """
    padded = F.pad(tokens, (1, 1))
    found, hashes = [], torch.zeros_like(padded)
    for n in range(1, min(longest, padded.shape[1]) + 1):
        newest = padded[:, n - 1 :]
        hashes = (hashes[:, : newest.shape[1]] * _BASE + newest + 1) & _MASK
        there = newest > 0
        if n > 1:
            there = there | (padded[:, n - 2 : -1] > 0)
        found.append(torch.where(there, (hashes ^ (hashes >> 17)) % buckets + 1, 0))
    return torch.cat(found, dim=1)


class _NgramBag(nn.Module):
    """A vector for each bucket of n-grams; the sum over a text, ReLU, a linear layer."""

    def __init__(self, num_classes: int, width: int, buckets: int, longest: int):
        super().__init__()
        self.longest = longest
        self.vectors = nn.Embedding(buckets + 1, width, padding_idx=0)
        with torch.no_grad():
            self.vectors.weight.mul_(0.1)
        self.bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        ngrams = hashed_ngrams(tokens, self.longest, self.vectors.num_embeddings - 1)
        # Texts of any length have sums of the same size.
        scale = (ngrams > 0).sum(1, keepdim=True).clamp(min=1).rsqrt()
        # Not nn.EmbeddingBag: slower for short texts, and without gradients per sample.
        return self.out(F.relu(self.vectors(ngrams).sum(1) * scale + self.bias))


def ngram_bag(
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 32,
    buckets: int = 8192,
    longest: int = 3,
) -> nn.Module:
    """Embedding bag of hashed n-grams of up to `longest` tokens, then a ReLU and a linear layer.

    The same function as an MLP of `width` hidden units on the (buckets,) counts of a text's n-grams
    over the root of their number.
    """
    return _NgramBag(num_classes, width, buckets, longest)


class _TokenCnn(nn.Module):
    """Vectors of tokens, two convolutions along the text, the maximum, a linear layer."""

    def __init__(self, num_classes: int, width: int, tokens: int):
        super().__init__()
        self.embedding = nn.Embedding(tokens, 16, padding_idx=0)
        self.first = nn.Conv1d(16, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        found = F.relu(self.first(self.embedding(tokens).transpose(1, 2)))
        return self.out(F.relu(self.second(found)).amax(2))


def token_cnn(
    input_shape: tuple[int, ...], num_classes: int, width: int = 64, tokens: int = 128
) -> nn.Module:
    """Two convolutions over vectors of the tokens, whose ids are below `tokens`, and a maximum."""
    return _TokenCnn(num_classes, width, tokens)


TOKEN_MODELS: dict[str, Callable[..., nn.Module]] = {
    factory.__name__: factory for factory in (ngram_bag, token_cnn)
}
