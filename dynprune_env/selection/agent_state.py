"""What an agent has learned, as plain things: so that a saved run goes on as it would have."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dynprune_env.common.plain import Packer, Unpacker, plain_hash
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.common.restorable import class_name, restorable
from dynprune_env.selection.agent import Episode, Probe, SelectionAgent
from dynprune_env.selection.statistics import SampleValues

ProbeOf = Callable[[Any], Probe]
"""Gives access to the running models to an agent with these seeds, see `Episode.seeds`."""

KEYS = {"agent", "pickled", "state", "hash"}
METHODS = ("prepare", "reset", "select", "update")
REMEDY = (
    "give the agent state_dict() and load_state_dict() of plain values, or allow that it is "
    "pickled: env.save(..., pickled=True), PruningSampler.state_dict(pickled=True), dynprune bench "
    "--trust"
)

for _cls in (ReplicaRandom, SampleValues):
    restorable(_cls)


def agent_label(agent: Any) -> str:
    """What the agent calls itself, its repr; the name of its class if that is Python's own."""
    plain: Any = object.__repr__
    return class_name(type(agent)) if type(agent).__repr__ is plain else repr(agent)


def pack_agent(agent: SelectionAgent, *, pickled: bool = False) -> dict[str, Any]:
    """All that an agent has learned, without its access to the running models.

    That is what its method `state_dict` gives, or its attributes.

    Args:
        agent: played or not; it is not changed.
        pickled: whether an agent that holds what is no plain value is pickled, which the key
            `pickled` then says: such a state runs code when it is opened.

    Returns:
        Numbers, strings, lists, dicts and tensors, all copies.

    Raises:
        TypeError: the agent holds what is no plain value, or what cannot even be pickled.
    """
    label = agent_label(agent)
    try:
        return _sealed(label, False, _AgentPacker(agent).pack(agent, "the agent"))
    except TypeError as error:
        if not pickled:
            raise TypeError(f"{label} cannot be saved: {error}; {REMEDY}") from error
    try:
        content = _pickle(agent)
    except Exception as error:
        raise TypeError(f"{label} cannot be saved: {error}") from error
    return _sealed(label, True, torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()))


def unpack_agent(
    packed: Any, agent: SelectionAgent, probe_of: ProbeOf, *, trust: bool = False
) -> Callable[[], None]:
    """Reads what `pack_agent` gave for an agent of the same spec, which is not changed yet.

    Args:
        packed: the state.
        agent: a freshly made one, or one that has played.
        probe_of: access to the models that it will play with.
        trust: whether an agent may be unpickled, which runs whatever code the state holds.

    Returns:
        Call it to make the agent go on from there; it raises a ValueError if the agent refuses.

    Raises:
        ValueError: the state is of another agent, is damaged, or is a pickle that is not trusted.
    """
    label = agent_label(agent)
    if not isinstance(packed, dict) or set(packed) != KEYS:
        raise ValueError(f"the state of an agent has the keys {', '.join(sorted(KEYS))}")
    if packed["agent"] != label:
        raise ValueError(f"the state is of the agent {packed['agent']}, this one is {label}")
    if packed["hash"] != plain_hash(packed["state"]):
        raise ValueError(f"the state of the agent {label} is damaged: its hash is another one")
    if packed["pickled"] is not False and not trust:
        raise ValueError(
            f"the state holds {label} as a pickle, which runs code when it is opened: "
            "pass trust=True if you know where it is from"
        )
    try:
        if packed["pickled"] is not False:
            values = _unpickle(packed["state"].cpu().numpy().tobytes(), probe_of)
            return lambda: _put(agent, values)
        reader = _AgentUnpacker(agent, probe_of)
        if reader.unpack(packed["state"], agent) is not agent:
            raise ValueError("it is no agent")
    except Exception as error:
        raise ValueError(f"the state of the agent {label} is damaged: {error}") from error
    return reader.finish


def _sealed(label: str, pickled: bool, state: Any) -> dict[str, Any]:
    return {"agent": label, "pickled": pickled, "state": state, "hash": plain_hash(state)}


def _is_agent(thing: Any) -> bool:
    return all(callable(getattr(type(thing), name, None)) for name in METHODS)


def _modules(agent: Any) -> set[str]:
    """Where the classes of an agent are: others of the same files may be met in its state."""
    return {cls.__module__ for cls in type(agent).__mro__ if cls.__module__ != "builtins"}


class _AgentPacker(Packer):
    def __init__(self, agent: Any):
        super().__init__()
        self._probes: dict[int, Any] = {}  # seeds by the probe's id
        self._add_probe(getattr(agent, "episode", None))

    def _add_probe(self, episode: Any) -> None:
        if isinstance(episode, Episode):
            self._probes[id(episode.probe)] = episode.seeds

    def content(self, value: Any, where: str) -> dict[str, Any]:
        """A probe is a door to the running models, not a part of the state."""
        if id(value) in self._probes:
            return {"type": "probe", "seeds": self.pack(self._probes[id(value)], where)}
        if type(value) is Episode:
            self._add_probe(value)
            return {"type": "episode", "parts": self.attributes(vars(value), where)}
        if _is_agent(value) and not isinstance(value, type):
            return self._agent(value, where)
        return super().content(value, where)

    def _agent(self, agent: Any, where: str) -> dict[str, Any]:
        self.modules |= _modules(agent)
        self._add_probe(getattr(agent, "episode", None))
        hooked = callable(getattr(agent, "state_dict", None))
        state = agent.state_dict() if hooked else vars(agent)
        found = self.attributes(state, where)
        return {"type": "agent", "agent": agent_label(agent), "parts": found}


class _AgentUnpacker(Unpacker):
    """Fills the agents that stand where the state has some."""

    def __init__(self, agent: Any, probe_of: ProbeOf):
        super().__init__()
        self._agent_at_hand = agent
        self._probe_of = probe_of
        self._filled: list[tuple[Any, dict[str, Any]]] = []

    def value(self, node: dict[str, Any], held: Any) -> Any:
        """Agents are those that are held; a probe is a new one."""
        if node["type"] == "probe":
            return self.made(node, self._probe_of(self.unpack(node["seeds"])))
        if node["type"] == "episode":
            episode = self.made(node, object.__new__(Episode))
            parts = self.attributes(node["parts"], None)
            if set(parts) != {field.name for field in dataclasses.fields(Episode)}:
                raise ValueError(f"an episode has other parts than {', '.join(parts)}")
            vars(episode).update(parts)
            return episode
        if node["type"] == "agent":
            return self._agent(node, held)
        return super().value(node, held)

    def _agent(self, node: dict[str, Any], held: Any) -> Any:
        spec, parts = node["agent"], node["parts"]
        if held is None and callable(getattr(self._agent_at_hand, "remake", None)):
            held = self._agent_at_hand.remake(spec)
        if held is None or agent_label(held) != spec:
            raise ValueError(f"it held the agent {spec} where a freshly made one holds none")
        self.modules |= _modules(held)
        self.made(node, held)
        values = self.attributes(parts, SimpleNamespace(**_attributes(held, parts)))
        # A text may name a file or another rule: that of the agent at hand counts.
        for field in dataclasses.fields(held) if dataclasses.is_dataclass(held) else ():
            now = getattr(held, field.name)
            if field.name in values and isinstance(now, str):
                values[field.name] = now
        self._filled.append((held, values))
        return held

    def finish(self) -> None:
        """Puts the values into the agents; should one refuse, all are as before."""
        before = [(agent, dict(vars(agent))) for agent, _ in self._filled]
        try:
            for agent, values in self._filled:
                _put(agent, values)
        except Exception as error:
            for agent, old in before:
                vars(agent).clear()
                vars(agent).update(old)
            label = agent_label(self._agent_at_hand)
            raise ValueError(f"the state of the agent {label} does not fit: {error}") from error


def _attributes(agent: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """An agent's attributes, and the agents among the wanted that it makes at their first use."""
    found = dict(vars(agent))
    for name, node in wanted.items():
        lazy = isinstance(getattr(type(agent), name, None), cached_property)
        if lazy and isinstance(node, dict) and node.get("type") == "agent":
            found[name] = getattr(agent, name)
    return found


def _put(agent: Any, values: dict[str, Any]) -> None:
    """Makes an agent go on from its attributes, or from what its `state_dict` gave."""
    if callable(getattr(agent, "load_state_dict", None)):
        agent.load_state_dict(values)
    else:
        vars(agent).clear()
        vars(agent).update(values)


def _pickle(agent: Any) -> bytes:
    import cloudpickle

    episode = getattr(agent, "episode", None)
    doors = {id(episode.probe): episode.seeds} if isinstance(episode, Episode) else {}

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, thing: Any) -> Any:
            return ("probe", doors[id(thing)]) if id(thing) in doors else None

    file = io.BytesIO()
    Pickler(file).dump(agent.state_dict() if hasattr(agent, "state_dict") else vars(agent))
    return file.getvalue()


def _unpickle(content: bytes, probe_of: ProbeOf) -> dict[str, Any]:
    class Opener(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Probe:
            return probe_of(pid[1])

    found: dict[str, Any] = Opener(io.BytesIO(content)).load()
    return found
