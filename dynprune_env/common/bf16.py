"""Whether this processor computes convolutional nets faster in bf16 than in float32."""

from __future__ import annotations

from functools import cache

import torch

from dynprune_env.common.provenance import machine


@cache
def cpu_is_faster_in_bf16() -> bool:
    """By its AMX tiles, or on AMD by AVX-512's bf16 instructions.

    Intel's processors have these too, but without tiles they are slower than float32's. Where there
    are neither, bf16 is emulated.
    """
    if _has("amx_tile"):
        return True
    return _has("avx512_bf16") and "AMD" in machine()


def _has(instructions: str) -> bool:
    """Whether torch finds these; an older torch does not look."""
    return bool(getattr(torch.cpu, f"_is_{instructions}_supported", lambda: False)())
