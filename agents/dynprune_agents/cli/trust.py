"""What may run though a stranger's file names it: what ships with the package, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import typer

import dynprune_agents
from dynprune_agents.cli.options import ALL
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.registration import VECTOR_ENTRY_POINT, without_own_prefix
from dynprune_env.common.specs import parse_spec

if TYPE_CHECKING:  # planning imports the environments, and only playing needs them
    from dynprune_env.benchmark.sweeps import Sweep

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Also play what does not ship with this package: agents, policies and tasks that the "
        "files name. It runs their code.",
    ),
]

_ELSEWHERE = ("data_dir", "device")
"""Arguments of an environment that are the player's to choose, by options."""


def foreign_agent(spec: str) -> str | None:
    """Why the agent of a spec is not one of this package with a shipped policy; None if it is.

    Imports and runs nothing of what the spec names.
    """
    from dynprune_agents.policies._files import shipped_policies  # loads torch

    try:
        name, arguments = parse_spec(spec)
    except (ValueError, RecursionError, MemoryError) as error:
        return f"its agent cannot be read ({error})"
    if name not in dynprune_agents.names():
        return f"its agent {name} does not ship with this package"
    if arguments.get("trust", False) is not False:
        return f"its agent {name} asks for trust"
    if arguments.get("vecnormalize") is not None:
        return f"its statistics {arguments['vecnormalize']!r} do not ship with this package"
    if "policy" in arguments and arguments["policy"] not in shipped_policies():
        return f"its policy {arguments['policy']!r} does not ship with this package"
    rule = arguments.get("rule")
    return foreign_agent(rule) if isinstance(rule, str) else None


def foreign_env(env: str, env_kwargs: dict[str, Any]) -> str | None:
    """Why an environment is not one of this package, of tasks that are known; None if it is.

    Tasks of one's own count as known once they were registered (`--import`), by their id alone: a
    module in front of it would be imported.
    """
    spec = gym.registry.get(without_own_prefix(env))
    if spec is None or spec.vector_entry_point != VECTOR_ENTRY_POINT:
        return f"its environment {env} does not ship with this package"
    if ":" in str(env_kwargs.get("reward")):
        return f"its reward {env_kwargs['reward']} does not ship with this package"
    chosen = [name for name in _ELSEWHERE if name in env_kwargs]
    return f"it sets {chosen[0]}, which is for the player to choose" if chosen else None


def import_hint(env: str) -> str:
    """How to validate runs of an environment that nothing has registered; "" if it is known.

    What an id with a module in front needs is trust: `gym.make` would import that.
    """
    if ":" in env or env in gym.registry:
        return ""
    return "`dynprune --import MODULE validate ...` plays such, with the module that registers it"


def foreign_part(result: FinishedRun) -> str | None:
    """Why replaying a result would run something that does not ship with this package, or None."""
    config = result.config
    return foreign_env(config.env, config.env_kwargs) or foreign_agent(config.agent)


def without_foreign(results: Iterable[FinishedRun]) -> tuple[list[FinishedRun], list[str]]:
    """The results that can be played safely, and a sentence for each reason to leave some out."""
    reasons = [(result, foreign_part(result)) for result in results]
    counts = Counter(
        (reason, import_hint(result.config.env) or "--trust plays such")
        for result, reason in reasons
        if reason
    )
    sentences = [
        f"{count} {'result' if count == 1 else 'results'}: {reason}; {hint}"
        for (reason, hint), count in counts.items()
    ]
    return [result for result, reason in reasons if reason is None], sentences


def check_sweep(sweep: Sweep) -> None:
    """Checks what a sweep's file names, before any of it is imported.

    Raises:
        ValueError: something does not ship with this package.
    """
    kwargs = [{**sweep.env_kwargs, **variant} for variant in sweep.variants]
    reasons = [foreign_env(env, each) for env in sweep.envs for each in kwargs]
    for reason in (*reasons, *(foreign_agent(spec) for spec in sweep.agents if spec != ALL)):
        if reason:
            raise ValueError(
                f"{reason}: give --trust if you trust who wrote the sweep, which runs their code"
            )
