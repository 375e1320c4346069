"""Values of fixed parts as plain ones: bytes, ranges, the states of random generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import MT19937, PCG64, PCG64DXSM, SFC64, Philox, SeedSequence

BITS = {kind.__name__: kind for kind in (PCG64, PCG64DXSM, MT19937, Philox, SFC64)}


def _seed_sequence(seeds: SeedSequence) -> dict[str, Any]:
    return {
        "entropy": seeds.entropy,
        "spawn_key": seeds.spawn_key,
        "pool_size": seeds.pool_size,
        "n_children_spawned": seeds.n_children_spawned,
    }


def _bits(bits: Any) -> dict[str, Any]:
    seeds = bits.seed_seq
    known = seeds if type(seeds) is SeedSequence else None
    return {"name": type(bits).__name__, "state": bits.state, "seeds": known}


def _bits_again(name: str, state: dict[str, Any], seeds: SeedSequence | None) -> Any:
    bits: Any = BITS[name](seeds or 0)
    bits.state = state
    return bits


def _python_again(state: tuple[Any, ...]) -> random.Random:
    generator = random.Random()
    generator.setstate(state)
    return generator


def _torch_again(device: str, state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator(device)
    generator.set_state(state)
    return generator


TAKE_APART: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    bytes: ("bytes", lambda v: {"data": np.frombuffer(v, dtype=np.uint8)}),
    bytearray: ("bytearray", lambda v: {"data": np.frombuffer(bytes(v), dtype=np.uint8)}),
    complex: ("complex", lambda v: {"real": v.real, "imag": v.imag}),
    range: ("range", lambda v: {"start": v.start, "stop": v.stop, "step": v.step}),
    slice: ("slice", lambda v: {"start": v.start, "stop": v.stop, "step": v.step}),
    SeedSequence: ("seeds", _seed_sequence),
    np.random.Generator: ("generator", lambda v: {"bits": v.bit_generator}),
    np.random.RandomState: ("random_state", lambda v: {"state": v.get_state(legacy=False)}),
    random.Random: ("random", lambda v: {"state": v.getstate()}),
    torch.Generator: ("torch", lambda v: {"device": str(v.device), "state": v.get_state()}),
    **{kind: ("bits", _bits) for kind in BITS.values()},
}


def _random_state_again(state: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState(BITS[state["bit_generator"]](0))
    generator.set_state(state)
    return generator


PUT_TOGETHER: dict[str, Callable[..., Any]] = {
    "bytes": lambda data: data.tobytes(),
    "bytearray": lambda data: bytearray(data.tobytes()),
    "complex": complex,
    "range": lambda start, stop, step: range(start, stop, step),
    "slice": lambda start, stop, step: slice(start, stop, step),
    "seeds": SeedSequence,
    "generator": lambda bits: np.random.Generator(bits),
    "random_state": _random_state_again,
    "random": _python_again,
    "torch": _torch_again,
    "bits": _bits_again,
}
