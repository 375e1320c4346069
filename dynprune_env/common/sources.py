"""Hashes of the source code that decides numbers: this package's, and that of a user's own."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PACKAGES = {"dynprune_env": "report", "dynprune_agents": "cli"}
"""The packages of this distribution, each with its folder that decides no number."""

ABSENT = "absent"
"""Stands for the hash of a module that is not to be found."""

_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


@cache
def package_hash() -> str:
    """Hash of the sources of this distribution that decide numbers, as they were at first."""
    found: list[tuple[str, Path]] = []
    for name, folder in PACKAGES.items():
        for root in _folders(name):
            files = (
                path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != folder
            )
            found += [(f"{name}/{path.relative_to(root).as_posix()}", path) for path in files]
    return _short(f"{name} {hash_file(path)}" for name, path in sorted(found))


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


@cache
def _file_hash(path: Path, changed: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Hash of a file's bytes."""
    status = path.stat()
    return _file_hash(path, status.st_mtime_ns, status.st_size)


def _short(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def own_sources(things: Iterable[Any], modules: Iterable[str] = ()) -> dict[str, str]:
    """Hashes of the user's own modules behind some classes and functions.

    Of a class all its bases count. From each module the search goes on to what it imports, at its
    top or within a function, and to what was loaded from the same folder (of a package: from the
    whole package). The standard library, installed packages and this distribution are left out.

    A module that is loaded has the hash that its file had when it was first asked for: an edit
    that comes later does not change the code that runs.

    Args:
        things: classes, functions, `functools.partial`s.
        modules: names of further modules.

    Returns:
        A hash for each module's name; for what was typed at a prompt or in a notebook, that of its
        byte code.
    """
    found: dict[str, str] = {}
    waiting: list[str] = list(modules)
    loaded = _Loaded()
    for thing in things:
        for each in _with_bases(thing):
            name = getattr(each, "__module__", None) or ""
            if name == "__main__" and _file(name) is None:
                found[f"__main__:{each.__qualname__}"] = _short(_byte_code(each))
            else:
                waiting.append(name)
    while waiting:
        name = waiting.pop()
        path = None if name in found else _own_file(name)
        if path is None:
            continue
        found[name] = module_hash(name)
        waiting += _imported(name, path)
        waiting += loaded.beside(name, path)
    return dict(sorted(found.items()))


def module_hash(name: str) -> str:
    """Hash of a module's source file, `ABSENT` if there is none; see `own_sources`."""
    module = sys.modules.get(name)
    path = _file(name)
    if path is None:
        return ABSENT
    if module is None:
        return hash_file(path)
    spec = getattr(module, "__spec__", None) or module
    known = _as_loaded.get(name)
    if known is None or known[0] is not spec:  # a reload makes a new spec
        known = _as_loaded[name] = (spec, hash_file(path))
    return known[1]


_as_loaded: dict[str, tuple[ModuleSpec | Any, str]] = {}


def _with_bases(thing: Any) -> Iterator[Any]:
    while isinstance(thing, functools.partial):
        thing = thing.func
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if not (isinstance(thing, type) or inspect.isroutine(thing)):
        thing = type(thing)
    yield from thing.__mro__ if isinstance(thing, type) else (thing,)


def _byte_code(thing: Any) -> Iterator[str]:
    """The code of a function, or of all functions of a class, however deeply nested."""
    if isinstance(thing, type):
        for name, value in sorted(vars(thing).items()):
            if not name.startswith("__weakref"):
                yield name
                yield from _byte_code(value)
    elif isinstance(thing, CodeType):
        yield f"{thing.co_code.hex()} {thing.co_names}"
        for constant in thing.co_consts:
            yield from _byte_code(constant)
    elif code := getattr(inspect.unwrap(thing) if callable(thing) else thing, "__code__", None):
        yield from _byte_code(code)
    elif isinstance(thing, bool | int | float | str | bytes | tuple | type(None)):
        yield repr(thing)


def _file(name: str) -> Path | None:
    """The source file of a module, loaded or not; nothing is imported to find it."""
    module = sys.modules.get(name)
    parent, _, leaf = name.rpartition(".")
    if module is not None:
        path = _source(getattr(module, "__file__", None) or "")
        return path if path and path.is_file() else None
    if parent:
        package = _file(parent)
        if package is None or package.name != "__init__.py":
            return None
        places = (package.parent / f"{leaf}.py", package.parent / leaf / "__init__.py")
        return next((place for place in places if place.is_file()), None)
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return _source(spec.origin) if spec and spec.origin else None


@cache
def _source(origin: str) -> Path | None:
    return Path(origin).resolve() if origin.endswith(".py") else None


def _own_file(name: str) -> Path | None:
    """The source file of a module of the user's own, None for any other module."""
    top = name.partition(".")[0]
    if not top or top in PACKAGES or (top in sys.stdlib_module_names and top != "__main__"):
        return None
    path = _file(name)
    return path if path is not None and _is_own(path) else None


@cache
def _is_own(path: Path) -> bool:
    if any(part in _INSTALLED for part in path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _STANDARD)


def _imported(name: str, path: Path) -> tuple[str, ...]:
    """Names of what a module's source imports; some may be no modules."""
    package = getattr(sys.modules.get(name), "__package__", None)
    if package is None:
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    status = path.stat()
    return _imports_of(path, package, status.st_mtime_ns, status.st_size)


@cache
def _imports_of(path: Path, package: str, changed: int, size: int) -> tuple[str, ...]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # edited to pieces since it was loaded
        return ()
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (name for each in node.names for name in _with_parents(each.name))
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            found += (*_with_parents(base), *(f"{base}.{each.name}" for each in node.names))
    return tuple(dict.fromkeys(found))


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


_folder_of: dict[str, tuple[ModuleType | Any, str | None]] = {}
"""By name a module that was seen, and its folder, None unless it is of the user's own."""


def _own_folder(name: str, module: ModuleType | Any) -> str | None:
    """The folder of a loaded module of the user's own; None for any other module."""
    known = _folder_of.get(name)
    if known is None or known[0] is not module:
        origin = getattr(module, "__file__", None)
        path = _source(origin) if isinstance(origin, str) else None
        known = module, str(path.parent) if path and _is_own(path) else None
        _folder_of[name] = known
    return known[1]


class _Loaded:
    """What is loaded now of the user's own, by package and by folder; looked up once, if needed."""

    @cached_property
    def _places(self) -> dict[str, list[str]]:
        places: dict[str, list[str]] = {}
        for name, module in list(sys.modules.items()):
            # What calls this is left out, unless it holds the thing itself.
            if name != "__main__" and (folder := _own_folder(name, module)):
                places.setdefault(name.partition(".")[0], []).append(name)
                places.setdefault(folder, []).append(name)
        return places

    def beside(self, name: str, path: Path) -> list[str]:
        """Of the same package, or beside a module that is in none, of the same folder."""
        top = name.partition(".")[0]
        is_package = hasattr(sys.modules.get(top), "__path__")
        return self._places.get(top if is_package else str(path.parent), [])
