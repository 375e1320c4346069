"""What Gymnasium's vector environments offer for each of their environments: here, of each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from dynprune_env.common.checks import shown


class SharedRows:
    """The part of a vector environment that is asked for its rows one by one."""

    num_envs: int
    metadata: dict[str, Any]

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """What happens when a run ends; can be set between episodes."""
        mode: AutoresetMode = self.metadata["autoreset_mode"]
        return mode

    @autoreset_mode.setter
    def autoreset_mode(self, mode: AutoresetMode | str) -> None:
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode(mode)}

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Each row's part of what a method gives, or of an attribute; what has no rows, R times.

        The method is called once: the rows are of one environment.

        Raises:
            AttributeError: there is none of that name.
        """
        found = getattr(self, name)
        found = found(*args, **kwargs) if callable(found) else found
        return tuple(part_of_row(found, row, self.num_envs) for row in range(self.num_envs))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """See `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute, which the rows share.

        Args:
            name: of the attribute.
            values: the value, or as a list or tuple the same one for each row.

        Raises:
            ValueError: they are not one for each row, or differ.
        """
        if isinstance(values, list | tuple):
            if len(values) != self.num_envs or any(each is not values[0] for each in values):
                raise ValueError(
                    f"the rows share the attribute {name!r}: give one value, or the same one for "
                    f"each of {self.num_envs} rows, got {shown(values)}"
                )
            values = values[0]
        setattr(self, name, values)


def part_of_row(result: Any, row: int, num_envs: int) -> Any:
    """A row of arrays, lists and (named) tuples with one entry per row; anything else as it is."""
    if isinstance(result, np.ndarray) and result.ndim and len(result) == num_envs:
        return result[row]
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(part_of_row(value, row, num_envs) for value in result))
    if isinstance(result, dict):
        return {name: part_of_row(value, row, num_envs) for name, value in result.items()}
    if isinstance(result, list | tuple) and len(result) == num_envs:
        return result[row]
    return result
