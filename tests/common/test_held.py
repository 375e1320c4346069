"""What several threads want of the process is undone when the last of them leaves."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch

from dynprune_env.common.alone import float32_default, same_again
from dynprune_env.common.held import Held

CUDNN = torch.backends.cudnn


@pytest.mark.parametrize("before", [(False, False), (False, True), (True, True), (True, False)])
def test_cudnn_repeats_itself_until_the_last_that_wants_it_leaves(
    before: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CUDNN, "deterministic", before[0])
    monkeypatch.setattr(CUDNN, "benchmark", before[1])
    first, second = ExitStack(), ExitStack()
    first.enter_context(same_again(True))
    second.enter_context(same_again(True))
    with same_again(False):
        assert (CUDNN.deterministic, CUDNN.benchmark) == (True, False)
    first.close()
    assert (CUDNN.deterministic, CUDNN.benchmark) == (True, False)
    second.close()
    assert (CUDNN.deterministic, CUDNN.benchmark) == before


def test_who_comes_second_holds_the_default_type_too() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        first, second = ExitStack(), ExitStack()
        first.enter_context(float32_default())
        second.enter_context(float32_default())  # it finds float32
        first.close()
        assert torch.get_default_dtype() is torch.float32
        second.close()
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_setting_that_is_as_wanted_is_not_written() -> None:
    written: list[int] = []
    for value, expected in ((3, []), (2, [3, 2])):
        setting = Held(lambda value=value: value, written.append, 3)
        with pytest.raises(KeyError), setting.held():
            raise KeyError
        assert written == expected
