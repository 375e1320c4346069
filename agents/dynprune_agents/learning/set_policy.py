"""SetPolicy: an actor-critic for raw keep masks that treats the samples as a set."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import BernoulliDistribution
from stable_baselines3.common.policies import BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from dynprune_agents._features import RUN_FEATURES, SAMPLE_FEATURES, sample_features
from dynprune_agents.learning.vec_env import GAME
from dynprune_env.selection.observations import PROGRESS
from dynprune_env.selection.statistics import SampleStatistics

STOCK_LIMIT = 300
"""Most samples for which a stock policy may choose a mask or weights."""

CONTEXT = len(RUN_FEATURES) + len(SAMPLE_FEATURES)


class Features(NamedTuple):
    """What the networks see.

    Attributes:
        samples: (B, n, F) features of each sample.
        context: (B, CONTEXT) features of the run, and the means of the samples'.
        pace: (B,) share of the samples that would spend the rest of the budget evenly.
    """

    samples: Tensor
    context: Tensor
    pace: Tensor


class SampleFeatures(BaseFeaturesExtractor):
    """Observations of kind `samples` to `Features`, by the rule of `sample_features`.

    T and C come with the observation (`game`, see `DynPruneVecEnv`) or, without it, from the
    bounds of the columns `age` and `label`.
    """

    def __init__(self, observation_space: spaces.Dict):
        super().__init__(observation_space, CONTEXT)
        age, label = observation_space["age"], observation_space["label"]
        assert isinstance(age, spaces.Box)
        assert isinstance(label, spaces.Box)
        self.epochs, self.num_classes = float(age.high.max()), float(label.high.max()) + 1

    def forward(self, observations: dict[str, Tensor]) -> Features:
        """Takes (B, n) columns and (B, 7) progress."""
        arrays = {name: value.cpu().numpy() for name, value in observations.items()}
        epochs: Any = self.epochs
        classes: Any = self.num_classes
        if GAME in arrays:
            epochs, classes = arrays[GAME].astype(np.float64).T
        samples, run = sample_features(arrays, epochs, classes)
        known = dict(zip(PROGRESS, arrays["progress"].T, strict=True))
        pace = known["budget"] * (1 - known["spent"]) / np.maximum(1 - known["epoch"], 1e-6)
        context = np.concatenate([run, samples.mean(1)], axis=1)
        device = observations["progress"].device
        return Features(*(torch.from_numpy(each).to(device) for each in (samples, context, pace)))


class Latent(NamedTuple):
    """What the actor made of `Features`: hidden (B, n, H) for each sample, and the rest."""

    hidden: Tensor
    samples: Tensor
    context: Tensor
    pace: Tensor


class SetNetwork(nn.Module):
    """One network for all samples, which also sees the run, and one for the value of the run.

    Args:
        widths: hidden units of each layer, in both networks.
        activation: between the layers.
    """

    def __init__(self, widths: list[int], activation: type[nn.Module]):
        super().__init__()
        first, *later = widths
        self.of_sample = nn.Linear(len(SAMPLE_FEATURES), first, bias=False)
        self.of_run = nn.Linear(CONTEXT, first)
        self.actor = _layers([first, *later], activation)
        self.critic = nn.Sequential(nn.Linear(CONTEXT, first), _layers(widths, activation))
        self.latent_dim_pi = self.latent_dim_vf = widths[-1]

    def forward(self, features: Features) -> tuple[Latent, Tensor]:
        """Both latents."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Features) -> Latent:
        """(B, n, H) and what `KeepLogits` needs besides."""
        # One small product per set: a single one over B·n rows takes twice as long on a CPU.
        weights = self.of_sample.weight.T.expand(len(features.samples), -1, -1)
        shared = self.of_run(features.context)[:, None]
        inner = torch.baddbmm(shared, features.samples, weights)
        return Latent(self.actor(inner), features.samples, features.context, features.pace)

    def forward_critic(self, features: Features) -> Tensor:
        """(B, H)."""
        hidden: Tensor = self.critic(features.context)
        return hidden


def _layers(widths: list[int], activation: type[nn.Module]) -> nn.Sequential:
    """What follows the first linear layer."""
    layers: list[nn.Module] = [activation()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers)


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

    Intended is the pace times 2^s, where s in [-max_spend, max_spend] is learned: which samples
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
        rate = (latent.pace * 2.0**spend).clamp(1e-3, 0.999)
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
        return (each.sum(1) / each.shape[1] ** self.alpha).float()

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
        return (torch.special.ndtr(normal) < probs).to(probs.dtype)

    def entropy(self) -> Tensor:
        """(B,), the mean over the samples, in [0, ln 2]."""
        return self.distribution.entropy().mean(1)

    def mode(self) -> Tensor:
        """The most probable samples, as many as are kept on average: (B, n) of 0 and 1.

        Neither none nor all of them. Ties fall to the first; the agent `SB3` draws lots instead.
        """
        probs = self.distribution.probs
        size = probs.shape[1]
        count = (probs.mean(1) * size).round().clamp(1, max(1, size - 1))
        order = (-probs).argsort(stable=True, dim=1)
        places = torch.arange(size, device=probs.device).expand_as(order)
        ranks = torch.empty_like(order).scatter_(1, order, places)
        return (ranks < count[:, None]).to(probs.dtype)


class SetPolicy(MultiInputActorCriticPolicy):
    """Permutation-equivariant actor-critic for `observation="samples"` and `action="mask"`.

    For PPO, A2C and TRPO. One small network is shared by all samples, so the same few thousand
    parameters serve any n, and a mask of 50,000 bits trains without overflow (Zaheer et al. 2017,
    "Deep Sets", for the architecture).

    Example:
        model = PPO(SetPolicy, DynPruneVecEnv(envs), n_steps=20, batch_size=320, gamma=1.0)

    To act with another n, T or C: `for_spaces` (the agent `SB3` does it). To go on training with
    another n: `PPO.load(path, env=venv, custom_objects={"observation_space":
    venv.observation_space, "action_space": venv.action_space})`.

    Args:
        observation_space, action_space, lr_schedule: see Stable-Baselines3.
        net_arch: hidden units of each layer, in the actor and in the critic.
        alpha: see `KeepDistribution`.
        lean: see `KeepDistribution`.
        max_spend: see `KeepLogits`; 0 always keeps the even pace.
        **kwargs: see `ActorCriticPolicy`.

    Raises:
        ValueError: the spaces are of another kind.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        alpha: float = 0.75,
        lean: float = 0.1,
        max_spend: float = 1.0,
        **kwargs: Any,
    ):
        _check_kinds(observation_space, action_space)
        assert isinstance(observation_space, spaces.Dict)
        self.alpha, self.lean, self.max_spend = alpha, lean, max_spend
        kwargs.setdefault("features_extractor_class", SampleFeatures)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch or [16],
            **kwargs,
        )

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, list)
        self.mlp_extractor = SetNetwork(self.net_arch, self.activation_fn).to(self.device)  # type: ignore[assignment]

    def _build(self, lr_schedule: Schedule) -> None:
        self.action_dist = KeepDistribution(self.alpha, self.lean, self.max_spend)
        super()._build(lr_schedule)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {
            "alpha": self.alpha,
            "lean": self.lean,
            "max_spend": self.max_spend,
        }

    def for_spaces(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> SetPolicy:
        """The same policy for another number of samples, epochs or classes; for acting."""
        known = self._get_constructor_parameters()
        known |= {"observation_space": observation_space, "action_space": action_space}
        other = type(self)(**known)
        other.load_state_dict(self.state_dict())
        return other


def _check_kinds(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    columns = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    needed = {*SampleStatistics.COLUMNS, "progress"}
    if not (needed <= set(columns) and isinstance(action_space, spaces.MultiBinary)):
        raise ValueError(
            'SetPolicy needs observation="samples" and action="mask", '
            f"got {observation_space} and {action_space}"
        )


def check_policy_fits(
    policy: str | type[BasePolicy],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> None:
    """Call it before training on a `DynPruneVecEnv`; `dynprune train` does.

    Args:
        policy: what the algorithm is given: "MlpPolicy", ..., or a class.
        observation_space: of the environment.
        action_space: of the environment.

    Raises:
        ValueError: a `SetPolicy` with other spaces than it knows, or a stock policy that would
            choose a mask or weights of many samples: its networks grow with n, and PPO's
            probability ratios, products over n, overflow (at n = 50,000 in the first update).
    """
    if isinstance(policy, type) and issubclass(policy, SetPolicy):
        _check_kinds(observation_space, action_space)
        return
    size = (action_space.shape or (0,))[0]
    if size > STOCK_LIMIT:
        name = policy if isinstance(policy, str) else policy.__name__
        raise ValueError(
            f"{name} cannot choose among {size:,} samples (at most {STOCK_LIMIT}): use SetPolicy "
            'with observation="samples" and action="mask", or observation="summary" with '
            'action="score_weights", which is short whatever the number of samples'
        )
