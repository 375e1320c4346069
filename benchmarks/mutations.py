"""Ways to break a file: its bytes, the values of its JSON, the members of its zip, its lines."""

from __future__ import annotations

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Mutation = Callable[[bytes, np.random.Generator], bytes]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2.5, 10**9, 10**12, 2**63, 10**400, -(10**20)),
    *(1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "nan", "1", "\0", "x" * 10_000, "__import__('os')"),
    *([], {}, [[]], [None], [float("nan")], {"x": 1}, {"": []}, [1] * 1000),
)
"""Values that no file should hold where another is expected."""

TOML_VALUES = (
    *("nan", "inf", "-inf", "1e400", "0", "-1", "1000000000000", "9" * 30, "1.5", "true", "''"),
    *("'x'", "[]", "{}", "[[]]", "['x']", "[1]", "[nan]", "[0.5]", "{ a = 1 }", "[{ a = [1] }]"),
    *("1999-01-01", "[" * 2000, "{a=" * 2000, "'''x'''", "[0.5, 'x']", "", "\ufeff", "0x10"),
)


def some_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, a piece cut out, put in, written over or twice, or the end cut off."""
    data = bytearray(content)
    start = int(rng.integers(len(data) + 1))
    length = int(rng.integers(1, 1 + rng.choice([1, 8, 100])))
    match rng.integers(6):
        case 0:
            for place in rng.integers(len(data), size=length) if data else ():
                data[place] ^= 1 << int(rng.integers(8))
        case 1:
            del data[start:]
        case 2:
            del data[start : start + length]
        case 3:
            data[start:start] = rng.bytes(length)
        case 4:
            data[start : start + length] = bytes([int(rng.choice([0, 0xFF]))]) * length
        case _:
            data[start:start] = data[start : start + length]
    return bytes(data)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value of dicts and lists."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [place for key, each in list(inner) for place in ((value, key), *_places(each))]


def some_value(value: Any, rng: np.random.Generator, hostile: tuple[Any, ...] = HOSTILE) -> Any:
    """A value of dicts and lists of which one part is replaced, lost, renamed, added or moved."""
    changed = copy.deepcopy(value)
    places = _places(changed)
    if not places:
        return hostile[rng.integers(len(hostile))]
    # A place in a list of thousands is as likely as all others: go down level by level instead.
    container, key = places[rng.integers(len(places))]
    if rng.random() < 0.5:
        tables = [place for place in places if isinstance(place[0], dict)] or places
        container, key = tables[rng.integers(len(tables))]
    other, named = places[rng.integers(len(places))]
    match rng.integers(8):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[f"{key}x"] = container.pop(key)
        case 2 if isinstance(container, dict):
            container["unknown"] = hostile[rng.integers(len(hostile))]
        case 3:
            container[key] = copy.deepcopy(other[named])
        case 4:
            container[key] = [container[key]]
        case _:
            container[key] = hostile[rng.integers(len(hostile))]
    return changed


def some_json(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of a JSON text."""
    return json.dumps(some_value(json.loads(content), rng)).encode()


def some_member(content: bytes, rng: np.random.Generator) -> bytes:
    """One member of a zip file: its bytes, its name, its absence; the checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    place = int(rng.integers(len(parts)))
    name, inner = parts[place]
    match rng.integers(6):
        case 0:
            del parts[place]
        case 1:
            parts[place] = (name + "x", inner)
        case 2:
            parts.append((str(rng.choice([name, "more.npy", "../x.npy", "data"])), inner))
        case _:
            parts[place] = (name, some_bytes(inner, rng))
    return _zipped(parts)


def some_head(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of the JSON head of an .npz."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    head = some_value(json.loads(str(arrays["head"])), rng)
    memory = io.BytesIO()
    kept: dict[str, Any] = {**arrays, "head": json.dumps(head)}
    np.savez(memory, **kept)
    return memory.getvalue()


def some_array(content: bytes, rng: np.random.Generator) -> bytes:
    """One array of an .npz: its shape, its type, a number of it."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    name = str(rng.choice([name for name in arrays if name != "head"]))
    value = arrays[name]
    match rng.integers(5):
        case 0:
            value = value.ravel()[: int(rng.integers(value.size + 1))]
        case 1:
            value = value.T[None]
        case 2:
            value = value.astype(str(rng.choice(["f8", "f2", "i4", "?", "U", "c8", ">f4"])))
        case _:
            value = value.copy()
            chosen = rng.choice([np.nan, np.inf, -np.inf, 3e38, 1e30, 1e-45, 1e7])
            value.flat[rng.integers(value.size)] = chosen
    memory = io.BytesIO()
    kept: dict[str, Any] = {**arrays, name: value}
    np.savez(memory, **kept)
    return memory.getvalue()


def some_line(content: bytes, rng: np.random.Generator) -> bytes:
    """One line of a TOML text: another value, another key, twice, or gone."""
    lines = content.decode().splitlines()
    place = int(rng.integers(len(lines)))
    key, _, value = lines[place].partition("=")
    match rng.integers(5):
        case 0:
            del lines[place]
        case 1:
            lines.append(lines[place])
        case 2:
            lines[place] = f"{rng.choice([key + 'x', 'a.' * 50 + 'a', '[x]', '[[x]]'])}={value}"
        case _:
            lines[place] = f"{key}= {rng.choice(TOML_VALUES)}"
    return "\n".join(lines).encode()


def some_state(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of a state that torch saved: another, or a tensor of other numbers or shape."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    places = [(box, key) for box, key in _places(state) if isinstance(box[key], torch.Tensor)]
    if places and rng.random() < 0.5:
        box, key = places[rng.integers(len(places))]
        box[key] = _other_tensor(box[key], rng)
    else:
        tensors = (torch.zeros(0), torch.tensor(float("nan")), torch.ones(3, 3), torch.ones(2, 1))
        state = some_value(state, rng, (*HOSTILE, *tensors))
    memory = io.BytesIO()
    torch.save(state, memory)
    return memory.getvalue()


def _other_tensor(value: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    match rng.integers(6):
        case 0:
            return value.flatten()[: int(rng.integers(value.numel() + 1))]
        case 1:
            return torch.cat([value[None], value[None]])
        case 2:
            kinds = (torch.float64, torch.int64, torch.bool, torch.uint8, torch.float16)
            return value.to(kinds[rng.integers(len(kinds))])
        case _:
            value = value.clone()
            if value.numel():
                numbers = [0, -1, 1e9, 300] + [np.nan, np.inf] * value.is_floating_point()
                limit = 1 if value.dtype in (torch.bool, torch.uint8) else None
                chosen = np.clip(rng.choice(numbers), 0 if limit else None, 255 if limit else None)
                value.view(-1)[int(rng.integers(value.numel()))] = float(chosen)
            return value


def _zipped(parts: list[tuple[str, bytes]]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice is what is wanted
        for name, inner in parts:
            archive.writestr(name, inner)
    return memory.getvalue()
