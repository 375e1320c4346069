"""On an accelerator every agent chooses what it chooses on the CPU."""

from __future__ import annotations

import pytest
from helpers.episodes import assert_same
from helpers.pretend_device import MISSING, pretended
from helpers.two_devices import CLOSE, episode, here, there

from dynprune_agents import names

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.parametrize("name", [name for name in names() if name != "sb3"])
def test_every_agent_chooses_there_as_on_the_cpu(name: str) -> None:
    expected = episode(name, here)
    with pretended():
        found = episode(name, there)
    assert_same(found, expected, CLOSE)
