"""Any agent in an ordinary PyTorch loop: the sampler of a DataLoader, told the losses."""

from __future__ import annotations

import copy
import math
import pickle
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from torch import Tensor
from torch.utils.data import Sampler

from dynprune_env.common.specs import lookup
from dynprune_env.sampler.processes import Message, Ranks
from dynprune_env.sampler.records import Records, checked_labels
from dynprune_env.sampler.refusing import ONLY_IN_THE_GAME, Refusing
from dynprune_env.selection.actions import decode
from dynprune_env.selection.agent import Episode, SelectionAgent
from dynprune_env.selection.budget import (
    WEIGHTS,
    VisitBudget,
    batch_sizes,
    of_mean_one,
    visiting_order,
)
from dynprune_env.selection.observations import OBSERVATIONS, TaskSize, progress_vector, row_of
from dynprune_env.selection.rewards import REWARDS, Metrics
from dynprune_env.selection.statistics import MAX_LOSS, SampleStatistics


class PruningSampler(Sampler[int]):
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
    one selection as torch's DistributedSampler would give it. `select`, which all must call,
    exchanges the records: one collective call an epoch.

    Args:
        labels: (n,) the class of each sample, integers in [0, C); or n itself, where there are no
            classes: then record losses.
        agent: chooses what an epoch visits, e.g. `dynprune_agents.make("ucb")`.
        epochs: T, the most epochs.
        budget: share of T n visits that the run may spend, in (0, 1].
        num_classes: C; None means one more than the largest label (2 without labels). Samples that
            were never visited carry the values of a uniform prediction over C classes.
        seed: of everything, as in `env.reset(seed=seed)` and `env.episode(seed)`.
        num_replicas, rank: processes, and which this is; None asks torch.distributed.
        drop_last: whether samples that do not fill all shares alike are dropped, rather than the
            first ones repeated.
        weights: "mean_one" or "raw", as in the environment.

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
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
        weights: str = "mean_one",
    ):
        if not hasattr(agent, "select"):
            raise ValueError(f'pass an agent, such as dynprune_agents.make("ucb"), got {agent!r}')
        if epochs < 1:
            raise ValueError(f"epochs is at least 1, got {epochs}")
        if not 0 < budget <= 1:
            raise ValueError(f"budget is a share of a full run in (0, 1], got {budget}")
        lookup(weights, dict.fromkeys(WEIGHTS), "weights")
        known = not isinstance(labels, int)
        table, classes = checked_labels(labels, num_classes)
        wants = {"observation": "samples", "action": "mask", "observe": "visited"}
        wants |= agent.env_kwargs
        if wants["observe"] == "all":
            raise ValueError(f"{agent!r} needs the losses of dropped samples, {ONLY_IN_THE_GAME}")
        self.agent = agent
        self._ranks = Ranks.find(num_replicas, rank, drop_last)
        self._settings: dict[str, Any] = {
            "agent": repr(agent),
            "n": len(table),
            "num_classes": classes,
            "epochs": epochs,
            "budget": budget,
            "seed": seed,
        }
        self._run_seed = int(seeding.np_random(seed)[0].integers(2**31))  # as an environment's
        self._budget = VisitBudget(1, len(table), epochs, budget)
        self._statistics = SampleStatistics(1, table, classes)
        self._records = Records(table, classes, known)
        self._observation = OBSERVATIONS[wants["observation"]](
            TaskSize(len(table), epochs, classes)
        )
        self._action_kind = wants["action"]
        self._raw_weights = wants.get("weights", weights) == "raw"
        uniform = np.array([math.log(classes)])
        self._metrics = Metrics(uniform, np.array([1 / classes]), uniform)
        self._largest_batch = 0
        self._done = np.empty(0, dtype=np.int64)
        refusing: Any = Refusing(repr(agent), epochs, len(table))
        agent.prepare(refusing)
        agent.reset(Episode(len(table), classes, epochs, budget, seed, refusing))
        self._choose(self._observe())

    # -- what a DataLoader asks -----------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        """This process's share of the kept samples; after a resume, of those not yet recorded."""
        return iter(self._left().tolist())

    def __len__(self) -> int:
        """How many `iter` gives."""
        return len(self._left())

    def _left(self) -> np.ndarray:
        return self._share[~np.isin(self._share, self._done)] if len(self._done) else self._share

    # -- the loop -------------------------------------------------------------------------------

    def record(
        self,
        indices: Tensor | np.ndarray | Sequence[int],
        logits: Tensor | None = None,
        *,
        losses: Tensor | None = None,
    ) -> None:
        """Notes what a forward pass of the training said; does not wait for the device.

        Args:
            indices: (B,) integers, which samples.
            logits: (B, C), of any floating type.
            losses: (B,) instead of logits, any loss with a value per sample; the other columns
                are derived as if it were a cross-entropy in nats, see `records.from_losses`.

        Raises:
            ValueError: shapes do not fit, or an index is out of range.
            RuntimeError: more samples are recorded than the epoch has.
        """
        self._records.add(indices, logits, losses)
        self._largest_batch = max(self._largest_batch, len(indices))
        if len(self._records) > len(self._share):
            raise RuntimeError(
                f"{len(self._records)} samples were recorded, but the epoch has "
                f"{len(self._share)}: call select() once at the end of every epoch"
            )

    def select(self, val_loss: float | None = None, val_accuracy: float | None = None) -> None:
        """Ends the epoch and chooses what the next one visits.

        Args:
            val_loss: on held-out data, nats; agents see it, and their reward is its fall. None
                takes the mean loss of the epoch's visits instead.
            val_accuracy: in [0, 1]; None takes the share of visits predicted correctly.

        Raises:
            RuntimeError: nothing was recorded, or what was not handed out, or the run is over; or
                the processes do not hold the same selection.
            ValueError: a loss is not finite.
        """
        if self.finished:
            raise RuntimeError("the run is over: all epochs are done or the budget is spent")
        selection = (self._settings, self.epoch, zlib.crc32(self._order.tobytes()))
        own = Message(
            selection, *self._records.arrays(), self._largest_batch, val_loss, val_accuracy
        )
        ids, values, self._largest_batch, val_loss, val_accuracy = self._ranks.exchange(
            own, self._order
        )
        before, seen = self._metrics, self._observe()
        self._budget.epoch += 1
        self._budget.visits += len(ids)
        train_loss, accuracy = before.train_loss, before.val_accuracy
        if len(ids):
            self._statistics.record(ids, values, np.repeat(self._budget.epoch, len(ids)))
            train_loss = np.clip(values.loss.mean(keepdims=True, dtype=np.float64), 0, MAX_LOSS)
            accuracy = values.correct.mean(keepdims=True, dtype=np.float64)
        self._metrics = Metrics(
            train_loss if val_loss is None else np.clip([float(val_loss)], 0, MAX_LOSS),
            accuracy if val_accuracy is None else np.array([float(val_accuracy)]),
            train_loss,
        )
        self._records.clear()
        self._done = self._done[:0]
        reward = float(REWARDS["val_loss"](before, self._metrics)[0])
        observation = self._observe()
        self.agent.update(seen, self._action, reward, observation)
        self._choose(observation)

    def weights(self, indices: Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """The gradient weights of these samples, of their shape, float32, on their device.

        All ones unless the agent gives weights: then `(losses * weights).mean()` is what it meant.
        Over the samples of an epoch their mean is one, unless the sampler has weights="raw".
        """
        indices = torch.as_tensor(indices)
        if indices.device not in self._weights:
            self._weights[indices.device] = self._weights[_CPU].to(indices.device)
        return self._weights[indices.device][indices.long()]

    # -- how far it is --------------------------------------------------------------------------

    @property
    def kept(self) -> np.ndarray:
        """The samples of this epoch over all processes, (k,) int64, in the order of training."""
        return self._order.copy()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return int(self._budget.epoch[0])

    @property
    def visits(self) -> int:
        """Samples trained in the epochs done, over all processes."""
        return int(self._budget.visits[0])

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or the budget is spent."""
        return bool(self._budget.progress[0] >= 1)

    @property
    def progress(self) -> float:
        """max(epoch / T, share of the budget spent) in [0, 1]; it moves with every record.

        A schedule that runs on it is complete however fast the agent spends.
        """
        share = len(self._records) / max(1, len(self._share))
        before, after = float(self._budget.progress[0]), float(self._after.progress[0])
        return before + share * (after - before)

    def steps_remaining(
        self, batch_size: int, drop_last: bool = False, whole_batches: bool = False
    ) -> int:
        """How many batches this process's loader will still give, from the start of this epoch.

        Exact for agents that spend the budget evenly; for those of a pace of their own an
        estimate, which takes the rest of the budget as evenly spent.

        Args:
            batch_size: samples per batch; with gradients accumulated over k batches, k times that.
            drop_last: of the loader.
            whole_batches: whether `WholeBatches` makes the loader's batches.
        """
        total, budget = 0, copy.deepcopy(self._budget)
        kept, share, done = len(self._order), len(self), len(self._done)
        while budget.progress[0] < 1:
            batches = share // batch_size if drop_last else -(-share // batch_size)
            if whole_batches:
                batches = len(batch_sizes(share, batch_size))
            trained = done + min(share, batches * batch_size if drop_last else share)
            total += batches
            budget.epoch += 1
            budget.visits += min(kept, trained * self._ranks.number)
            kept, done = min(budget.num_samples, round(float(budget.visits_per_epoch[0]))), 0
            share = len(self._ranks.share(np.arange(kept)))
        return total

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the coming visits depend on, at any point of an epoch.

        `torch.save` writes it, `torch.load(..., weights_only=True)` reads it. In the middle of an
        epoch it holds this process's records, so every process saves its own.

        Raises:
            TypeError: the agent cannot be pickled.
        """
        ids, values = self._records.arrays()
        try:
            agent = pickle.dumps(vars(self.agent))
        except Exception as error:
            raise TypeError(f"{self.agent!r} cannot be saved: {error}") from error
        arrays = {
            "epoch": self._budget.epoch,
            "visits": self._budget.visits,
            "order": self._order,
            "ids": ids,
            "values": values,
            "metrics": np.array(astuple(self._metrics)),
            "weights": self._weights[_CPU].numpy(),
            "action": np.asarray(self._action),
            "agent": np.frombuffer(agent, dtype=np.uint8),
        }
        return {
            "settings": dict(self._settings),
            "ranks": [self._ranks.number, self._ranks.own, self._ranks.drop_last],
            "largest_batch": self._largest_batch,
            "statistics": self._statistics.state(),
            "arrays": {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave: the visits that were left then are visited now.

        Unpickles the agent: load only what you trust.

        Raises:
            ValueError: the state is of a run with other arguments, or of another process.
        """
        if state["settings"] != self._settings:
            raise ValueError(
                f"the state is of a run with {state['settings']}, this one has {self._settings}"
            )
        arrays = {name: tensor.numpy().copy() for name, tensor in state["arrays"].items()}
        ranks = [self._ranks.number, self._ranks.own, self._ranks.drop_last]
        if len(arrays["ids"]) and state["ranks"] != ranks:
            number, own, _ = state["ranks"]
            raise ValueError(
                f"the state is of the middle of an epoch of process {own} of {number}, this is "
                f"{ranks[1]} of {ranks[0]}: every process loads its own, or one saved by select()"
            )
        self._budget.epoch[...], self._budget.visits[...] = arrays["epoch"], arrays["visits"]
        self._statistics.load_state(state["statistics"])
        self._metrics = Metrics(*arrays["metrics"])
        self._largest_batch = state["largest_batch"]
        vars(self.agent).clear()
        vars(self.agent).update(pickle.loads(arrays["agent"].tobytes()))
        self._action = arrays["action"]
        self._hand_out(arrays["order"], arrays["weights"])
        self._done = arrays["ids"]
        self._records.load(arrays["ids"], arrays["values"])

    # -- parts of an epoch ----------------------------------------------------------------------

    def _observe(self) -> Any:
        """What the agent sees, without the replica axis."""
        columns = self._statistics.columns(self._budget.epoch)
        progress = progress_vector(self._budget, self._metrics)
        seen = self._observation.observe(columns, progress)
        return row_of(seen)

    def _choose(self, observation: Any) -> None:
        """Asks the agent, and hands out what it keeps as far as the budget reaches."""
        if self.finished:
            self._hand_out(np.empty(0, dtype=np.int64), np.zeros_like(self._statistics.loss[0]))
            return
        self._action = np.asarray(self.agent.select(observation))
        weights = decode(
            self._action_kind,
            self._action[None],
            self._statistics,
            self._budget,
            np.array([self._run_seed]),
        )[0]
        left = int(self._budget.remaining[0])
        self._hand_out(visiting_order(self._run_seed, self.epoch, weights > 0, left), weights)

    def _hand_out(self, order: np.ndarray, weights: np.ndarray) -> None:
        self._order = order
        if not self._raw_weights:
            weights = weights.copy()
            weights[order] = of_mean_one(weights[order])
        self._share = self._ranks.share(order)
        self._weights = {_CPU: torch.from_numpy(weights)}
        self._after = copy.deepcopy(self._budget)
        self._after.epoch += 1
        self._after.visits += len(order)


_CPU = torch.device("cpu")
