"""The masks of a finished run as text."""

from __future__ import annotations

import base64
import zlib

import numpy as np

MOST = 1 << 31
"""Epochs times samples of the largest run that is read: some eight times 200 epochs of ImageNet."""

_CHUNK = 1 << 20


def pack(masks: np.ndarray) -> str:
    """(epochs, n) bool as text: bits, deflated, base 64."""
    return base64.b64encode(zlib.compress(np.packbits(masks).tobytes(), 9)).decode()


def unpack(text: str, epochs: int, num_samples: int) -> np.ndarray:
    """The (epochs, n) bool masks that `pack` turned into text; see `check` for what is none."""
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    bits = np.unpackbits(packed, count=epochs * num_samples)
    return bits.reshape(epochs, num_samples).astype(bool)


def check(text: str, epochs: int, num_samples: int) -> None:
    """Checks that `unpack` will find its masks, in a memory of a megabyte.

    Raises:
        ValueError: the text holds something else, or more than MOST bits.
    """
    expected = -(-epochs * num_samples // 8)
    if expected > MOST // 8:
        raise ValueError(f"its selections are of more than {MOST:,} samples")
    reader, found = zlib.decompressobj(), 0
    try:
        waiting = base64.b64decode(text, validate=True)
        while not reader.eof and found <= expected:
            part = reader.decompress(waiting, _CHUNK)
            waiting, found = reader.unconsumed_tail, found + len(part)
            if not part and not waiting:
                break
    except (ValueError, zlib.error) as error:
        raise ValueError(f"its selections cannot be read: {error}") from error
    if found != expected or not reader.eof:
        raise ValueError(f"its selections are not {epochs} masks of {num_samples:,} samples")
