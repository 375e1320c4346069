"""Files of models as Stable-Baselines3 saves them, which are pickles: only for whom one trusts."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from inspect import signature
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from dynprune_agents.policies._archive import member_names
from dynprune_agents.policies._sb3_arrays import write_arrays
from dynprune_env.common.alone import building
from dynprune_env.common.files import atomic_write

if TYPE_CHECKING:  # it takes a second to import, and listing the agents needs none of it
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

TRANSIENT = (
    "_last_obs",
    "_last_original_obs",
    "_last_episode_starts",
    "ep_info_buffer",
    "ep_success_buffer",
)
"""What a saved model needs none of: whatever goes on from it starts with a reset."""

NOT_FOR_TRAINING = (*TRANSIENT, "tensorboard_log")
"""What is left out of a model that training may go on from."""

NOT_FOR_ACTING = (
    *TRANSIENT,
    "action_noise",
    "clip_range",
    "clip_range_vf",
    "delta_std_schedule",
    "exploration_schedule",
    "learning_rate",
    "lr_schedule",
)
"""What acting needs no part of, and may not unpickle under another version of Python."""


def holds_pickles(path: Path) -> bool:
    """Whether a file is a model as Stable-Baselines3 saves it; looks at its names alone."""
    return "data" in member_names(path)


def read_policy(file: IO[bytes], name: str) -> BasePolicy:
    """Reads the policy of a model that was saved by Stable-Baselines3. Unpickles.

    Only the policy is made, so that any algorithm's will do, also one of sb3-contrib.

    Args:
        file: the .zip.
        name: for messages.

    Raises:
        ValueError: the file is something else, or its algorithm is not installed.
    """
    from stable_baselines3.common.save_util import load_from_zip_file

    try:
        data, parameters, _ = load_from_zip_file(
            file,  # type: ignore[arg-type]
            device="cpu",
            custom_objects=dict.fromkeys(NOT_FOR_ACTING),
        )
    except ImportError as error:
        raise ValueError(f"{name} was trained with a package that is not here: {error}") from error
    except Exception as error:  # unpickling runs what the file says, and that may raise anything
        raise ValueError(f"{name} is not a model that Stable-Baselines3 saved: {error}") from error
    if not data or "policy_class" not in data or "policy" not in parameters:
        raise ValueError(f"{name} is not a model that Stable-Baselines3 saved")
    make = data["policy_class"]
    if not isinstance(make, type) or hasattr(make, "_process_sequence"):
        raise ValueError(f"{name}: policies of the kind {make} cannot play here")
    try:
        return _made(make, data, parameters["policy"])
    except Exception as error:  # what was unpickled may be anything
        raise ValueError(f"{name}: its policy cannot be made again: {error!r}") from error


def _made(make: type[BasePolicy], data: dict[str, Any], weights: Any) -> BasePolicy:
    """The policy of a model."""
    arguments = dict(data["policy_kwargs"])
    known = signature(make).parameters
    for key, value in (("lr_schedule", lambda _: 0.0), ("use_sde", data.get("use_sde", False))):
        if key in known:
            arguments.setdefault(key, value)
    with building():
        policy = make(data["observation_space"], data["action_space"], **arguments)
    policy.load_state_dict(weights)
    return policy


def save_model(
    path: str | Path, model: BaseAlgorithm, origin: dict[str, Any] | None = None
) -> None:
    """Writes what the agent `SB3` plays: arrays, or where the path ends in .zip a whole model.

    Args:
        path: where to.
        model: of any algorithm.
        origin: how it was made; numbers, strings, lists and dicts.

    Raises:
        ValueError: the policy has a part that is not known here, and the path is no .zip.
    """
    normalised = model.get_vec_normalize_env()
    if normalised is not None and normalised.norm_obs:
        warnings.warn(
            "the policy was trained on observations that VecNormalize normalised, and its file "
            "holds no statistics of them: save these with model.get_vec_normalize_env().save(path) "
            f"and play sb3(policy={str(path)!r}, vecnormalize=path)",
            stacklevel=2,
        )
    write = write_model if Path(path).suffix == ".zip" else write_arrays
    write(Path(path), model, origin or {})


def write_model(path: Path, model: BaseAlgorithm, origin: dict[str, Any]) -> None:
    """Writes a model that its algorithm's `load` opens, and the agent `SB3` with trust.

    Optimizers are saved without their moments, which are twice the size of the networks; the
    member `dynprune.json` says how the model was made.

    Args:
        path: where to.
        model: of any algorithm.
        origin: how it was made; numbers, strings, lists and dicts.
    """
    whole = io.BytesIO()
    model.save(whole, exclude=NOT_FOR_TRAINING)
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("optimizer.pth"):
                state = torch.load(io.BytesIO(content), weights_only=True)
                emptied = io.BytesIO()
                torch.save({**state, "state": {}}, emptied)
                content = emptied.getvalue()
            target.writestr(name, content)
        target.writestr("dynprune.json", json.dumps(origin, indent=1))
