"""How a SetPolicy draws masks: one keep decision per sample, alike samples drawn together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from stable_baselines3.common.distributions import BernoulliDistribution
from torch import Tensor, nn

from dynprune_agents.policies._features import CONTEXT_FEATURES, SAMPLE_FEATURES

CONTEXT = len(CONTEXT_FEATURES) + len(SAMPLE_FEATURES)


class Latent(NamedTuple):
    """What the actor made of `Features`: hidden (B, n, H) for each sample, and the rest of them."""

    hidden: Tensor
    samples: Tensor
    context: Tensor
    keep_rate: Tensor


class KeepChoice(NamedTuple):
    """What masks are drawn from.

    Attributes:
        logits: (B, n) of keeping.
        samples: (B, n, F), the features along which alike samples are drawn together.
    """

    logits: Tensor
    samples: Tensor


class KeepLogits(nn.Module):
    """Scores of the samples, shifted so that the mean keep probability is the one intended.

    Intended is `keep_rate` times 2^s, where s in [-max_spend, max_spend] is learned: which samples
    are kept and how many are thus separate decisions, and an untrained policy (scores and s near
    0) plays dynamic random at an even pace, whatever the budget.
    """

    def __init__(self, hidden: int, max_spend: float):
        super().__init__()
        self.score = nn.Linear(hidden, 1, bias=False)
        self.spend = nn.Linear(CONTEXT, 1)
        self.max_spend = max_spend

    def forward(self, latent: Latent) -> KeepChoice:
        """One choice per set."""
        scores = latent.hidden @ self.score.weight[0]
        spend = self.max_spend * torch.tanh(self.spend(latent.context)[:, 0])
        rate = (latent.keep_rate * 2.0**spend).clamp(1e-3, 0.999)
        return KeepChoice(scores + offset(scores, rate)[:, None], latent.samples)


def offset(scores: Tensor, rate: Tensor) -> Tensor:
    """The shift c with mean sigmoid(scores + c) = rate, differentiable in both.

    Args:
        scores: (B, n).
        rate: (B,) in (0, 1).

    Returns:
        (B,).
    """
    with torch.no_grad():
        level = torch.logit(rate)
        low, high = level - scores.amax(1), level - scores.amin(1)
        shift = level - scores.mean(1)
        for _ in range(8):  # Newton's method, kept inside a bracket that shrinks
            kept = torch.sigmoid(scores + shift[:, None])
            excess = kept.mean(1) - rate
            low, high = torch.where(excess < 0, shift, low), torch.where(excess < 0, high, shift)
            shift = shift - excess / (kept - kept.square()).mean(1).clamp_min(1e-9)
            shift = torch.where((shift < low) | (shift > high), (low + high) / 2, shift)
    # One more step, with gradients: those of the implicit function.
    kept = torch.sigmoid(scores + shift[:, None])
    slope = (kept - kept.square()).mean(1).clamp_min(1e-9).detach()
    return shift - (kept.mean(1) - rate) / slope


class KeepDistribution(BernoulliDistribution):
    """One keep decision per sample, each with its own probability, and alike ones drawn together.

    Independent decisions hardly explore: of 1,000 coins, as many fall on clean as on mislabelled
    samples in every draw, and no return tells which were better to keep. So the draws share a
    random direction in the space of the samples' features (a Gaussian copula): one mask leans
    towards high losses, the next away from old samples. The probabilities stay what they are, and
    `log_prob` is the sum of their logarithms (a composite likelihood; Varin, Reid & Firth 2011).

    Args:
        alpha: log-probabilities are divided by n^alpha. With 0, PPO's ratios overflow for large n;
            with 1 they are so close to 1 that the clip never bites.
        lean: correlation of two draws in the same direction, in [0, 1); 0 is independent.
        max_spend: see `KeepLogits`.
    """

    def __init__(self, alpha: float, lean: float, max_spend: float):
        super().__init__(action_dims=0)  # whatever n
        self.alpha = alpha
        self.lean = lean
        self.max_spend = max_spend

    def proba_distribution_net(self, latent_dim: int) -> nn.Module:
        """The layer that makes a `KeepChoice`."""
        return KeepLogits(latent_dim, self.max_spend)

    def proba_distribution(self, action_logits: KeepChoice) -> KeepDistribution:  # type: ignore[override]
        """Takes what that layer made."""
        super().proba_distribution(action_logits.logits)
        self.samples = action_logits.samples
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B,), summed in float64: float32 would lose the differences that PPO looks at."""
        each = self.distribution.log_prob(actions).double()
        found: Tensor = (each.sum(1) / each.shape[1] ** self.alpha).float()
        return found

    def sample(self) -> Tensor:
        """(B, n) of 0 and 1, from torch's global generator."""
        probs = self.distribution.probs
        centred = self.samples - self.samples.mean(1, keepdim=True)
        length = centred.norm(dim=2, keepdim=True)
        apart = length > 1e-3  # where all samples are alike there is no direction
        direction = torch.randn(len(centred), centred.shape[2], 1, device=centred.device)
        shared = (torch.where(apart, centred / length.clamp_min(1e-3), 0) @ direction)[..., 0]
        variance = self.lean * apart[..., 0]
        normal = variance.sqrt() * shared + (1 - variance).sqrt() * torch.randn_like(probs)
        kept: Tensor = (torch.special.ndtr(normal) < probs).to(probs.dtype)
        return kept

    def entropy(self) -> Tensor:
        """(B,), the mean over the samples, in [0, ln 2]."""
        found: Tensor = self.distribution.entropy().mean(1)
        return found

    def mode(self) -> Tensor:
        """The most probable samples, as many as are kept on average: (B, n) of 0 and 1.

        Neither none nor all of them. Ties fall to the first; the agent `SB3` draws draws instead.
        """
        probs = self.distribution.probs
        size = probs.shape[1]
        count = (probs.mean(1) * size).round().clamp(1, max(1, size - 1))
        order = (-probs).argsort(stable=True, dim=1)
        places = torch.arange(size, device=probs.device).expand_as(order)
        ranks = torch.empty_like(order).scatter_(1, order, places)
        return (ranks < count[:, None]).to(probs.dtype)
