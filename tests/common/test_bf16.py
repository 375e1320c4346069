"""On which processors `precision="auto"` means bf16."""

import pytest
import torch

from dynprune_env.common import bf16
from dynprune_env.envs.settings import Settings

PROCESSORS = [  # name, instructions, whether bf16 is faster
    ("x86_64 AMD EPYC 9755 128-Core Processor", {"avx512_bf16"}, True),
    ("x86_64 AMD EPYC 7763 64-Core Processor", set(), False),
    ("x86_64 Intel(R) Xeon(R) Platinum 8480+", {"avx512_bf16", "amx_tile"}, True),
    ("x86_64 Intel(R) Xeon(R) Processor", {"avx512_bf16"}, False),  # a guest without tiles
    ("arm64", set(), False),
]


@pytest.mark.parametrize(("name", "instructions", "faster"), PROCESSORS)
def test_convolutional_nets_run_in_bf16_where_the_processor_is_faster_in_it(
    name, instructions, faster, monkeypatch
):
    for each in ("avx512_bf16", "amx_tile"):
        found = each in instructions
        monkeypatch.setattr(torch.cpu, f"_is_{each}_supported", lambda f=found: f, raising=False)
    monkeypatch.setattr(bf16, "machine", lambda: name)
    monkeypatch.setattr(
        "dynprune_env.envs.settings.cpu_is_faster_in_bf16", bf16.cpu_is_faster_in_bf16.__wrapped__
    )
    assert Settings("Clutter").use_bf16(torch.device("cpu")) is faster
    assert Settings("Clutter", precision="bf16").use_bf16(torch.device("cpu"))
    assert not Settings("Digits").use_bf16(torch.device("cpu"))
