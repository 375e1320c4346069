"""Files of this machine that travel with a call to another one: a user's modules, policy files."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from filecmp import cmp
from functools import cached_property
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path

from dynprune_env.common.registration import import_all
from dynprune_env.common.scratch import scratch_folder

logger = logging.getLogger(__name__)
MOST_BYTES = 500_000_000
_LISTING = "listing.json"
_SKIPPED = ("__pycache__", ".git")
_unpacked: set[str] = set()
_stand_ins: dict[str, Path] = {}


@dataclass(frozen=True)
class Luggage:
    """What travels.

    Attributes:
        modules: files of modules by their place below a folder of `sys.path`,
            e.g. "mine/agents.py".
        loaded: names of the modules that are imported at once where it is unpacked, if they can.
        required: those that have to.
        files: other files, by their paths as the caller spells them.
    """

    modules: dict[str, Path]
    loaded: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        *,
        loaded: Sequence[str] = (),
        required: Sequence[str] = (),
        files: Iterable[Path] = (),
    ) -> Luggage:
        """Modules with the packages around them, and files.

        Args:
            names: of modules that are not installed elsewhere.
            loaded: see `Luggage`.
            required: see `Luggage`.
            files: paths, absolute or from the working directory on.

        Raises:
            ValueError: it is more than 500 MB.
        """
        modules = {
            str(path.relative_to(root)): path
            for root, top in _tops(names)
            for path in ([top] if top.is_file() else sorted(top.rglob("*")))
            if path.is_file() and not set(_SKIPPED) & set(path.relative_to(root).parts)
        }
        found = cls(modules, tuple(loaded), tuple(required), tuple(sorted(set(files))))
        sizes = {path: path.stat().st_size for path in (*modules.values(), *found.files)}
        if sum(sizes.values()) > MOST_BYTES:
            largest = max(sizes, key=lambda path: sizes[path])
            raise ValueError(
                f"at most {MOST_BYTES / 1e6:.0f} MB of modules and policy files travel to the "
                f"cluster, got {sum(sizes.values()) / 1e6:.0f} MB; the largest is {largest}: keep "
                "data out of the packages of agents and tasks"
            )
        return found

    @cached_property
    def key(self) -> str:
        """Hash of all that travels."""
        return _key(self.packed)

    @cached_property
    def packed(self) -> bytes:
        """As a zip file, the same for the same content."""
        memory = io.BytesIO()
        places = {str(path): f"files/{i}/{path.name}" for i, path in enumerate(self.files)}
        listing = {"loaded": self.loaded, "required": self.required, "files": places}
        contents = {_LISTING: json.dumps(listing).encode()}
        contents |= {f"modules/{place}": path.read_bytes() for place, path in self.modules.items()}
        contents |= {place: Path(spelled).read_bytes() for spelled, place in places.items()}
        with zipfile.ZipFile(memory, "w") as archive:
            for place, content in sorted(contents.items()):
                archive.writestr(zipfile.ZipInfo(place), content, zipfile.ZIP_DEFLATED)
        return memory.getvalue()

    @staticmethod
    def unpack(packed: bytes) -> None:
        """Makes modules importable and `stand_in` find the files, in this process.

        Modules come before any of the same name. For what opens relative paths itself the working
        directory becomes one that holds the files, unless it holds the same ones already.

        Raises:
            ValueError: a module cannot be imported.
        """
        if (key := _key(packed)) in _unpacked:
            return
        root = scratch_folder() / key
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(root)
        listing = json.loads((root / _LISTING).read_text(encoding="utf-8"))
        sys.path.insert(0, str(root / "modules"))
        invalidate_caches()
        for spelled, place in listing["files"].items():
            _stand_ins[spelled] = root / place
        _work_beside(listing["files"], root)
        import_all(listing["required"])
        for name in listing["loaded"]:
            try:
                import_module(name)
            except Exception as error:  # whoever needs it will say so
                logger.debug("%s cannot be imported here: %s", name, error)
        _unpacked.add(key)


def stand_in(path: str | Path) -> Path:
    """The copy of a file that came along from another machine, under the path that it has there.

    Any other path is given back as it is.
    """
    return _stand_ins.get(str(Path(path)), Path(path))


def _key(packed: bytes) -> str:
    return hashlib.sha256(packed).hexdigest()[:16]


def _tops(names: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    """The files or folders of the outermost packages of modules, each behind where it lies."""
    for top in sorted({name.partition(".")[0] for name in names} - {"__main__"}):
        module = sys.modules.get(top)
        spec = getattr(module, "__spec__", None) or find_spec(top)
        if spec is None:
            continue
        folders = spec.submodule_search_locations
        for place in [spec.origin] if folders is None else folders:
            if place and Path(place).exists():
                path = Path(place).absolute()  # a link has the name that is imported
                yield path.parent, path


def _work_beside(files: dict[str, str], root: Path) -> None:
    """Goes where relative paths lead to the files, unless they do so here."""
    relative = {spelled: root / place for spelled, place in files.items()}
    relative = {
        spelled: path
        for spelled, path in relative.items()
        if not os.path.isabs(spelled) and ".." not in Path(spelled).parts
    }
    if all(Path(s).is_file() and cmp(s, path, shallow=False) for s, path in relative.items()):
        return
    for spelled, path in relative.items():
        target = root / "work" / spelled
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    os.chdir(root / "work")
