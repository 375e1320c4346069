"""Values as plain things that `torch.load(weights_only=True)` opens: no code lies in them."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynprune_env.common.plain_kinds import PUT_TOGETHER, TAKE_APART
from dynprune_env.common.restorable import class_name, described, find_class

LEAVES = (type(None), bool, int, float, str)
"""Kept as they are; everything else becomes a dict that says its type."""

NATIVE = {
    np.dtype(name) for name in ("bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16")
}
"""Types of arrays that are kept as tensors; those of others are kept as bytes."""

FACTORIES = {kind.__name__: kind for kind in (bool, int, float, str, list, dict, set, tuple)}
"""What a defaultdict may make."""


class Packer:
    """Turns values into plain things: None, numbers, strings, lists, dicts and tensors, all copies.

    A thing that is met twice is kept once, so that what shares it still does. Besides arrays,
    tensors, generators and Python's containers it knows instances of `restorable` classes, and of
    such classes of `modules` as hold nothing but attributes.

    Args:
        modules: names of modules whose classes may be met.
    """

    def __init__(self, modules: Iterable[str] = ()):
        self.modules = set(modules)
        self._nodes: dict[int, dict[str, Any]] = {}
        self._met: list[Any] = []  # kept alive, since a freed thing's id may be given again
        self._shared = 0

    def pack(self, value: Any, where: str) -> Any:
        """The value as a plain thing.

        Args:
            value: what to keep.
            where: its name, for the message.

        Raises:
            TypeError: it cannot be, or something in it; the message says what and where.
        """
        if type(value) in LEAVES:
            return value
        node = self._nodes.get(id(value))
        if node is None:
            node = self._nodes[id(value)] = {}
            self._met.append(value)
            node.update(self.content(value, where))
            return node
        if not node and isinstance(value, tuple | frozenset):
            raise TypeError(f"{where} holds itself")
        if "id" not in node:
            node["id"] = self._shared
            self._shared += 1
        return {"type": "again", "id": node["id"]}

    def content(self, value: Any, where: str) -> dict[str, Any]:
        """What the dict of a value holds."""
        kind = type(value)
        if isinstance(value, np.generic) or kind in (np.ndarray, np.memmap):
            return self._array(np.asarray(value), where, isinstance(value, np.generic))
        if kind in TAKE_APART:
            name, parts = TAKE_APART[kind]
            return {"type": name, **{k: self.pack(v, where) for k, v in parts(value).items()}}
        if kind in (list, tuple, set, frozenset, deque):
            found = {"items": [self.pack(v, f"{where}[{i}]") for i, v in enumerate(value)]}
            more = {"maxlen": value.maxlen} if kind is deque else {}
            return {"type": kind.__name__, **found, **more}
        if kind in (dict, OrderedDict, Counter, defaultdict):
            return {"type": kind.__name__, **self._pairs(value, where)}
        if kind in (torch.Tensor, torch.nn.Parameter):
            data, grad = value.detach().cpu().clone(), value.requires_grad
            return {"type": kind.__name__, "data": data, "grad": grad, "on": str(value.device)}
        if find_class(class_name(kind), self.modules) is kind:
            if isinstance(value, tuple):
                items: Any = [self.pack(v, f"{where}[{i}]") for i, v in enumerate(value)]
            else:
                items = self.attributes(vars(value), where)
            return {"type": "object", "class": class_name(kind), "parts": items}
        raise TypeError(f"{where} is {described(kind)}, which is no plain value")

    def attributes(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Named values, plain each."""
        return {name: self.pack(value, f"{where}.{name}") for name, value in values.items()}

    def _pairs(self, value: dict[Any, Any], where: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if isinstance(value, defaultdict):
            factory = value.default_factory
            name = getattr(factory, "__name__", None)
            if factory is not None and FACTORIES.get(str(name)) is not factory:
                raise TypeError(f"{where} is a defaultdict of {factory}, which is no plain value")
            found["factory"] = name
        found["keys"] = [self.pack(key, f"a key of {where}") for key in value]
        found["values"] = [self.pack(each, f"{where}[{key!r}]") for key, each in value.items()]
        return found

    def _array(self, value: np.ndarray, where: str, scalar: bool) -> dict[str, Any]:
        node: dict[str, Any] = {"type": "scalar" if scalar else "array"}
        if value.dtype == object:
            items = [self.pack(each, where) for each in value.ravel().tolist()]
            return {**node, "dtype": "object", "shape": value.shape, "data": items}
        if value.dtype.hasobject:
            raise TypeError(f"{where} is an array of {value.dtype}, which is no plain value")
        # Sums depend on how an array lies in memory: its axes are kept in that order.
        axes = sorted(range(value.ndim), key=lambda axis: -abs(value.strides[axis]))
        lying = np.array(value.transpose(axes), order="C")
        if lying.dtype in NATIVE and lying.dtype.isnative:
            return {**node, "axes": axes, "data": torch.from_numpy(lying)}
        dtype = np.lib.format.dtype_to_descr(lying.dtype)
        data = torch.from_numpy(np.frombuffer(lying.tobytes(), dtype=np.uint8).copy())
        return {**node, "axes": axes, "dtype": dtype, "shape": lying.shape, "data": data}


class Unpacker:
    """Makes values again of what a `Packer` gave; nothing is imported, and no pickle opened.

    Args:
        modules: names of modules whose classes may be made.
    """

    def __init__(self, modules: Iterable[str] = ()):
        self.modules = set(modules)
        self._made: dict[int, Any] = {}

    def unpack(self, node: Any, held: Any = None) -> Any:
        """The value.

        Args:
            node: from a `Packer`.
            held: what stands in its place now.

        Raises:
            ValueError, TypeError, LookupError, AttributeError, RuntimeError: it is damaged, or
                from elsewhere.
        """
        if type(node) in LEAVES:
            return node
        if type(node) is not dict or "type" not in node:
            raise ValueError(f"expected a value with its type, got {str(node)[:40]!r}")
        if node["type"] == "again":
            return self._made[node["id"]]
        return self.value(node, held)

    def value(self, node: dict[str, Any], held: Any) -> Any:
        """The value of a dict that says its type."""
        kind = node["type"]
        if kind in ("array", "scalar"):
            return self.made(node, self._array(node))
        if kind in ("list", "tuple", "set", "frozenset", "deque"):
            return self._items(node, kind, held)
        if kind in ("dict", "OrderedDict", "Counter", "defaultdict"):
            return self._pairs(node, kind, held)
        if kind in ("Tensor", "Parameter"):
            data = node["data"].clone().to(node["on"])
            if kind == "Parameter":
                return self.made(node, torch.nn.Parameter(data, node["grad"]))
            return self.made(node, data.requires_grad_(node["grad"]))
        if kind == "object":
            return self._object(node, held)
        if kind in PUT_TOGETHER:
            parts = {name: part for name, part in node.items() if name not in ("type", "id")}
            return self.made(
                node, PUT_TOGETHER[kind](**{k: self.unpack(v) for k, v in parts.items()})
            )
        raise ValueError(f"there is no type {str(kind)[:40]!r}")

    def made(self, node: dict[str, Any], value: Any) -> Any:
        """The value, which other places may share."""
        if "id" in node:
            self._made[node["id"]] = value
        return value

    def attributes(self, nodes: dict[str, Any], held: Any) -> dict[str, Any]:
        """Named values again."""
        if type(nodes) is not dict or not all(type(name) is str for name in nodes):
            raise ValueError("expected attributes by their names")
        now = getattr(held, "__dict__", {})
        return {name: self.unpack(node, now.get(name)) for name, node in nodes.items()}

    def _items(self, node: dict[str, Any], kind: str, held: Any) -> Any:
        items = node["items"]
        now = held if isinstance(held, list | tuple) and len(held) == len(items) else None
        pairs = zip(items, now or [None] * len(items), strict=True)
        values = (self.unpack(item, each) for item, each in pairs)
        if kind in ("tuple", "frozenset"):
            return self.made(node, tuple(values) if kind == "tuple" else frozenset(values))
        # Made before it is filled: it may hold itself.
        if kind == "set":
            found: Any = self.made(node, set())
            found.update(values)
        else:
            found = self.made(node, deque(maxlen=node["maxlen"]) if kind == "deque" else [])
            found.extend(values)
        return found

    def _pairs(self, node: dict[str, Any], kind: str, held: Any) -> Any:
        empty: dict[str, Callable[[], Any]] = {
            "dict": dict,
            "OrderedDict": OrderedDict,
            "Counter": Counter,
            "defaultdict": lambda: defaultdict(
                None if node["factory"] is None else FACTORIES[node["factory"]]
            ),
        }
        found = self.made(node, empty[kind]())
        now = held if isinstance(held, dict) else {}
        for key, value in zip(node["keys"], node["values"], strict=True):
            name = self.unpack(key)
            found[name] = self.unpack(value, now.get(name))
        return found

    def _object(self, node: dict[str, Any], held: Any) -> Any:
        cls = find_class(node["class"], self.modules)
        if cls is None:
            raise ValueError(f"there is no class {str(node['class'])[:80]!r} to make")
        parts = node["parts"]
        if issubclass(cls, tuple):
            return self.made(node, tuple.__new__(cls, [self.unpack(each) for each in parts]))
        found = self.made(node, object.__new__(cls))
        vars(found).update(self.attributes(parts, held))
        return found

    def _array(self, node: dict[str, Any]) -> Any:
        data = node["data"]
        if node.get("dtype") == "object":
            array = np.empty(int(np.prod(node["shape"], dtype=int)), dtype=object)
            for place, item in enumerate(data):
                array[place] = self.unpack(item)
            return array.reshape(node["shape"])
        array = data.cpu().numpy().copy()
        if "dtype" in node:
            dtype = np.lib.format.descr_to_dtype(node["dtype"])
            array = np.frombuffer(array.tobytes(), dtype).reshape(node["shape"]).copy()
        array = array.transpose(np.argsort(node["axes"]))
        return array[()] if node["type"] == "scalar" else array


class PlainDigest:
    """Of plain things, part by part: another one if anything in them is missing or different."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=8)

    def copy(self) -> PlainDigest:
        """One that goes on from here alone."""
        other = PlainDigest()
        other._digest = self._digest.copy()
        return other

    def begin(self, kind: type, length: int) -> None:
        """Begins a container, whose `length` parts are added next: pairs where it is a dict."""
        self._digest.update(f"{kind.__name__}{length};".encode())

    def add(self, node: Any) -> None:
        """Goes on with a whole thing."""
        if isinstance(node, torch.Tensor):
            self._digest.update(f"{node.dtype}{tuple(node.shape)}".encode())
            if node.numel():
                flat = node.detach().cpu().contiguous().reshape(-1)
                self._digest.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(node, dict | list | tuple):
            self.begin(type(node), len(node))
            for part in node.items() if isinstance(node, dict) else node:
                self.add(part)
        else:
            self._digest.update(f"{type(node).__name__}{node!r};".encode())

    def text(self) -> str:
        """Of all so far."""
        return self._digest.hexdigest()


def plain_hash(tree: Any) -> str:
    """Of plain things: another one if anything in them is missing or different."""
    digest = PlainDigest()
    digest.add(tree)
    return digest.text()


def read_plain(path: str | Path) -> dict[str, Any]:
    """A file of plain things, on the CPU.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, or is damaged.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles, which are refused
            found = torch.load(content, weights_only=True, map_location="cpu")
    except Exception as error:
        raise ValueError(f"{path} is damaged, or no file that was saved here") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {described(type(found))}, not a state")
    return found
