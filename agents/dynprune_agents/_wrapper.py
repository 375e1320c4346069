"""Agents that play another agent, and change how much or what it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dynprune_agents._agent import Agent
from dynprune_env.selection.agent import Episode, ScoringRuns


@dataclass
class WrappingAgent(Agent):
    """Hands everything but the choice on to a rule.

    Attributes:
        rule: spec of the rule.
    """

    rule: str = "dynamic_random"

    def __post_init__(self) -> None:
        """Checks the rule.

        Raises:
            ValueError: there is no such rule, or its actions name no samples.
        """
        kind = dict(self._made().env_kwargs).get("action", "mask")
        if kind not in ("mask", "weights"):
            raise ValueError(f"the rule has to give masks or weights, {self.rule} gives {kind}")

    @cached_property
    def _rule(self) -> Agent:
        return self._made()

    def _made(self) -> Agent:
        from dynprune_agents import make  # which imports the agents

        return make(self.rule)

    @property
    def env_kwargs(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the rule."""
        return dict(self._rule.env_kwargs)

    def parts(self) -> list[Agent]:
        """The rule."""
        return [self._rule]

    def prepare(self, runs: ScoringRuns) -> None:
        """Lets the rule prepare, at its cost."""
        self._rule.prepare(runs)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._rule.reset(episode)

    def update(self, *step: Any, **named: Any) -> None:
        """Lets the rule learn from what was done."""
        self._rule.update(*step, **named)
