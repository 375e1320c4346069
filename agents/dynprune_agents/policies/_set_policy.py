"""SetPolicy: an actor-critic for raw keep masks that treats the samples as a set."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from dynprune_agents.policies._distribution import CONTEXT, KeepDistribution, Latent
from dynprune_agents.policies._features import SAMPLE_FEATURES, TASK_SIZE_KEYS, sample_features
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.statistics import SampleStatistics


class Features(NamedTuple):
    """What the networks see.

    Attributes:
        samples: (B, n, F) features of each sample.
        context: (B, CONTEXT) features of the run, and the means of the samples'.
        keep_rate: (B,) share of the samples that would spend the rest of the budget evenly.
    """

    samples: Tensor
    context: Tensor
    keep_rate: Tensor


class SampleFeatures(BaseFeaturesExtractor):
    """Observations of kind `samples` to `Features`, by the rule of `sample_features`.

    T and C come with the observation (`task_size`, see `DynPruneVecEnv`) or, without it, from
    the bounds of the columns `age` and `label`.
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
        size = next((arrays[key] for key in TASK_SIZE_KEYS if key in arrays), None)
        if size is not None:
            epochs, classes = size.astype(np.float64).T
        samples, run = sample_features(arrays, epochs, classes)
        known = progress_entries(arrays["progress"])
        keep_rate = known["budget"] * (1 - known["spent"]) / np.maximum(1 - known["epoch"], 1e-6)
        context = np.concatenate([run, samples.mean(1)], axis=1)
        device = observations["progress"].device
        return Features(
            *(torch.from_numpy(each).to(device) for each in (samples, context, keep_rate))
        )


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
        return Latent(self.actor(inner), features.samples, features.context, features.keep_rate)

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
        check_kinds(observation_space, action_space)
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


def check_kinds(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Checks that spaces are those of `samples` and `mask`.

    Raises:
        ValueError: they are others.
    """
    columns = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    needed = {*SampleStatistics.COLUMNS, "progress"}
    if not (needed <= set(columns) and isinstance(action_space, spaces.MultiBinary)):
        raise ValueError(
            'SetPolicy needs observation="samples" and action="mask", '
            f"got {observation_space} and {action_space}"
        )
