"""On an accelerator every agent chooses what it chooses on the CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from helpers.episodes import assert_same
from helpers.pretend_device import MISSING, pretended
from helpers.two_devices import CLOSE, episode, here, there

from dynprune_agents import names
from dynprune_env import DynPruneVectorEnv

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.parametrize("name", [name for name in names() if name != "sb3"])
def test_every_agent_chooses_there_as_on_the_cpu(name: str) -> None:
    expected = episode(name, here)
    with pretended():
        found = episode(name, there)
    assert_same(found, expected, CLOSE)


@pytest.mark.parametrize("name", ["infobatch", "ucb", "cover", "grand", "rho_loss", "learned"])
def test_convolutional_nets_are_those_of_the_cpu_and_a_step_waits_once(name: str) -> None:
    settings = {"task": "Clutter", "train_size": 40, "precision": "fp32"}
    expected = episode(name, partial(here, **settings))
    waits = []
    with pretended() as log:

        def counted(**others: Any) -> DynPruneVectorEnv:
            env = there(**settings, **others)
            step = env.step

            def stepped(action: Any) -> Any:
                log.clear()
                found = step(action)
                waits.append(len(log.waits))
                return found

            env.step = stepped
            return env

        found = episode(name, counted)
    assert_same(found, expected, CLOSE)
    assert waits == [1] * len(expected)
