"""Policies of Stable-Baselines3 as an .npz of their weights: reading one unpickles nothing."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from gymnasium import spaces
from torch import nn

from dynprune_agents.policies._archive import Archive, decoded, opened, write_archive
from dynprune_agents.policies._files import FOLDER
from dynprune_agents.policies._sb3_heads import (
    CLASSES,
    SET_POLICY,
    Arguments,
    Head,
    Networks,
    kinds,
)
from dynprune_env.common.alone import building
from dynprune_env.common.specs import lookup

if TYPE_CHECKING:  # it takes a second to import, and listing the agents needs none of it
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

_UNHEARD = ("optimizer_class", "optimizer_kwargs", "ortho_init", "normalize_images")
"""Arguments of a policy that acting does not depend on."""

_EXTRACTORS = ("FlattenExtractor", "CombinedExtractor", "SampleFeatures")
"""What policies without pictures extract features with, each class its own."""


def read_arrays(path: Path) -> BasePolicy:
    """Reads a policy that `write_arrays` wrote.

    Raises:
        ValueError: the file is broken or something else, or its algorithm is not installed.
    """
    try:
        with opened(path) as archive:
            if "scorer" in decoded(archive.head, dict[str, msgspec.Raw]):
                name = path.stem if path.parent == FOLDER else str(path)
                raise ValueError(f"it is a scorer: play it as learned(policy={name!r})")
            return _policy(decoded(archive.head, Head).sb3, archive)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a model that Stable-Baselines3 saved, nor a policy that "
            f"`dynprune train` wrote: {error!s:.1000}"
        ) from error


def _policy(networks: Networks, archive: Archive) -> BasePolicy:
    """Builds the networks, once it is clear that they are no larger than the file's arrays."""
    # Spaces of n samples come before networks that see them: n itself is checked first.
    if (networks.num_samples or 0) > archive.size or networks.least_size() > archive.size:
        raise ValueError(f"its head promises more than the {archive.size:,} weights that it has")
    policy = _built(networks)
    shapes = {name: tuple(value.shape) for name, value in policy.state_dict().items()}
    archive.check_shapes(shapes)
    policy.load_state_dict({name: torch.from_numpy(archive.array(name)) for name in shapes})
    return policy


def _built(networks: Networks) -> BasePolicy:
    """Networks with arbitrary weights."""
    module = lookup(networks.policy, CLASSES, "policy class")
    try:
        make = getattr(import_module(module), networks.policy.rpartition(".")[2])
    except ImportError as error:
        raise ValueError(f"it was trained with a package that is not here: {error}") from error
    given: dict[str, Any] = msgspec.to_builtins(networks.arguments)
    if "activation_fn" in given:
        given["activation_fn"] = getattr(nn, given["activation_fn"])
    known = signature(make).parameters
    if "lr_schedule" in known:
        given["lr_schedule"] = lambda _: 0.0
    if {"ortho_init", "kwargs"} & set(known):
        given["ortho_init"] = False
    try:
        with building():
            made: BasePolicy = make(*networks.spaces(), **given)
    except Exception as error:  # constructors of another package: so are their errors
        raise ValueError(f"{networks.policy} refuses {networks.arguments}: {error!r}") from error
    return made


def write_arrays(path: Path, model: BaseAlgorithm, origin: dict[str, Any]) -> None:
    """Writes a model's policy, which the agent `SB3` plays, whatever the path's ending.

    Args:
        path: where to.
        model: of any algorithm.
        origin: how it was made; numbers, strings, lists and dicts.

    Raises:
        ValueError: its policy has a part that is not known here.
    """
    policy: Any = model.policy
    observation, action, num_samples = kinds(policy.observation_space, policy.action_space)
    seen = policy.observation_space
    name = _class_name(type(policy))
    networks = Networks(
        policy=name,
        observation=observation,
        action=action,
        num_samples=None if name == SET_POLICY else num_samples,
        columns=list(seen.spaces) if isinstance(seen, spaces.Dict) else [],
        arguments=_arguments(model),
    )
    arrays = {name: value.cpu().numpy() for name, value in policy.state_dict().items()}
    write_archive(path, msgspec.to_builtins(Head(networks, origin)), arrays)


def _class_name(found: type) -> str:
    for name, module in CLASSES.items():
        if (module, name.rpartition(".")[2]) == (found.__module__, found.__name__):
            return name
    raise ValueError(
        f"policies of the class {found.__module__}.{found.__name__} cannot be kept as arrays: "
        "save the model as a .zip"
    )


def _arguments(model: BaseAlgorithm) -> Arguments:
    """What makes the same networks again."""
    policy: Any = model.policy
    known = signature(type(policy)).parameters
    given: dict[str, Any] = {k: v for k, v in model.policy_kwargs.items() if k not in _UNHEARD}
    extractor = given.pop("features_extractor_class", None)
    if extractor is not None and extractor.__name__ not in _EXTRACTORS:
        raise ValueError(f"features of {extractor.__name__} cannot be kept as arrays")
    if not given.get("features_extractor_kwargs", True):
        del given["features_extractor_kwargs"]
    if getattr(model, "use_sde", False):
        given["use_sde"] = True
    for name in ("net_arch", "activation_fn"):
        if name in known:
            given.setdefault(name, getattr(policy, name))
    if "activation_fn" in given:
        given["activation_fn"] = given["activation_fn"].__name__
    try:
        return msgspec.convert(given, Arguments)
    except msgspec.ValidationError as error:
        raise ValueError(f"{given} cannot be kept as arrays: {error}") from error
