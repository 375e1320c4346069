"""Selection agents: one file is one agent, and these folders are their registry."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from importlib import import_module
from inspect import getdoc, isabstract
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from dynprune_env.common.checks import shown
from dynprune_env.common.lazy import lazy_names
from dynprune_env.common.specs import checked_arguments, did_you_mean, lookup, parse_spec

if TYPE_CHECKING:  # loaded at their first use: a report needs no agent, and no torch
    from dynprune_agents._agent import Agent as Agent
    from dynprune_agents._agent import PeriodicAgent as PeriodicAgent

__all__ = [
    "Agent",
    "PeriodicAgent",
    "agent_class",
    "classes",
    "describe",
    "families",
    "make",
    "names",
]


def names() -> list[str]:
    """The names of all agents: the modules of the families, `_private` ones aside."""
    return list(_modules())


def families() -> dict[str, list[str]]:
    """The names of the agents by family: baselines, dynamic, weighted, ..."""
    from dynprune_agents._agent import FAMILIES

    return {
        family: [name for name, module in _modules().items() if module.split(".")[1] == family]
        for family in FAMILIES
    }


def classes() -> dict[str, str]:
    """The class of each agent by its name: one of baseline, dynamic, weighted, static, ..."""
    from dynprune_agents._agent import CLASSES

    found = zip(CLASSES, families().values(), strict=True)
    return {name: its_class for its_class, members in found for name in members}


@cache
def _modules() -> dict[str, str]:
    """The module of each agent, by its name."""
    from dynprune_agents._agent import FAMILIES

    found = {}
    for family in FAMILIES:
        for module in iter_modules([str(Path(folder) / family) for folder in __path__]):
            if not module.name.startswith("_"):
                found[module.name] = f"{__name__}.{family}.{module.name}"
    return dict(sorted(found.items()))


def agent_class(name: str) -> type[Agent]:
    """The class behind a name: "ucb", or "package.module:Class" for one's own.

    Raises:
        ValueError: there is no such agent.
    """
    from dynprune_agents._agent import Agent

    if ":" in name:
        module_name, class_name = name.split(":")
        # Where the agents of this package lay before they had families.
        module_name = _modules().get(module_name.removeprefix("dynprune_agents."), module_name)
        try:
            found = getattr(import_module(module_name), class_name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"cannot load the agent {name!r}: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Agent)):
            raise ValueError(f"{name!r} is not a subclass of dynprune_agents.Agent")
        if isabstract(found):
            raise ValueError(f"{name!r} is abstract: it leaves methods to its subclasses")
        return found
    modules = _modules()
    known = modules.get(name) or lookup(name, modules, "agent", also=_shipped())
    module = import_module(known)
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Agent)
        and value.__module__ == module.__name__
    )


def make(spec: str) -> Agent:
    """Makes the agent that a spec names: "ucb", "ucb(c=2.0)", "my_package.my_module:Mine(x=1)".

    Raises:
        ValueError: unknown agent or parameter, or a value that the agent refuses.
    """
    if not isinstance(spec, str):
        raise ValueError(f'an agent is named by its spec, such as "ucb(c=2.0)", got {shown(spec)}')
    try:
        name, arguments = parse_spec(spec)
    except ValueError as error:
        hint = _meant(spec)
        raise ValueError(f"{error}.{hint}" if hint else str(error)) from error
    found = agent_class(name)
    checked = checked_arguments(found, arguments, f"the agent {name}")
    if unsaid := set(checked) - {field.name for field in fields(found)}:  # repr would not say it
        raise ValueError(
            f"{name} takes {', '.join(sorted(unsaid))}, which is no field of a dataclass, so that "
            "its results would not say what it was: decorate the class with @dataclass and declare "
            "each parameter with its type and default, as in k: float = 1.0"
        )
    return found(**checked)


def _meant(spec: str) -> str:
    """As `did_you_mean`, of a malformed spec: no other agent than the one that it names."""
    name = spec.partition("(")[0].strip()
    if name in _modules():  # then its arguments are wrong: it may mean learned(policy='robust')
        return did_you_mean(spec, (), also=_shipped())
    return did_you_mean(name, _modules(), also=_shipped())


def _shipped() -> dict[str, str]:
    """What somebody may call the shipped policies, "learned-robust" or "robust": their specs."""
    from dynprune_agents.policies._files import shipped_policies
    from dynprune_agents.policies.learned import Learned

    found: dict[str, str] = {}
    for policy in shipped_policies():
        try:
            Learned(policy).network()
            agent = "learned"
        except ValueError:  # it is one of Stable-Baselines3
            agent = "sb3"
        spec = f"{agent}(policy={policy!r})"
        found |= {policy: spec, f"{agent}-{policy}": spec}
    return found


def describe(name: str) -> str:
    """The first line of an agent's docstring."""
    return (getdoc(agent_class(name)) or "").partition("\n")[0]


__getattr__, __dir__ = lazy_names(
    __name__, {"Agent": "_agent", "PeriodicAgent": "_agent"}, [*globals()]
)
