"""What a training loop of one's own cannot offer an agent, and the sentence that says so."""

from __future__ import annotations

from typing import NoReturn

ONLY_IN_THE_GAME = "which a training loop of one's own does not offer: it plays in DynPruneEnv only"


class Refusing:
    """Stands where an agent finds scoring runs and a probe in the environment.

    Args:
        agent: its name, for the message.
        epochs: T.
        num_samples: n.
    """

    def __init__(self, agent: str, epochs: int, num_samples: int):
        self.agent = agent
        self.epochs = epochs
        self.num_samples = num_samples

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what copying and pickling look for
            raise AttributeError(name)
        raise ValueError(
            f"{self.agent} needs training runs of its own or access to the model, "
            f"{ONLY_IN_THE_GAME}"
        )
