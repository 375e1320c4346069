"""Who chooses for a sampler: an agent plays for one at a time."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from dynprune_env.selection.agent import Probe, SelectionAgent
from dynprune_env.selection.agent_state import agent_label, unpack_agent


class Player:
    """An agent that was reset for a sampler.

    Args:
        agent: the agent.
        probe: what stands where it finds access to the models.
    """

    def __init__(self, agent: SelectionAgent, probe: Probe):
        self.agent = agent
        self._probe = probe
        self._claim()

    def check(self) -> None:
        """Checks that the agent still plays for this sampler.

        Raises:
            RuntimeError: it was reset for another one, or for an environment: it has forgotten
                this run.
        """
        handed_on = _PLAYING.get(id(self.agent), self) is not self
        if handed_on or getattr(self.agent, "episode", None) is not self._episode:
            raise RuntimeError(
                f"{agent_label(self.agent)} was reset for another sampler or environment since: "
                "make an agent for each"
            )

    def load(self, packed: Any, trust: bool) -> None:
        """Makes the agent go on from what `pack_agent` gave.

        Raises:
            ValueError: it is damaged, of another agent, or a pickle that is not trusted.
        """
        unpack_agent(packed, self.agent, lambda _: self._probe, trust=trust)()
        self._claim()

    def _claim(self) -> None:
        _PLAYING[id(self.agent)] = self
        self._episode = getattr(self.agent, "episode", None)


_PLAYING: WeakValueDictionary[int, Player] = WeakValueDictionary()
"""The last player that each agent is, by the agent's id: the player keeps the agent alive."""
