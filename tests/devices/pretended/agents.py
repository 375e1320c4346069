"""On an accelerator every agent chooses what it chooses on the CPU."""

from __future__ import annotations

import warnings

import pytest
from helpers.episodes import assert_same
from helpers.pretend_device import MISSING, pretended
from helpers.two_devices import CLOSE, episode, here, there

from dynprune_agents import make as make_rule
from dynprune_agents import names

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.parametrize("name", [name for name in names() if name != "sb3"])
def test_every_agent_chooses_there_as_on_the_cpu(name: str) -> None:
    settings = {"epochs": 4, "budget": 0.6, **make_rule(name).env_kwargs}
    with warnings.catch_warnings():  # some are full data in a run this short
        warnings.filterwarnings("ignore", message=".* spend the whole budget")
        expected = episode(make_rule(name), here(**settings))
        with pretended():
            found = episode(make_rule(name), there(**settings))
    assert_same(found, expected, CLOSE)
