"""What decided a run's numbers besides its configuration: code, policies, data, engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from dynprune_env.common.sources import module_hash

DECIDED_BY_USER = ("code", "policy", "data")
"""The parts that a user changes: a result that another one made is played again."""


@dataclass(frozen=True)
class Fingerprint:
    """Hashes and names of what decides the numbers of a run.

    Attributes:
        package: of the sources of this distribution, but for its reports and its command line.
        code: of each module of the user's own behind the agent and the task; see `own_sources`.
        policy: of the bytes of each policy file that the agent plays.
        data: of the data set as the run sees it; "" if it is not at hand.
        engine: `device` ("cpu", "cuda"), `precision` ("float32", "bf16"), `threads` and `numba`.
    """

    package: str
    code: dict[str, str] = field(default_factory=dict)
    policy: dict[str, str] = field(default_factory=dict)
    data: str = ""
    engine: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One thing in which two fingerprints differ.

    Attributes:
        part: "package", "code", "policy", "data" or "engine".
        what: what of it, for people to read.
    """

    part: str
    what: str


def differences(recorded: Fingerprint | None, now: Fingerprint) -> list[Difference]:
    """What is different now from what was recorded; unknown parts are no difference.

    A module that was recorded and that `now` does not name is hashed as it lies there now.
    """
    if recorded is None:
        return [Difference("package", "made before fingerprints were kept")]
    found = []
    if recorded.package != now.package:
        found.append(Difference("package", "another version of dynprune"))
    for name, old in recorded.code.items():
        if old != (now.code.get(name) or module_hash(name)):
            found.append(Difference("code", f"the code of {name}"))
    for name in sorted({*recorded.policy, *now.policy}):
        if recorded.policy.get(name) != now.policy.get(name):
            found.append(Difference("policy", f"the policy file {name}"))
    if recorded.data and now.data and recorded.data != now.data:
        found.append(Difference("data", "the data"))
    for name in sorted({*recorded.engine, *now.engine}):
        old_kind, new_kind = recorded.engine.get(name), now.engine.get(name)
        if old_kind != new_kind:
            found.append(Difference("engine", f"{name}: {old_kind} then, {new_kind} now"))
    return found


def mixed_parts(made_by: Iterable[Fingerprint | None]) -> tuple[str, ...]:
    """The parts in which some fingerprints differ, where known; () if they agree."""
    known: dict[str, dict[str, set[Any]]] = {}
    unknown = False
    for each in made_by:
        if each is None:
            unknown = True
            continue
        for part, value in asdict(each).items():
            names = value if isinstance(value, dict) else {"": value}
            for name, one in names.items():
                known.setdefault(part, {}).setdefault(name, set()).add(one)
    found = [
        part
        for part, names in known.items()
        if any(len(values - {""}) > 1 for values in names.values())
    ]
    if unknown and known and "package" not in found:
        found.insert(0, "package")
    return tuple(found)
