"""What runs need on another machine: the user's modules, and the files that agents name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.identity import code_behind, files_of, with_parts
from dynprune_env.common.luggage import Luggage
from dynprune_env.common.registration import import_all, split_id
from dynprune_env.common.sources import PACKAGES, own_sources
from dynprune_env.common.specs import parse_spec
from dynprune_env.envs.settings import settings_of
from dynprune_env.selection.agent import SelectionAgent

logger = logging.getLogger(__name__)


def pack(
    groups: Sequence[RunGroup],
    make_agent: Callable[[str], SelectionAgent],
    imports: Sequence[str] = (),
) -> Luggage:
    """The modules behind agents and tasks with the packages around them, and policy files.

    Args:
        groups: what is to be run.
        make_agent: makes an agent from its spec.
        imports: modules that register tasks.

    Raises:
        ValueError: one of the imports cannot be imported, or it is too much.
    """
    imports = list(dict.fromkeys([*imports, *(m for g in groups for m in split_id(g.env)[0])]))
    import_all(imports)
    things: list[Any] = [make_agent]
    files: set[Path] = set()
    for spec in sorted({group.agent for group in groups}):
        files.update(_named_files(spec))
        try:
            for agent in with_parts(make_agent(spec)):
                things.append(type(agent))
                files.update(files_of(agent))
        except Exception as error:  # the worker will say so, and keep book of it
            logger.debug("%s cannot be made here: %s", spec, error)
    for group in groups:
        try:
            for each in code_behind(settings_of(group.env, group.env_kwargs)):
                things.append(each)
        except Exception as error:  # likewise
            logger.debug("%s cannot be made here: %s", group.env, error)
    own = list(own_sources(things, imports))
    # All that is loaded here, so that what a process played before decides no fingerprint.
    loaded = [*imports, *(name for name in own if name in sys.modules and name != "__main__")]
    files = {path for path in files if not _installed(path)}
    return Luggage.of(own, required=imports, loaded=loaded, files=files)


def _named_files(value: Any) -> Iterator[Path]:
    """Files among the arguments of a spec, and of specs among its arguments."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        for each in value:
            yield from _named_files(each)
    if not isinstance(value, str):
        return
    try:
        if Path(value).is_file():
            yield Path(value)
        yield from _named_files(parse_spec(value)[1])
    except (ValueError, OSError):  # no spec, or no path
        return


def _installed(path: Path) -> bool:
    """Whether a file comes with this distribution, on every machine."""
    specs = [find_spec(name) for name in PACKAGES]
    folders = [f for spec in specs if spec for f in spec.submodule_search_locations or ()]
    return any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)
