"""What the head of a Stable-Baselines3 policy's .npz says: which networks, for which spaces."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from gymnasium import spaces

from dynprune_agents.policies._features import TASK_SIZE, TASK_SIZE_KEYS
from dynprune_env.common.specs import lookup
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.observations import OBSERVATIONS, TaskSize

SET_POLICY = "SetPolicy"
_OURS, _SB3, _CONTRIB = "dynprune_agents.policies", "stable_baselines3", "sb3_contrib"
CLASSES = {
    SET_POLICY: f"{_OURS}._set_policy",
    "ActorCriticPolicy": f"{_SB3}.common.policies",
    "MultiInputActorCriticPolicy": f"{_SB3}.common.policies",
    "SACPolicy": f"{_SB3}.sac.policies",
    "sac.MultiInputPolicy": f"{_SB3}.sac.policies",
    "TD3Policy": f"{_SB3}.td3.policies",
    "td3.MultiInputPolicy": f"{_SB3}.td3.policies",
    "DQNPolicy": f"{_SB3}.dqn.policies",
    "dqn.MultiInputPolicy": f"{_SB3}.dqn.policies",
    "TQCPolicy": f"{_CONTRIB}.tqc.policies",
    "tqc.MultiInputPolicy": f"{_CONTRIB}.tqc.policies",
    "ARSPolicy": f"{_CONTRIB}.ars.policies",
    "ARSLinearPolicy": f"{_CONTRIB}.ars.policies",
}
"""The modules of the classes that a head may name; the last part of a name is the class."""

Size = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Few = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Number = Annotated[float, msgspec.Meta(ge=-1e3, le=1e3)]
Widths = Annotated[list[Size], msgspec.Meta(max_length=64)]


class Arguments(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Of the policy's class, where they differ from its defaults."""

    net_arch: Widths | dict[Literal["pi", "vf", "qf"], Widths] | None = None
    activation_fn: (
        Literal["Tanh", "ReLU", "ELU", "LeakyReLU", "SELU", "GELU", "SiLU", "Softplus", "Sigmoid"]
        | None
    ) = None
    use_sde: bool | None = None
    log_std_init: Number | None = None
    full_std: bool | None = None
    use_expln: bool | None = None
    squash_output: bool | None = None
    clip_mean: Number | None = None
    share_features_extractor: bool | None = None
    n_critics: Few | None = None
    n_quantiles: Few | None = None
    with_bias: bool | None = None
    alpha: Number | None = None
    lean: Annotated[float, msgspec.Meta(ge=0, lt=1)] | None = None
    max_spend: Annotated[float, msgspec.Meta(ge=0, le=32)] | None = None


class Networks(msgspec.Struct, forbid_unknown_fields=True):
    """What a policy is, but for its weights.

    Attributes:
        policy: a name in CLASSES.
        observation: the kind.
        action: the kind.
        num_samples: n, where the policy acts on no other number; None where it acts on any.
        columns: the names of the observation's columns in the order that the networks know them.
        arguments: of the class.
    """

    policy: str
    observation: str
    action: str
    num_samples: Size | None = None
    columns: list[str] = []
    arguments: Arguments = msgspec.field(default_factory=Arguments)

    def spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Of the observations and of the actions."""
        n = self.num_samples or 1
        seen = lookup(self.observation, OBSERVATIONS, "observation")(TaskSize(n, 1, 2)).space()
        if isinstance(seen, spaces.Dict):
            known = {**seen.spaces, **dict.fromkeys(TASK_SIZE_KEYS, spaces.Box(1, np.inf, (2,)))}
            if set(self.columns) - set(known) or not set(seen.spaces) - {TASK_SIZE} <= set(
                self.columns
            ):
                raise ValueError(f"its columns are {', '.join(known)}, got {self.columns}")
            seen = spaces.Dict(OrderedDict((name, known[name]) for name in self.columns))
        return seen, lookup(self.action, ACTIONS, "action")().space(n)

    def least_size(self) -> int:
        """How many weights such networks have at least.

        Raises:
            ValueError: the head does not say how wide they are.
        """
        given = self.arguments
        if given.net_arch is None and self.policy != "ARSLinearPolicy":
            raise ValueError("its head has no net_arch")
        arch = given.net_arch or []
        actor = arch.get("pi", []) if isinstance(arch, dict) else arch
        critic = arch.get("qf", arch.get("vf", [])) if isinstance(arch, dict) else arch
        seen, done = (1, 1) if self.policy == SET_POLICY else map(spaces.flatdim, self.spaces())
        values = given.n_quantiles or 1
        return max(
            _weights([seen, *actor, done]),
            _weights([seen, *critic, values]) * (given.n_critics or 1),
        )


def _weights(widths: list[int]) -> int:
    """Of layers of these widths."""
    return sum(before * after for before, after in pairwise(widths))


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The head of a file: the networks, and how they were made."""

    sb3: Networks
    origin: dict[str, Any] = {}


def kinds(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> tuple[str, str, int | None]:
    """The observation kind, the action kind, and n where the spaces depend on it.

    Raises:
        ValueError: the spaces are none of those of this environment.
    """
    size = (action_space.shape or (1,))[0]
    action = next((k for k, a in ACTIONS.items() if a().space(size) == action_space), None)
    observation = None
    for kind, make in OBSERVATIONS.items():
        known = make(TaskSize(1, 1, 2)).space()
        if isinstance(known, spaces.Dict) and isinstance(observation_space, spaces.Dict):
            if known.spaces.keys() - {TASK_SIZE} <= observation_space.spaces.keys():
                observation = kind
                size = (observation_space["loss"].shape or (1,))[0]
        elif known == observation_space:
            observation = kind
    if observation is None or action is None:
        raise ValueError(
            "agent sb3 plays models of the observation and action kinds of gym.make("
            f"'DynPrune-...'), this one has observations {observation_space} and actions "
            f"{action_space}: keep it with model.save(...), and play it by an agent of your own "
            "that makes its observations again (docs/own_policy.md)"
        )
    depends = observation == "samples" or action in ("mask", "weights")
    return observation, action, size if depends else None
