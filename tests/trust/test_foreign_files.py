"""Policies and sweeps that are broken, or made to hurt, meet one clear error and cost nothing."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import refuse

import dynprune_agents
from dynprune_agents.policies import _archive
from dynprune_agents.policies._files import FOLDER, load_scorer
from dynprune_agents.policies.sb3 import SB3
from dynprune_env.benchmark.sweeps import load_sweep, parse_sweep

POLICIES = ("cautious", "ppo")


def parts(name: str) -> dict[str, np.ndarray]:
    """The members of a shipped policy, `head` among them."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def load(path: Path, name: str) -> Any:
    """Reads a file as the kind of policy that the shipped one of this name is."""
    return load_scorer(str(path)) if name == "cautious" else SB3(str(path)).env_kwargs


def check_refused(path: Path, name: str, match: str = ".") -> None:
    with pytest.raises(ValueError, match=match) as error:
        load(path, name)
    assert path.name in str(error.value)
    assert "dynprune train" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 3000


def check_refused_cheaply(path: Path, name: str, match: str = ".") -> None:
    """Refused before memory is asked for: the peak of this process hardly moves."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_refused(path, name, match)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # kB


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def with_head(path: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A policy whose head was changed; `change` edits it, or returns another."""
    arrays = parts(name)
    head = json.loads(str(arrays["head"]))
    changed = change(head)
    return write(path, {**arrays, "head": json.dumps(head if changed is None else changed)})


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str) -> None:
    whole = (FOLDER / f"{name}.npz").read_bytes()
    path = tmp_path / "x.npz"
    for content in (b"", b"hello", whole[:100], whole[: len(whole) // 2], whole[:-1], whole[50:]):
        path.write_bytes(content)
        check_refused(path, name)
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load(path, name)
        except ValueError as error:
            assert path.name in str(error)


@pytest.mark.parametrize("name", POLICIES)
def test_arrays_that_are_missing_or_too_many_are_refused(tmp_path: Path, name: str) -> None:
    for key in parts(name):
        arrays = parts(name)
        del arrays[key]
        check_refused(write(tmp_path / f"without_{key}.npz", arrays), name)
    check_refused(write(tmp_path / "more.npz", {**parts(name), "more": np.zeros(3)}), name)


@pytest.mark.parametrize("name", POLICIES)
def test_arrays_of_other_shapes_or_kinds_are_refused(tmp_path: Path, name: str) -> None:
    arrays = parts(name)
    key = next(key for key, value in arrays.items() if value.ndim == 2)
    value = arrays[key]
    others = {
        "flat": value.ravel(),
        "turned": value.T,
        "longer": np.concatenate([value, value]),
        "scalar": np.float32(0),
        "empty": value[:0],
        "object": np.array([Path("x")] * value.size, dtype=object).reshape(value.shape),
        "text": value.astype(str),
        "bool": value > 0,
        "complex": value.astype(complex),
        "integer": value.astype(np.int64),
        "record": np.zeros(value.shape, dtype=[("a", "f4")]),
        "big_endian": value.astype(">f4"),
        "nan": np.full_like(value, np.nan),
        "infinite": np.full_like(value, -np.inf),
        "huge": np.full_like(value, 1e30),
        "beyond_float32": np.full(value.shape, 1e300),
    }
    for what, other in others.items():
        check_refused(write(tmp_path / f"{what}.npz", {**arrays, key: other}), name)
    one = value.copy()
    one.flat[-1] = np.nan
    check_refused(write(tmp_path / "one.npz", {**arrays, key: one}), name, "not finite")


@pytest.mark.parametrize("name", POLICIES)
def test_weights_in_another_order_or_of_twice_the_precision_are_read(
    tmp_path: Path, name: str
) -> None:
    arrays = parts(name)
    for change in (np.asfortranarray, np.float64):
        other = {key: value if key == "head" else change(value) for key, value in arrays.items()}
        load(write(tmp_path / f"{change.__name__}.npz", other), name)


HEADS: dict[str, Any] = {
    "number": np.float32(3),
    "bytes": np.array(b"{}"),
    "object": np.array({"a": 1}, dtype=object),
    "list_of_texts": np.array(["{}", "{}"]),
    "no_json": np.array("hello"),
    "nothing": np.array(""),
    "cut": np.array('{"scorer": {"wid'),
    "list": np.array("[]"),
    "null": np.array("null"),
    "empty": np.array("{}"),
    "deep": np.array("[" * 200_000 + "]" * 200_000),
    "deep_inside": np.array('{"sb3": ' + '{"a":' * 100_000 + "1" + "}" * 100_001),
    "nan": np.array('{"scorer": {"width": NaN}}'),
    "twice": np.array('{"scorer": {"width": 1}, "scorer": 3}'),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("what", HEADS)
def test_a_head_that_is_something_else_is_refused(tmp_path: Path, name: str, what: str) -> None:
    check_refused(write(tmp_path / f"{what}.npz", {**parts(name), "head": HEADS[what]}), name)


@pytest.mark.parametrize("name", POLICIES)
def test_every_value_of_a_head_of_another_type_is_refused_or_decides_nothing(
    tmp_path: Path, name: str
) -> None:
    known = json.loads(str(parts(name)["head"]))
    outer = next(key for key in ("scorer", "sb3") if key in known)

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else ()
        return [path, *(found for key, each in inner for found in places(each, (*path, key)))]

    for place in [(outer, *each) for each in places(known[outer])]:
        for value in ([], {}, [[]], True, "hello", -1, 0, 1e300, 10**400, [10**9], None):
            head = json.loads(json.dumps(known))
            target = head
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = value
            path = write(tmp_path / "x.npz", {**parts(name), "head": json.dumps(head)})
            os.utime(path, ns=(hash((place, str(value))) % 10**15,) * 2)
            try:
                load(path, name)
            except ValueError as error:
                assert "x.npz" in str(error)


WIDTHS = [0, -1, 10**9, 10**12, 10**30, 13]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_scorer_of_another_width_than_its_arrays_is_refused_unread(
    tmp_path: Path, width: int
) -> None:
    path = with_head(tmp_path / "x.npz", "cautious", lambda h: h["scorer"].update(width=width))
    check_refused_cheaply(path, "cautious")


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"net_arch": [10**9]}},
        {"arguments": {"net_arch": [10**12]}},
        {"arguments": {"net_arch": [-1]}},
        {"arguments": {"net_arch": [0]}},
        {"arguments": {"net_arch": [1] * 10_000}},
        {"arguments": {"net_arch": {"pi": [10**8], "vf": [4]}}},
        {"arguments": {"net_arch": {"pi": [4], "vf": [10**8]}}},
        {"arguments": {"net_arch": {"pi": [4], "other": [4]}}},
        {"arguments": {}},
        {"arguments": {"net_arch": [8], "n_critics": 10**6}},
        {"arguments": {"net_arch": [8], "activation_fn": "Module"}},
        {"arguments": {"net_arch": [8], "features_extractor_class": "os.system"}},
        {"arguments": {"net_arch": [8], "alpha": 0.5}},
        {"arguments": {"net_arch": [8], "use_sde": "yes"}},
        {"policy": "os.system"},
        {"policy": "SetPolicy"},
        {"policy": "SACPolicy"},
        {"policy": "dqn.MultiInputPolicy"},
        {"observation": "samples"},
        {"observation": "samples", "columns": ["loss", "loss"]},
        {"observation": "everything"},
        {"action": "mask", "num_samples": 10**9},
        {"action": "mask", "num_samples": 10**8},
        {"action": "mask", "num_samples": 50},
        {"action": "strategy"},
        {"action": "shell"},
        {"num_samples": 0},
        {"module": "evil"},
    ],
    ids=range(28),
)
def test_networks_that_are_unknown_or_larger_than_their_arrays_are_refused_unbuilt(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    load(FOLDER / "ppo.npz", "ppo")  # so that imports cost no memory below
    path = with_head(tmp_path / "x.npz", "ppo", lambda head: head["sb3"].update(change))
    check_refused_cheaply(path, "ppo")


@pytest.mark.parametrize("name", POLICIES)
def test_features_that_are_named_twice_or_gone_are_refused(tmp_path: Path, name: str) -> None:
    for change in (["z_loss"] * 14, ["z_rank"], "z_loss", [1]):
        path = with_head(tmp_path / "x.npz", name, lambda h, c=change: h.update(sample_features=c))
        check_refused(path, name)
        path.unlink()


def header(descr: str, shape: str, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize(
    "content",
    [
        header("'<f4'", "(1000000000,)"),
        header("'<f4'", "(1000000000, 1000000000, 1000000000)"),
        header("'<f4'", "(-1,)"),
        header("'<f4'", "(" + "1," * 3000 + ")"),
        header("'|O'", "(1,)") + b"\x80\x04N.",
        header("'<U1000000000'", "()"),
        header("[('a', '<f4')]", "(1,)") + bytes(4),
        header("__import__('os')", "(1,)") + bytes(4),
        header("'<f4'", "(" * 5000 + ")" * 5000),
        header("'<f4'", "(1,)", b"\x09\x00") + bytes(4),
        b"\x93NUMPY",
        b"",
        b"hello",
    ],
    ids=range(13),
)
def test_a_member_that_promises_what_it_does_not_hold_is_refused_unread(
    tmp_path: Path, name: str, content: bytes
) -> None:
    arrays = parts(name)
    for key in ("head", next(key for key in arrays if key != "head")):
        path = tmp_path / f"{key}.npz"
        with zipfile.ZipFile(path, "w") as archive:
            for other, value in arrays.items():
                memory = io.BytesIO()
                np.save(memory, value)
                archive.writestr(f"{other}.npy", content if other == key else memory.getvalue())
        check_refused_cheaply(path, name)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_unpacked(tmp_path: Path, name: str, packing: int) -> None:
    arrays = parts(name)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        for key, value in arrays.items():
            memory = io.BytesIO()
            np.save(memory, value)
            archive.writestr(f"{key}.npy", memory.getvalue())
        with archive.open("bomb.npy", "w") as file:
            file.write(header("'<f4'", "(67108864,)"))
            for _ in range(256):
                file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    check_refused_cheaply(path, name)


def test_a_member_that_is_there_twice_or_locked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes((FOLDER / "cautious.npz").read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("A.npy", archive.read("A.npy"))
    check_refused(path, "cautious", "twice")
    content = bytearray((FOLDER / "cautious.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + offset] |= 1  # encrypted
            start += 4
    (tmp_path / "locked.npz").write_bytes(bytes(content))
    check_refused(tmp_path / "locked.npz", "cautious", "encrypted")


def test_names_that_no_file_can_have_are_answered_with_the_shipped_policies(
    tmp_path: Path,
) -> None:
    for policy in ("\0", "x" * 10_000, "", ".", str(tmp_path), "../policies/ppo"):
        for agent in (f"learned(policy={policy!r})", f"sb3(policy={policy!r})"):
            shipped = r"no policy file .*, ppo, ppo_digits, ppo_short, robust"
            with pytest.raises(ValueError, match=shipped):
                dynprune_agents.make(agent).env_kwargs  # noqa: B018


def test_a_shipped_policy_is_small_against_the_limit() -> None:
    for path in FOLDER.glob("*.npz"):
        assert path.stat().st_size < _archive.LIMIT / 1000


# -- sweeps --------------------------------------------------------------------------------------

SWEEPS: dict[str, tuple[bytes, str]] = {
    "invalid UTF-8": (b"description = '\xff\xfe'", "utf-8"),
    "UTF-16": ("seeds = 3".encode("utf-16"), "utf-8"),
    "no TOML": (b"hello", "after a key"),
    "cut": (b"agents = ['ucb'", "not a sweep"),
    "null bytes": (b"\0\0\0", "not a sweep"),
    "duplicate keys": (b"seeds = 1\nseeds = 2", "overwrite"),
    "unknown key": (b"budget = [0.3]", "unknown key 'budget'.*Did you mean 'budgets'"),
    "misspelt": (b"agnets = ['ucb']", "Did you mean 'agents'"),
    "unlike any": (b"xyzzy = 1", "unknown key 'xyzzy'; there are envs, agents"),
    "huge seeds": (b"seeds = 1000000000000", "at most 100,000, got 1000000000000"),
    "larger seeds": (b"seeds = 9" + b"0" * 30, "64 bits"),
    "endless seeds": (b"seeds = 9" + b"0" * 5000, "not a sweep"),
    "negative seeds": (b"seeds = -3", "seeds is how many, at least 1"),
    "fractional seeds": (b"seeds = 2.5", "seeds: 2.5 is not int"),
    "true seeds": (b"seeds = true", "seeds: True is not int"),
    "negative seed": (b"seed = -1", "seed is the first, from 0"),
    "huge seed": (b"seed = 9223372036854775807", "seed is the first, from 0"),
    "NaN budget": (b"budgets = [nan]", "budgets: nan is not a finite number"),
    "infinite budget": (b"budgets = [0.3, inf]", "not a finite number"),
    "budget of nothing": (b"budgets = [0]", r"in \(0, 1\]"),
    "budget of more": (b"budgets = [1.5]", r"in \(0, 1\]"),
    "negative budget": (b"budgets = [-0.1]", r"in \(0, 1\]"),
    "budget in text": (b"budgets = ['0.3']", "budgets: '0.3' is not float"),
    "budgets in budgets": (b"budgets = [[0.3]]", "budgets: .0.3. is not float"),
    "one budget": (b"budgets = 0.3", "budgets is a list that is not empty"),
    "agents that are tables": (b"agents = [{ a = 1 }]", "agents: .* is not text"),
    "kwargs in a list": (b"env_kwargs = [1]", "env_kwargs: .1. is not a table"),
    "kwargs that are lists": (b"env_kwargs = { epochs = [1] }", "env_kwargs"),
    "kwargs that are dates": (b"env_kwargs = { epochs = 1999-01-01 }", "env_kwargs"),
    "kwargs that are NaN": (b"env_kwargs = { label_noise = nan }", "not a finite number"),
    "variants of lists": (b"variants = [{ epochs = [[1]] }]", "variants"),
    "a number for a text": (b"description = 3", "description: 3 is not text"),
    "deep lists": (b"agents = " + b"[" * 20_000, "nested too deeply"),
    "deep tables": (b"env_kwargs = " + b"{a=" * 10_000, "nested too deeply"),
    "long keys": (b"a." * 30_000 + b"a = 1", "dots"),
    "long headers": (b"[" + b"a." * 30_000 + b"a]", "dots"),
    "too long": (b"# " + b"x" * 100_000, "more than 64 kB"),
}


@pytest.mark.parametrize("what", SWEEPS)
def test_a_sweep_that_is_broken_is_refused_in_one_sentence(tmp_path: Path, what: str) -> None:
    content, match = SWEEPS[what]
    (path := tmp_path / "x.toml").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=match) as error:
        load_sweep(str(path))
    assert "x.toml is not a sweep: " in str(error.value)
    assert len(str(error.value)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # kB


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    text = "seeds = 3\nseed = 2\nbudgets = [0.5, 1]\ndescription = 'ä'\n"
    expected = parse_sweep(text.encode(), "x")
    assert expected.seeds == (2, 3, 4)
    assert expected.budgets == (0.5, 1.0)
    marked = "\ufeff" + text.replace("\n", "\r\n")
    assert parse_sweep(marked.encode(), "x") == expected


def test_what_is_no_file_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "dangling.toml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.toml")
    for name in ("folder.toml", "pipe.toml"):
        with pytest.raises(ValueError, match="is not a sweep: it is no file"):
            load_sweep(str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_sweep(str(tmp_path / "dangling.toml"))


@pytest.mark.parametrize("command", ["run", "bench"])
def test_huge_numbers_of_seeds_are_refused_at_the_command_line_too(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = str(tmp_path)
    _, said = refuse(command, "--seeds", str(10**12), "--out", out, capsys=capsys)
    assert "at most 100,000" in " ".join(said.split())
