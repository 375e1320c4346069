"""ignite: handlers that record, select, end the run with the budget, and go on.

    loader = DataLoader(Indexed(dataset), 64, sampler=sampler)
    engine = Engine(step)  # step returns {"loss": ..., "logits": logits} for a batch of Indexed
    pruning = attach(engine, loader)
    engine.run(loader, max_epochs=sampler.epochs)

`pruning` goes into `Checkpoint(to_save={..., "pruning": pruning})` in place of the engine: ignite
reckons its epoch from one length of all epochs, and these differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch.utils.data import DataLoader

from dynprune_env.integrations.loaders import (
    batch_indices,
    load_own,
    only_own_shares,
    record_output,
    sampler_of,
    warn_of_an_early_end,
)

VALUES = ("val_loss", "val_accuracy")
NAMED = " and/or ".join(VALUES)


class Pruning:
    """What `attach` gives: the sampler's and the engine's place in the run, to save and to load.

    Args:
        engine: trains.
        loader: of the train samples, draws from a `PruningSampler`.
        metrics: see `attach`.

    Raises:
        ValueError: see `attach`.
    """

    def __init__(
        self,
        engine: Engine,
        loader: DataLoader[Any],
        metrics: Callable[[], Mapping[str, float]] | None,
    ):
        self.sampler = sampler_of(loader)
        only_own_shares(self.sampler, "ignite")
        if metrics is not None and not callable(metrics):
            raise ValueError(f"metrics is a function that gives {NAMED}, got {metrics!r}")
        self._engine, self._loader, self._metrics = engine, loader, metrics
        self._iteration = self._before = 0

    def started(self) -> None:
        """Puts a new run of the engine where the sampler stands.

        It warns where max_epochs may end the run before the budget is spent.
        """
        state = self._engine.state
        if self.sampler.finished:
            self._engine.terminate()
        else:
            warn_of_an_early_end(self.sampler, state.max_epochs)
        state.epoch, state.iteration = self.sampler.epoch, self._iteration
        state.epoch_length = None  # ignite would end the run by it

    def begin(self) -> None:
        """Gives the epoch its own length, and the order of the last selection."""
        if self._engine.state.dataloader not in (None, self._loader):
            raise RuntimeError("the engine runs over another loader than attach was given")
        self._engine.state.epoch_length = len(self._loader)
        self._engine.set_data(self._loader)

    def record(self) -> None:
        """Records a batch."""
        state = self._engine.state
        self._iteration = state.iteration
        done = self.sampler.recorded > self._before  # by the step itself
        if not done and not record_output(self.sampler, batch_indices(state.batch), state.output):
            raise RuntimeError(
                'the step returns a dict with "logits", or the "losses" of the samples, or calls '
                "sampler.record(indices, logits) itself"
            )
        self._before = self.sampler.recorded

    def end(self) -> None:
        """Selects; ends the run with the budget.

        Raises:
            ValueError: `metrics` gave something else.
        """
        self.sampler.select(**self._val())
        self._before = 0
        self._engine.state.epoch_length = None
        if self.sampler.finished:
            self._engine.terminate()

    def _val(self) -> dict[str, float]:
        if self._metrics is None:
            return {}
        found: Any = self._metrics()
        if not isinstance(found, Mapping):
            raise ValueError(f"metrics gives {NAMED}, got {found!r}")
        if not found.keys() <= {*VALUES}:
            raise ValueError(f"metrics gives {NAMED}, got {', '.join(map(str, found))}")
        return dict(found)

    def state_dict(self) -> dict[str, Any]:
        """Of all processes: a collective call."""
        return {"states": self.sampler.gather_states(), "iteration": self._iteration}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there, at the next `engine.run`.

        Raises:
            ValueError: it is of another run, or lies between the last batch of an epoch and its
                val values.
        """
        load_own(self.sampler, state["states"])
        self._iteration, self._before = state["iteration"], self.sampler.recorded
        if self.sampler.recorded and not len(self._loader):
            if self._metrics is not None:
                raise ValueError(
                    "the checkpoint lies between an epoch's last batch and its val values, which "
                    "the selection needs: go on from the one before or after it"
                )
            self.sampler.select()
            self._before = 0


def attach(
    engine: Engine,
    loader: DataLoader[Any],
    metrics: Callable[[], Mapping[str, float]] | None = None,
) -> Pruning:
    """Makes an engine train what an agent keeps.

    Attach it before handlers that save at an epoch's end.

    Args:
        engine: trains; its step returns a dict with "logits" (B, C) or "losses" (B,), or records.
        loader: of `Indexed` samples, draws from a `PruningSampler`; to be given to `engine.run`.
        metrics: gives `val_loss` (nats) and `val_accuracy` (in [0, 1]), or one of them, at the end
            of an epoch, e.g. by running an evaluator.

    Raises:
        ValueError: the loader draws from another sampler, or from one of another number of samples
            than its data set; or `metrics` is no function.
    """
    pruning = Pruning(engine, loader, metrics)
    engine.add_event_handler(Events.STARTED, pruning.started)
    engine.add_event_handler(Events.EPOCH_STARTED, pruning.begin)
    engine.add_event_handler(Events.ITERATION_COMPLETED, pruning.record)
    engine.add_event_handler(Events.EPOCH_COMPLETED, pruning.end)
    return pruning
