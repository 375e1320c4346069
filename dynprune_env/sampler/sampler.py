"""Any agent in an ordinary PyTorch loop: the sampler of a DataLoader, told the losses."""

from __future__ import annotations

import copy
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from torch import Tensor

from dynprune_env.common.specs import lookup
from dynprune_env.sampler.checks import (
    as_indices,
    as_number,
    checked_base,
    checked_labels,
    share,
    whole,
)
from dynprune_env.sampler.player import Player
from dynprune_env.sampler.processes import Message, Ranks
from dynprune_env.sampler.records import Records
from dynprune_env.sampler.refusing import ONLY_IN_THE_GAME, Refusing
from dynprune_env.sampler.standing import Standing
from dynprune_env.sampler.state import (
    EpochParts,
    array_hash,
    check_newer,
    check_settings,
    labels_hash,
    read_state,
)
from dynprune_env.selection.actions import ACTIONS, decode
from dynprune_env.selection.agent import Episode, SelectionAgent, columns_read, reading
from dynprune_env.selection.agent_state import agent_label, pack_agent
from dynprune_env.selection.budget import (
    WEIGHTS,
    VisitBudget,
    of_mean_one,
    visiting_order,
)
from dynprune_env.selection.observations import OBSERVATIONS, TaskSize, progress_vector, row_of
from dynprune_env.selection.rewards import REWARDS, Metrics
from dynprune_env.selection.statistics import MAX_LOSS, SampleStatistics

MANY_CLIPPED = 0.1
"""Share of an epoch's losses that may be clipped without a warning."""


class PruningSampler(Standing):
    """The samples that an agent keeps, in a new order for every epoch.

        sampler = PruningSampler(labels, agent, epochs=20, budget=0.5)
        loader = DataLoader(Indexed(dataset), batch_size=128, sampler=sampler)
        while not sampler.finished:
            for indices, (inputs, labels) in loader:
                ...  # forward pass, loss, step, as ever
                sampler.record(indices, logits)
            sampler.select()

    It plays by the rules of `DynPruneEnv`: a budget of `budget * epochs * n` visits, and only
    visited samples are re-scored. Under the same seed the same losses lead to the same visits.
    What was recorded is charged, so a loader may drop its last batch. Iterating changes nothing.

    Under torch.distributed every process makes one, with the same arguments, and gets its share of
    one selection as torch's DistributedSampler would give it; it is one by its type, so frameworks
    that deal samples out leave it alone. `select`, which all must call, exchanges the records: one
    collective call an epoch. `dynprune_env.integrations` fits it into Lightning, the Trainer of
    transformers, accelerate and ignite.

    Args:
        labels: (n,) the class of each sample, integers in [0, C); or n itself, where there are no
            classes: then record losses.
        agent: chooses what an epoch visits, e.g. `dynprune_agents.make("ucb")`. Only the columns
            that it reads are kept.
        epochs: T, the most epochs.
        budget: share of T n visits that the run may spend, in (0, 1].
        num_classes: C; None means one more than the largest label (2 without labels). Samples that
            were never visited carry the values of a uniform prediction over C classes.
        seed: of everything, as in `env.reset(seed=seed)` and `env.episode(seed)`; None draws one,
            see the attribute `seed`.
        num_replicas, rank: processes, and which this is; None asks torch.distributed.
        drop_last: whether samples that do not fill all shares alike are dropped, rather than the
            first ones repeated.
        weights: "mean_one" or "raw", as in the environment.
        base_weights: (n,) positive, what the agent's gradient weights are multiplied by, e.g.
            `class_weights[labels]`; None means ones.
        shares: "sampler"; or "framework" where one deals the samples out whatever the sampler's
            type (accelerate): then each process iterates over all of them.
        on_shortfall: what `select` does if more than a batch of what was handed out was not
            recorded: "error" or "warn". It may be changed later.

    Raises:
        ValueError: an argument is not as described, or the agent needs what no such loop has:
            training runs of its own, access to the model, losses of dropped samples.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray | Tensor | int,
        agent: SelectionAgent,
        *,
        epochs: int,
        budget: float = 0.5,
        num_classes: int | None = None,
        seed: int | None = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
        weights: str = "mean_one",
        base_weights: Sequence[float] | np.ndarray | Tensor | None = None,
        shares: str = "sampler",
        on_shortfall: str = "error",
    ):
        super().__init__()
        epochs, budget = whole("epochs", epochs, 1), share("budget", budget)
        lookup(weights, dict.fromkeys(WEIGHTS), "weights")
        self.on_shortfall = on_shortfall
        table, classes, known = checked_labels(labels, num_classes)
        if isinstance(agent, type) or not hasattr(agent, "select"):
            raise ValueError(f'pass an agent, such as dynprune_agents.make("ucb"), got {agent!r}')
        wants = {"observation": "samples", "action": "mask", "observe": "visited"}
        wants |= agent.env_kwargs
        if wants["observe"] == "all":
            raise ValueError(f"{agent!r} needs the losses of dropped samples, {ONLY_IN_THE_GAME}")
        self.agent = agent
        self._base = checked_base(base_weights, len(table))
        self._ranks = Ranks.find(num_replicas, rank, drop_last, shares)
        self._seed_drawn = seed is None
        if seed is None:  # the same for all processes
            seed = self._ranks.gather(int(seeding.np_random()[0].integers(2**31)))[0]
        self._raw_weights = wants.get("weights", weights) == "raw"
        self._settings: dict[str, Any] = {
            "agent": agent_label(agent),
            "n": len(table),
            "labels": labels_hash(table, known),
            "num_classes": classes,
            "epochs": epochs,
            "budget": budget,
            "weights": "raw" if self._raw_weights else "mean_one",
            "base_weights": None if self._base is None else array_hash(self._base),
            "seed": whole("seed", seed, 0),
        }
        self._budget = VisitBudget(1, len(table), epochs, budget)
        self._records = Records(table, classes, known)
        columns = columns_read(agent)
        seen = SampleStatistics.COLUMNS if columns is None else columns
        task_size = TaskSize(len(table), epochs, classes, seen)
        self._observation = OBSERVATIONS[wants["observation"]](task_size)
        self._action_kind = wants["action"]
        kept = {*seen, *self._observation.reads, *ACTIONS[self._action_kind]().reads}
        self._statistics = SampleStatistics(1, table, classes, columns=kept)
        uniform = np.array([math.log(classes)])
        self._metrics = Metrics(uniform, np.array([1 / classes]), uniform, np.array([False]))
        self._largest_batch = 0
        self._warned = False
        self._done = np.empty(0, dtype=np.int64)
        refusing: Any = Refusing(repr(agent), epochs, len(table))
        agent.prepare(refusing)
        agent.reset(Episode(len(table), classes, epochs, budget, self.seed, refusing))
        self._player = Player(agent, refusing)
        self._choose()

    @property
    def on_shortfall(self) -> str:
        """What `select` does if much less was recorded than was handed out: "error" or "warn"."""
        return self._on_shortfall

    @on_shortfall.setter
    def on_shortfall(self, value: str) -> None:
        lookup(value, dict.fromkeys(("error", "warn")), "on_shortfall")
        self._on_shortfall = value

    # -- the loop -------------------------------------------------------------------------------

    def record(
        self,
        indices: Tensor | np.ndarray | Sequence[int],
        logits: Tensor | np.ndarray | Sequence[Sequence[float]] | None = None,
        *,
        losses: Tensor | np.ndarray | Sequence[float] | None = None,
    ) -> None:
        """Notes what a forward pass of the training said; does not wait for the device.

        What is refused is not noted. On a GPU indices out of range are met by `select`.

        Args:
            indices: (B,) integers, which samples.
            logits: (B, C), of any floating type.
            losses: (B,) instead of logits, any loss with a value per sample, scaled so that most
                lie in [0, 20], to which they are clipped; the other columns are derived as if it
                were a cross-entropy in nats, see `from_losses`.

        Raises:
            ValueError: shapes do not fit, or an index is out of range.
            RuntimeError: more samples are recorded than the epoch has.
        """
        ids, given = self._records.checked(indices, logits, losses)
        count = len(self._records) + len(ids)
        if count > self._ranks.most(len(self._share), max(self._largest_batch, len(ids))):
            raise RuntimeError(
                f"{count} samples were recorded, but the epoch has "
                f"{len(self._share)}: call select() once at the end of every epoch, or "
                "forget_epoch() to begin it anew"
            )
        self._records.add(ids, given)
        self._largest_batch = max(self._largest_batch, len(ids))

    def select(self, val_loss: float | None = None, val_accuracy: float | None = None) -> None:
        """Ends the epoch and chooses what the next one visits.

        Args:
            val_loss: on held-out data, nats; agents see it, and their reward is its fall. None
                takes the mean loss of the epoch's visits instead.
            val_accuracy: in [0, 1]; None takes the share of visits predicted correctly.

        Raises:
            RuntimeError: what was recorded is not what was handed out, or the run is over; or the
                processes do not hold the same selection.
            ValueError: a loss is not finite, or a val value none. The epoch is not over then; see
                `forget_epoch`.
        """
        if self.finished:
            raise RuntimeError("the run is over: all epochs are done or the budget is spent")
        self._player.check()
        selection = (self._settings, self.epoch, zlib.crc32(self._order.tobytes()))
        told = as_number(val_loss), as_number(val_accuracy)
        own = Message(selection, *self._records.arrays(), self._largest_batch, *told)
        ids, values, self._largest_batch, val_loss, val_accuracy = self._ranks.exchange(
            own, self._order, self.on_shortfall
        )
        before, seen = self._metrics, self._observe()
        self._budget.epoch += 1
        self._budget.visits += len(ids)
        train_loss, accuracy = before.train_loss, before.val_accuracy
        if len(ids):
            self._warn_of_clipping(values.loss)
            self._statistics.record(ids, values, np.repeat(self._budget.epoch, len(ids)))
            train_loss = np.clip(values.loss.mean(keepdims=True, dtype=np.float64), 0, MAX_LOSS)
            accuracy = values.correct.mean(keepdims=True, dtype=np.float64)
        self._metrics = Metrics(
            train_loss if val_loss is None else np.clip([float(val_loss)], 0, MAX_LOSS),
            accuracy if val_accuracy is None else np.array([float(val_accuracy)]),
            train_loss,
            np.array([self.finished]),
        )
        self._records.clear()
        self._done = self._done[:0]
        reward = float(REWARDS["val_loss"](before, self._metrics)[0])
        with reading(self.agent):
            self.agent.update(seen, self._action, reward, self._observe())
        self._choose()

    def _warn_of_clipping(self, losses: np.ndarray) -> None:
        """Warns once if an agent cannot tell many losses (V,) of an epoch apart."""
        clipped = float(np.mean((losses < 0) | (losses > MAX_LOSS)))
        if clipped > MANY_CLIPPED and not self._warned:
            self._warned = True
            warnings.warn(
                f"{clipped:.0%} of the epoch's losses lie outside of [0, {MAX_LOSS:g}], to which "
                "they are clipped, so that the agent cannot tell them apart: scale or shift what "
                "record(losses=...) is given",
                stacklevel=3,
            )

    def forget_epoch(self) -> None:
        """Begins the epoch anew, as if nothing of it had been recorded: it is handed out whole.

        After a loss that was not finite or a batch that was recorded twice; what the model learned
        from it is not undone. Under torch.distributed all processes call it.
        """
        self._records.clear()
        self._done = self._done[:0]

    def weights(self, indices: Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """The gradient weights of these samples, of their shape, float32, on their device.

        All ones unless the agent gives weights: then `(losses * weights).mean()` is what it meant.
        Over the samples of an epoch their mean is one, unless the sampler has weights="raw".

        Raises:
            ValueError: they are no integers in [0, n); on a GPU the range is not looked at.
        """
        ids = as_indices(indices, self._budget.num_samples)
        if ids.device not in self._weights:
            self._weights[ids.device] = self._weights[_CPU].to(ids.device)
        return self._weights[ids.device][ids]

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self, *, pickled: bool = False) -> dict[str, Any]:
        """Everything that the coming visits depend on, at any point of an epoch.

        `torch.save` writes it, `torch.load(..., weights_only=True)` reads it. In the middle of an
        epoch it holds this process's records, so every process saves its own. States of one epoch
        share tensors, which the sampler itself does not use.

        Args:
            pickled: whether an agent that holds what is no plain value is pickled.

        Raises:
            TypeError: the agent holds what is no plain value.
            RuntimeError: the agent plays for another sampler.
        """
        self._player.check()
        if pickled not in self._parts:
            self._parts[pickled] = EpochParts(
                self._settings,
                {
                    "epoch": self._budget.epoch,
                    "visits": self._budget.visits,
                    "order": self._order,
                    "weights": self._weights[_CPU].numpy(),
                    "metrics": np.array(self._metrics.observed),
                },
                {
                    "ranks": [*astuple(self._ranks)],
                    "statistics": self._statistics.state(),
                    "action": self._action,
                    "agent": pack_agent(self.agent, pickled=pickled),
                },
            )
        return self._parts[pickled].as_dict(*self._records.arrays(), self._largest_batch)

    def gather_states(self) -> list[Any]:
        """The states of all processes, by rank: a collective call."""
        return self._ranks.gather(self.state_dict())

    def load_state_dict(self, state: dict[str, Any], *, trust: bool = False) -> None:
        """Goes on from what `state_dict` gave: the visits that were left then are visited now.

        A sampler whose seed was drawn takes that of the state.

        Args:
            state: as `torch.load(..., weights_only=True)` gives it.
            trust: whether an agent that was pickled is unpickled, which runs code of the file.

        Raises:
            ValueError: the state is of a run with other arguments, labels or another order of
                them, or of another process, or is damaged, or older than what was recorded in the
                same epoch. The sampler is as before then.
        """
        check_settings(state, self._settings, frozenset({"seed"} if self._seed_drawn else ()))
        budget = self._budget
        size = budget.num_samples, budget.epochs, budget.total_visits
        found = read_state(state, *size, self._statistics.state())
        number, own, *_ = found.ranks
        if len(found.ids) and found.ranks != [*astuple(self._ranks)]:
            raise ValueError(
                f"the state is of the middle of an epoch of process {own} of {number}, this is "
                f"{self._ranks.own} of {self._ranks.number}: every process loads its own, or one "
                "saved by select()"
            )
        check_newer(found, self.epoch, self._order, self._records.arrays()[0])
        seed = whole("the seed of the state", state["settings"]["seed"], 0)
        self._player.load(found.agent, trust)
        self._settings["seed"] = seed
        budget.epoch[...], budget.visits[...] = found.epoch, found.visits
        self._statistics.load_state(found.statistics)
        val_loss, val_accuracy, train_loss = found.metrics
        ended = np.array([self.finished])
        self._metrics = Metrics(val_loss, val_accuracy, train_loss, ended)
        self._largest_batch = found.largest_batch
        self._action = found.action
        self._hand_out(found.order, found.weights)
        # What a framework deals out must be the same in all processes.
        done = self._ranks.gather(found.ids) if self._ranks.dealt_elsewhere else [found.ids]
        self._done = np.unique(np.concatenate(done))
        self._records.load(found.ids, found.values)

    # -- parts of an epoch ----------------------------------------------------------------------

    def _observe(self) -> Any:
        """What the agent sees, without the replica axis: fresh arrays, its own to write into."""
        columns = self._statistics.lend(self._budget.epoch)
        progress = progress_vector(self._budget, self._metrics)
        seen = self._observation.observe(columns, progress)
        return row_of(seen)

    def _choose(self) -> None:
        """Asks the agent, and hands out what it keeps as far as the budget reaches."""
        if self.finished:
            weights = np.zeros(self._budget.num_samples, dtype=np.float32)
            self._hand_out(np.empty(0, dtype=np.int64), weights)
            return
        with reading(self.agent):
            self._action = np.array(self.agent.select(self._observe()))
        run_seed = int(seeding.np_random(self.seed)[0].integers(2**31))  # as an environment's
        weights = decode(
            self._action_kind,
            self._action[None],
            self._statistics,
            self._budget,
            np.array([run_seed]),
        )[0].copy()
        left = int(self._budget.remaining[0])
        order = visiting_order(run_seed, self.epoch, weights > 0, left)
        if self._base is not None:
            weights = weights * self._base
        if not self._raw_weights:
            weights[order] = of_mean_one(weights[order])
        self._hand_out(order, weights)

    def _hand_out(self, order: np.ndarray, weights: np.ndarray) -> None:
        self._order = order
        self._share = self._ranks.share(order)
        self._parts: dict[bool, EpochParts] = {}
        self._weights = {_CPU: torch.from_numpy(weights)}
        self._after = copy.deepcopy(self._budget)
        self._after.epoch += 1
        self._after.visits += len(order)


_CPU = torch.device("cpu")
