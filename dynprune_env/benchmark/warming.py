"""What a process does once, such as loading compiled loops, done before a run's seconds count."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gymnasium.vector import AutoresetMode

from dynprune_env.benchmark.identity import with_parts
from dynprune_env.benchmark.recording import RunLog
from dynprune_env.common.pulse import unheard
from dynprune_env.common.sources import PACKAGES
from dynprune_env.common.threads import one_blas_thread, torch_threads
from dynprune_env.envs.settings import Settings
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.tasks.models import is_mlp

ALIKE = ("observation", "action", "weights", "observe", "device", "threads", "averaging")
"""What the short game has in common with the one to come."""

SHORT: dict[str, Any] = {"task": "Digits", "train_size": 100, "epochs": 8, "budget": 0.7}
"""Its data come with the package: nothing of the user's own is loaded or called."""

SEEDS = (0, 1)
"""Two, since several runs take other ways than one."""

_done: set[Hashable] = set()
"""The kinds of games that this process has warmed up for."""


def warm_up(settings: Settings, agent: Any) -> None:
    """Plays a short game like the one to come, unless this process has played one of its kind.

    What a process loads with its first run takes up to two seconds, and what it loads with the
    first of an agent up to half of one: many times as long as a run on small data.

    No run's numbers depend on it. An agent of this distribution plays as it is made anew; for any
    other, which may keep a record of what it is asked, dynamic random does. What goes wrong here
    goes wrong in the run too, or does not matter to it.

    Args:
        settings: of the game to come.
        agent: who will play it.
    """
    kinds = [type(each) for each in with_parts(agent)]
    ours = all(kind.__module__.partition(".")[0] in PACKAGES for kind in kinds)
    learner = settings.learner if is_mlp(settings.resolved.model) else "modules"
    alike = {name: getattr(settings, name) for name in ALIKE}
    kind = (*(kinds if ours else ()), learner, *alike.values())
    if kind in _done:
        return
    _done.add(kind)
    with suppress(Exception), warnings.catch_warnings(), unheard():
        warnings.simplefilter("ignore")  # of games as short as this one
        game = DynPruneVectorEnv(
            len(SEEDS), AutoresetMode.DISABLED, learner=learner, **SHORT, **alike
        )
        with torch_threads(settings.threads), one_blas_thread():
            _play(game, replace(agent) if ours else None)


def _play(game: DynPruneVectorEnv, agent: Any) -> None:
    """Plays and records a game to its end; None plays dynamic random."""
    observation, _ = game.reset(seed=list(SEEDS))
    if agent is not None:
        agent.prepare(game.scoring_runs(SEEDS))
        agent.reset(game.episode(SEEDS))
    log = RunLog(game)
    while not game.ended.all():
        before = observation
        action = game.random_actions() if agent is None else agent.select(observation)
        observation, reward, _, _, info = game.step(action)
        if agent is not None:
            agent.update(before, action, reward, observation)
        log.add(info, reward, 0.0)
    game.evaluate("test")
    log.row(0)
