"""All that a module holds: its tensors by name, its plain attributes, and what is neither.

A module's `state_dict` leaves out buffers that are not persistent, and whatever a forward pass
keeps in attributes: the next epoch may depend on both.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import types
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

_ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
_BUILT_IN = frozenset(vars(nn.Module()))
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_DRAWING = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)  # in evaluation mode too
_DROPPING = (_DropoutNd, nn.RReLU, nn.RNNBase, nn.MultiheadAttention, *_DRAWING)  # in training
_STILL = ("torch.nn.modules", "torchvision.models.resnet", "dynprune_env")
Table = dict[str, Any]
"""What holds a module's parameters, buffers or attributes by name."""


@torch.no_grad()
def module_state(model: nn.Module, made: dict[str, str]) -> dict[str, Any]:
    """Everything that a module's next passes depend on: copies that a weights-only file can hold.

    All tensors are on the host, whatever the device, so that any machine can read the file.

    Args:
        model: on any device.
        made: its `others` when it was made.

    Raises:
        ValueError: an attribute that is not plain has changed since; the message names it.
    """
    now, copied, host = others(model), dict[int, Any](), torch.device("cpu")
    for name, found in now.items():
        if made.get(name) != found:
            raise ValueError(_refusal(model, name))
    plain = {name: table[key] for name, table, key in _attributes(model) if name not in now}
    return {
        "tensors": {
            name: _copied(table[key], copied, host) for name, table, key in _tensors(model)
        },
        "trainable": {name: p.requires_grad for name, p in model.named_parameters()},
        "attributes": {name: _copied(value, copied, host) for name, value in plain.items()},
        "moved": [name for name, value in plain.items() if not _on_cpu(value)],
        "others": sorted(now),
    }


@torch.no_grad()
def load_module_state(model: nn.Module, state: dict[str, Any], device: torch.device) -> None:
    """Gives a module, made anew from the seed of the saved one, what `module_state` gave.

    Args:
        model: changed in place.
        state: stays as it is.
        device: where buffers go, and attributes that were not on the CPU.
    """
    tables = {name: (table, key) for name, table, key in _tensors(model)}
    for name, saved in state["tensors"].items():
        path, _, key = name.rpartition(".")
        table, _ = tables.pop(name, (model.get_submodule(path)._buffers, key))
        if _alike(table.get(key), saved):
            table[key].copy_(saved)
        else:  # a forward pass has given it another shape, or registered it
            table[key] = None if saved is None else saved.clone().to(device)
    for table, key in tables.values():  # a forward pass has deleted it
        del table[key]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(state["trainable"][name])
    for name, table, key in list(_attributes(model)):
        if name not in state["attributes"] and name not in state["others"]:
            del table[key]
    copied: dict[int, Any] = {}
    for name, value in state["attributes"].items():
        path, _, key = name.rpartition(".")
        where = device if name in state["moved"] else None
        vars(model.get_submodule(path))[key] = _copied(value, copied, where)


def others(model: nn.Module) -> dict[str, str]:
    """A fingerprint of each attribute that is not plain: what `module_state` cannot hold."""
    names = _registered(model)
    return {
        name: _fingerprint(table[key], names)
        for name, table, key in _attributes(model)
        if not _is_plain(table[key], names)
    }


def with_own_state(model: nn.Module) -> nn.Module:
    """The same module with its own copies of buffers and plain attributes.

    What its factory keeps (a tensor of constants, a default list) is then never written to.
    """
    copied: dict[int, Any] = {}
    held = [(table, key) for _, table, key in _tensors(model) if _has_memory(table[key])]
    users = Counter(_address(table[key]) for table, key in held)
    for table, key in held:
        tensor = table[key]
        alone = users[_address(tensor)] == 1 and tensor.untyped_storage().nbytes() == tensor.nbytes
        if alone and not isinstance(tensor, nn.Parameter) and isinstance(table, dict):
            table[key] = _copied(tensor, copied)
    names = _registered(model)
    for _, table, key in list(_attributes(model)):
        if _is_plain(table[key], names):
            table[key] = _copied(table[key], copied)
    return model


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy; tensors that came out of a pass, which torch does not copy, lose its graph."""
    names = _registered(model)
    kept = [table[key] for _, table, key in _attributes(model) if _is_plain(table[key], names)]
    kept += [table[key] for _, table, key in _tensors(model)]
    grown = [tensor for value in kept for tensor in _inside(value) if tensor.grad_fn is not None]
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in grown})


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Puts a module's buffers and plain attributes back as they were."""
    names, copied = _registered(model), dict[int, Any]()
    parameters = {id(parameter) for parameter in model.parameters()}
    buffers = [
        (table, key, table[key], _copied(table[key], copied))
        for _, table, key in _tensors(model)
        if id(table[key]) not in parameters
    ]
    attributes = {
        name: (table, key, _copied(table[key], copied))
        for name, table, key in _attributes(model)
        if _is_plain(table[key], names)
    }
    try:
        yield
    finally:
        for table, key, tensor, saved in buffers:
            if _alike(tensor, saved):
                tensor.data.copy_(saved)
            table[key] = tensor
        for name, table, key in list(_attributes(model)):
            if name not in attributes and _is_plain(table[key], names):
                del table[key]
        for table, key, value in attributes.values():
            table[key] = value


def is_own(model: nn.Module) -> bool:
    """Whether a part of it may keep a state where torch keeps none, or draw in evaluation mode."""
    known = ("torch", "torchvision", "dynprune_env")
    return not all(
        _is_from(part, *known) and not is_changed(part) and not isinstance(part, _DRAWING)
        for part in model.modules()
    )


def draws_in_training(model: nn.Module) -> bool:
    """Whether a part of it may draw in training mode: all but those that are known not to."""
    return is_own(model) or not all(
        type(part).__module__.startswith(_STILL) and not isinstance(part, _DROPPING)
        for part in model.modules()
    )


def is_changed(module: nn.Module) -> bool:
    """Whether somebody has given it hooks or a forward pass of its own."""
    hooks = (value for name, value in vars(module).items() if name.endswith("_hooks"))
    return "forward" in vars(module) or any(map(len, hooks))


class NewModels:
    """The models that a function has made, each of which must be a new one."""

    def __init__(self) -> None:
        self._parts: WeakSet[nn.Module] = WeakSet()

    def add(self, model: nn.Module) -> None:
        """Takes in the model just made.

        Raises:
            ValueError: it shares parameters, or parts that can hold a state, with one before.
        """
        parts = [
            part
            for part in model.modules()  # a ReLU or a Dropout may be anybody's
            if part._parameters or part._buffers or not _is_from(part, "torch")
        ]
        taken = {place for part in self._parts for place in _places(part)}
        if any(part in self._parts or not taken.isdisjoint(_places(part)) for part in parts):
            raise ValueError(
                f"the function that makes the model ({type(model).__name__}) must build a new one "
                "at every call, got modules of two calls that share parameters or parts"
            )
        self._parts.update(parts)


def _places(part: nn.Module) -> Iterator[Any]:
    """What a part's own parameters are, and where they lie."""
    for parameter in part._parameters.values():
        if parameter is not None:
            yield id(parameter)
            if _has_memory(parameter) and parameter.numel():
                yield _address(parameter)


def _is_from(module: nn.Module, *packages: str) -> bool:
    return type(module).__module__.partition(".")[0] in packages


def move_into(model: nn.Module, old: nn.Module) -> bool:
    """Puts a fresh module's tensors where those of the module lie that it replaces.

    Recorded and compiled graphs know addresses: they need not be made again.

    Returns:
        Whether all of them lie there now.
    """
    places, all_of_them = {name: table[key] for name, table, key in _tensors(old)}, True
    for name, table, key in _tensors(model):
        tensor, place = table[key], places.get(name)
        if place is not None and _alike(tensor, place) and tensor.stride() == place.stride():
            place.data.copy_(tensor.data)
            tensor.data = place.data
        else:
            all_of_them &= tensor is None and place is None
    return all_of_them


def _tensors(model: nn.Module) -> Iterator[tuple[str, Table, str]]:
    """(full name, table that holds it, key) of parameters and buffers, None ones included."""
    for path, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            for key in list(table):
                yield f"{path}.{key}".lstrip("."), table, key


def _attributes(model: nn.Module) -> Iterator[tuple[str, Table, str]]:
    """(full name, table that holds it, key) of all that is set on modules beside torch's own."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # keeps its attributes elsewhere
            continue
        for key in list(vars(module)):
            if key not in _BUILT_IN:
                yield f"{path}.{key}".lstrip("."), vars(module), key


def _registered(model: nn.Module) -> dict[int, str]:
    """Names of modules, parameters and buffers by their identity."""
    names = {id(module): f"module {path}" for path, module in model.named_modules()}
    for name, table, key in _tensors(model):
        if table[key] is not None:
            names[id(table[key])] = name
    return names


def _is_plain(value: Any, names: dict[int, str]) -> bool:
    """Whether it consists of what a weights-only file holds, and not of parts of the module."""
    try:
        if id(value) in names:
            return False
        if type(value) in (list, tuple):
            return all(_is_plain(each, names) for each in value)
        if type(value) is dict:
            return all(_is_plain(each, names) for pair in value.items() for each in pair)
        return type(value) in (Tensor, *_ATOMS)
    except RecursionError:  # it contains itself
        return False


def _inside(value: Any) -> Iterator[Tensor]:
    """The tensors in a plain value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _inside(each)


def _copied(value: Any, copied: dict[int, Any], device: torch.device | None = None) -> Any:
    """A deep copy of a plain value, without gradients; what was one object stays one."""
    if id(value) in copied:
        return copied[id(value)]
    new = value
    if isinstance(value, Tensor):
        new = value.detach().clone().to(device or value.device)
        if value.is_leaf and not isinstance(value, nn.Parameter):
            new.requires_grad_(value.requires_grad)
    elif type(value) is dict:
        new = {_copied(k, copied, device): _copied(v, copied, device) for k, v in value.items()}
    elif type(value) in (list, tuple):
        new = type(value)(_copied(each, copied, device) for each in value)
    copied[id(value)] = new
    return new


def _on_cpu(value: Any) -> bool:
    return all(tensor.device.type == "cpu" for tensor in _inside(value))


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether one can be copied into the other as it is."""
    if one is None or other is None or not (_has_memory(one) and _has_memory(other)):
        return False
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def _has_memory(tensor: Tensor | None) -> bool:
    return tensor is not None and not is_lazy(tensor) and tensor.layout is torch.strided


def _address(tensor: Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()


class _Printer(pickle.Pickler):
    """Pickles a value, but for parts of the module and for code: these by their names."""

    def __init__(self, file: io.BytesIO, names: dict[int, str]):
        super().__init__(file)
        self.names = names

    def persistent_id(self, value: Any) -> Any:
        """What stands for a value; None if it is to be pickled."""
        if id(value) in self.names:
            return self.names[id(value)]
        if isinstance(value, _NAMED):
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"
        if isinstance(value, torch.Generator):
            return value.get_state().tolist()
        return None


def _fingerprint(value: Any, names: dict[int, str]) -> str:
    """The same for a value as long as nothing in it changes."""
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that iterators will not be pickled in future
            _Printer(file, names).dump(value)
    except Exception:  # whatever an object raises that cannot be pickled, such as a lock
        # An iterator moves on unseen; of any other object this is all that can be known.
        return f"{id(value)} {uuid.uuid4() if hasattr(value, '__next__') else ''}"
    return hashlib.sha256(file.getvalue()).hexdigest()


def _refusal(model: nn.Module, name: str) -> str:
    path, _, key = name.rpartition(".")
    module = model.get_submodule(path)
    return (
        f"the state of {type(module).__name__} cannot be saved: its attribute {key!r} "
        f"({type(vars(module)[key]).__name__}) has changed since it was made; what a forward pass "
        "changes is kept in buffers, or in attributes of numbers, strings, tensors, and lists, "
        "tuples or dicts of them"
    )
