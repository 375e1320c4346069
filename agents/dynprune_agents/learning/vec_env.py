"""Training runs as a Stable-Baselines3 VecEnv: one process, several tasks, R replicas of each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorObservationWrapper, VectorWrapper
from stable_baselines3.common.vec_env import VecEnv

from dynprune_agents.policies._features import TASK_SIZE, TASK_SIZE_KEYS
from dynprune_env.envs.relative import RelativeRewards
from dynprune_env.envs.rows import part_of_row
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.observations import MOST

Indices = int | Iterable[int] | None
Group: TypeAlias = Any
"""A DynPruneVectorEnv, or a wrapper of one, which hands its attributes on."""


class DynPruneVecEnv(VecEnv):
    """One or several vector environments ("groups") side by side, as Stable-Baselines3 wants them.

    Each group is a setting of its own: task, budget, label noise and data seed may differ. What
    policies see and do must not: observation and action kinds, and for per-sample kinds n. Since T
    and C may differ, the bounds of the columns that depend on T and C are opened.

    Wrap it in `VecMonitor`, and in `VecNormalize(norm_obs=False)` where rewards are to be
    normalised; observations are normalised in the policy. Before a stock policy is trained on it,
    ask `check_policy_fits`.

    Args:
        groups: vector environments as `gym.make_vec` makes them, of twins or not, in wrappers such
            as `RelativeRewards` or not. Their autoreset mode becomes `SAME_STEP`. First twins that
            play dynamic random, since these are of kind "random", are left out of all that is
            returned: nobody chose their actions.
        repeated: every `reset` starts the runs of the last `seed` again, for algorithms that
            compare policies one after the other (ARS).
        paired: was once what twins in `RelativeRewards` are now.

    Attributes:
        steps: environment steps done so far, over all replicas, also those left out.
        visits: sample visits spent so far, scoring included.
        seconds: wall-clock time spent in the environments.
        returns: of the episodes that ended since the last `replace_groups`: sums of the groups'
            own rewards, also inside `RelativeRewards`.

    Raises:
        ValueError: the groups have different spaces, are one and the same, of another package, or
            in a wrapper that changes observations; or `paired` is given.
    """

    def __init__(
        self,
        groups: Group | Sequence[Group],
        *,
        repeated: bool = False,
        paired: bool | None = None,
    ):
        if paired is not None:
            raise ValueError(
                "paired is no argument any more: make groups with twins, such as "
                "gym.make_vec(id, num_envs=8, twins=8), and wrap them in "
                "dynprune_env.RelativeRewards"
            )
        self.repeated = repeated
        self.steps = 0
        self.seconds = 0.0
        self.visits = 0
        self._put(groups)
        first = self.groups[0]
        super().__init__(
            int(self._learns.sum()),
            opened(first.single_observation_space),
            first.single_action_space,
        )

    def _put(self, groups: Group | Sequence[Group]) -> None:
        checked = _as_list(groups)
        if not checked:
            raise ValueError("a DynPruneVecEnv needs at least one group")
        for group in checked:
            if not isinstance(getattr(group, "unwrapped", None), DynPruneVectorEnv):
                raise ValueError(
                    f"a group is a DynPruneVectorEnv, wrapped or not, got {group!r}: gym.make_vec "
                    "makes one if no vectorization_mode is named; single environments go into "
                    "Stable-Baselines3's own make_vec_env"
                )
            _check_alike(group, checked[0])
        if len({id(group.unwrapped) for group in checked}) < len(checked):
            raise ValueError("the same environment stands there twice: make one for each group")
        for group in checked:
            _reset_in_the_same_step(group)
        self.groups = checked
        self.returns: list[float] = []
        self._learns = np.concatenate([_learning_rows(group) for group in checked])
        self._action_of = np.maximum(0, np.cumsum(self._learns) - 1)
        self._running = np.zeros(len(self._learns))
        self._own = np.zeros(len(self._running))
        self._spent = np.zeros(len(self._running), dtype=np.int64)

    def replace_groups(self, groups: Group | Sequence[Group]) -> None:
        """Goes on with other groups, under the same wrappers; `reset` must follow.

        Args:
            groups: with the same spaces and the same number of replicas altogether.

        Raises:
            ValueError: they have not.
        """
        before, size = self.groups, self.num_envs
        found = _as_list(groups)
        if (total := sum(int(_learning_rows(group).sum()) for group in found)) != size:
            raise ValueError(f"expected {size} replicas altogether, got {total}")
        for group in found:
            _check_alike(group, before[0])
        self._put(found)
        for group in before:
            group.close()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seeds of the next `reset`: s, s + 1, ... for rows, or groups of twins."""
        super().seed(seed)
        following = self._seeds[0]
        seeds: list[int | None] = []
        for group in self.groups:
            twins = group.unwrapped.twins
            if following is not None:
                own = range(following, following := following + group.num_envs // twins)
                seeds += [each for each in own for _ in range(twins)]
        if seeds:
            self._seeds = [seeds[row] for row in np.flatnonzero(self._learns)]
        return self._seeds

    # -- resets and steps -----------------------------------------------------------------------

    def reset(self) -> Any:
        """Starts new runs in all rows, with the seeds of the last `seed`; (R, ...) observations."""
        start = time.perf_counter()
        observations, told = [], []
        first = 0
        for rows, group in self._rows():
            learns = self._learns[rows]
            seed = self._seeds[first : (first := first + int(learns.sum()))]
            # One for each row, or for each group of twins.
            own = seed[:: learns[: group.unwrapped.twins].sum()]
            observation, infos = group.reset(seed=None if None in own else own)
            observations.append(observation)
            told += [_row_of_info(infos, int(row)) for row in np.flatnonzero(learns)]
        self.reset_infos = told
        self.seconds += time.perf_counter() - start
        if not self.repeated:
            self._reset_seeds()
        self._reset_options()
        self._running[:], self._spent[:] = 0, 0
        return self._joined(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Takes the (R, ...) actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Trains one epoch of every row.

        Returns:
            (R, ...) observations, after a reset where an episode ended; (R,) float32 rewards; (R,)
            bool dones; infos. Where an episode ended, its info holds `terminal_observation`.
        """
        start = time.perf_counter()
        observations, infos = [], []
        learns = self._learns
        rewards, dones = np.zeros(len(learns)), np.zeros(len(learns), dtype=bool)
        # Rows that are left out play dynamic random, whatever they are given.
        actions = self._actions[self._action_of]
        for rows, group in self._rows():
            observation, reward, ended, _, group_infos = group.step(actions[rows])
            observations.append(observation)
            rewards[rows], dones[rows] = reward, ended
            self._own[rows] = getattr(_holder(group, "own_rewards"), "own_rewards", reward)
            infos += [self._info(group, group_infos, row) for row in range(group.num_envs)]
        self.seconds += time.perf_counter() - start
        self._count(dones, infos)
        infos = [infos[row] for row in np.flatnonzero(learns)]
        return self._joined(observations), rewards[learns].astype(np.float32), dones[learns], infos

    def _info(self, group: Group, infos: dict[str, Any], row: int) -> dict[str, Any]:
        """What Stable-Baselines3 wants to know of one row: plain Python values."""
        if "final_obs" not in infos or not infos["_final_obs"][row]:
            return {**_row_of_info(infos, row), "TimeLimit.truncated": False}
        return {
            **_row_of_info({**infos, **infos["final_info"]}, row),  # wrappers tell of ends outside
            "terminal_observation": infos["final_obs"][row],
            "TimeLimit.truncated": False,
        }

    def _count(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        spent = np.array(
            [int(info["run_visits"] + SCORING_COST * info["scored"]) for info in infos]
        )
        self.visits += int((spent - self._spent).sum())
        self._spent = np.where(dones, 0, spent)
        self.steps += len(self._learns)
        self._running += self._own
        self.returns += self._running[dones & self._learns].tolist()
        self._running[dones] = 0

    def _joined(self, observations: list[Any]) -> Any:
        if not isinstance(observations[0], dict):
            return np.concatenate(observations)[self._learns]
        return {
            name: np.concatenate([each[name] for each in observations])[self._learns]
            for name in observations[0]
        }

    def _rows(self) -> Iterator[tuple[slice, Group]]:
        first = 0
        for group in self.groups:
            yield slice(first, first + group.num_envs), group
            first += group.num_envs

    # -- what the interface asks for besides ------------------------------------------------------

    def _owners(self, indices: Indices) -> list[tuple[Group, int]]:
        """The group of each of these replicas, and its row there."""
        everyone = [
            (group, int(row))
            for rows, group in self._rows()
            for row in np.flatnonzero(self._learns[rows])
        ]
        return [everyone[index] for index in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of each replica's group.

        Raises:
            AttributeError: the groups have no such attribute.
        """
        owners = self._owners(indices)
        return [getattr(_holder(group, attr_name), attr_name) for group, _ in owners]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Sets an attribute of the groups that these replicas belong to.

        Raises:
            ValueError: some replicas of a group are named, others are not: they share it.
        """
        named = self._owners(indices)
        groups = {id(group): group for group, _ in named}
        if len(named) != sum(_learning_rows(group).sum() for group in groups.values()):
            raise ValueError("the replicas of a group share its attributes: name all of them")
        for group in groups.values():
            setattr(_holder(group, attr_name), attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method once per group, and picks each replica's row of what it returns.

        Example:
            venv.env_method("evaluate", "test")  # -> one Evaluation(loss, accuracy) per replica
        """
        results: dict[int, Any] = {}
        picked = []
        for group, row in self._owners(indices):
            if id(group) not in results:
                method: Callable[..., Any] = getattr(_holder(group, method_name), method_name)
                results[id(group)] = method(*method_args, **method_kwargs)
            picked.append(part_of_row(results[id(group)], row, group.num_envs))
        return picked

    def env_is_wrapped(self, wrapper_class: Any, indices: Indices = None) -> list[bool]:
        """Vector environments carry no single-environment wrappers: always False."""
        return [False] * len(self._owners(indices))

    def get_images(self) -> list[np.ndarray | None]:
        """One panel per replica, None without render_mode."""
        images: list[np.ndarray | None] = []
        for group in self.groups:
            images += group.render() or [None] * group.num_envs
        return [images[row] for row in np.flatnonzero(self._learns)]

    def close(self) -> None:
        """Closes the groups."""
        for group in self.groups:
            group.close()


def opened(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space that `DynPruneVecEnv` declares: `samples` with bounds that hold for any T and C."""
    if not isinstance(space, spaces.Dict):
        return space
    boxes: dict[str, spaces.Space[Any]] = {}
    for name, box in space.spaces.items():
        assert isinstance(box, spaces.Box)
        grows = name in ("forgetting", "visits", "age", "label")
        boxes[name] = spaces.Box(box.low, np.full_like(box.high, MOST)) if grows else box
    # Stock policies join the entries in the order of the space: that of the former key stays.
    order = sorted(boxes, key=lambda name: TASK_SIZE_KEYS[-1] if name == TASK_SIZE else name)
    return spaces.Dict(OrderedDict((name, boxes[name]) for name in order))


def _as_list(groups: Group | Sequence[Group]) -> list[Group]:
    """One group or several as a list."""
    return [groups] if isinstance(groups, VectorEnv) else list(groups)


def _learning_rows(group: Group) -> np.ndarray:
    """(R,) bool: all rows but those that play dynamic random, which twins are compared with."""
    learns = np.ones(group.num_envs, dtype=bool)
    inner = group
    while isinstance(inner, VectorWrapper):
        if isinstance(inner, RelativeRewards) and inner.kind == "random":
            learns[:: group.unwrapped.twins] = False
        inner = inner.env
    return learns


def _reset_in_the_same_step(group: Group) -> None:
    """Switches an environment and its wrappers, some of which have noted how it was made.

    Raises:
        ValueError: a wrapper changes observations, for which Gymnasium knows no such mode.
    """
    mode, inner = AutoresetMode.SAME_STEP, group
    while isinstance(inner, VectorWrapper):
        if isinstance(inner, VectorObservationWrapper):
            raise ValueError(
                f"Stable-Baselines3 needs {mode}, which {type(inner).__name__} cannot take: the "
                "last observations of episodes would stay as they are. Change observations with a "
                "VecEnvWrapper of Stable-Baselines3 around DynPruneVecEnv; they are of the size "
                "of 1 already"
            )
        for name in ("autoreset_mode", "_autoreset_mode"):
            if name in vars(inner):
                setattr(inner, name, mode)
        inner = inner.env
    inner.autoreset_mode = mode


def _holder(group: Group, attr_name: str) -> Group:
    """The wrapper that has an attribute, or the environment itself."""
    while isinstance(group, VectorWrapper) and not (
        attr_name in vars(group) or hasattr(type(group), attr_name)
    ):
        group = group.env
    return group


def _check_alike(group: Group, first: Group) -> None:
    known = first.unwrapped.settings
    kinds = {"observation": "observation kind", "action": "action kind"}
    if known.observation == "samples":
        kinds["observed"] = "columns"
    for name, what in kinds.items():
        found, expected = (getattr(each.unwrapped.settings, name) for each in (group, first))
        if found != expected:
            raise ValueError(f"all groups need the same {what}, got {expected!r} and {found!r}")
    for name in ("single_observation_space", "single_action_space"):
        if opened(getattr(group, name)) != opened(getattr(first, name)):
            sizes = [each.unwrapped.settings.num_samples for each in (first, group)]
            raise ValueError(
                f"all groups need the same spaces, and with observation="
                f"{known.observation!r} and action={known.action!r} these depend "
                f"on the number of samples: got {sizes[0]:,} and {sizes[1]:,}; give all "
                f"of them the same train_size"
            )


def _row_of_info(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """One row's as plain values; what a wrapper tells of some rows only is left out of others."""
    found: dict[str, Any] = {}
    for name, value in infos.items():
        if name.startswith(("_", "final_")):
            continue
        if isinstance(value, dict):
            if infos.get(f"_{name}", np.ones(row + 1, dtype=bool))[row]:
                found[name] = _row_of_info(value, row)
        else:
            found[name] = value[row].item()
    return found
