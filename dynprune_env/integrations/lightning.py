"""Lightning: a callback that records, selects, stops, saves and goes on.

    sampler = PruningSampler(labels, agent, epochs=20, budget=0.5)
    loader = DataLoader(Indexed(dataset), 64, sampler=sampler)
    trainer = lightning.Trainer(max_epochs=20, callbacks=[PruningCallback(sampler)])

`training_step` gets `(indices, sample)` and returns `{"loss": loss, "logits": logits}`, or the
losses of the samples as `"losses"`; or it calls `sampler.record` itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from dynprune_env.integrations.loaders import (
    batch_indices,
    find_sampler,
    given_metrics,
    load_own,
    missing_metric,
    only_own_shares,
    record_output,
    same_count,
    warn_of_an_early_end,
)
from dynprune_env.sampler.sampler import PruningSampler

KEY = "dynprune_sampler"


class PruningCallback(pl.Callback):
    """Ends every epoch with a selection, and the training with the budget.

    Loaders are made anew for every epoch, so that lengths and validation follow the selection. A
    checkpoint from the middle of an epoch goes on with the rest of it, as an epoch of its own.

    Args:
        sampler: of the train loader; or a function that makes it, called once the processes run:
            what several of them need. Then `callback.sampler` is for `train_dataloader`.
        val_loss: name under which the module logs the val loss, in nats; None leaves it out.
        val_accuracy: likewise, in [0, 1].

    Raises:
        ValueError: sampler is neither.
    """

    def __init__(
        self,
        sampler: PruningSampler | Callable[[], PruningSampler],
        *,
        val_loss: str | None = None,
        val_accuracy: str | None = None,
    ):
        if not (isinstance(sampler, PruningSampler) or callable(sampler)):
            raise ValueError(
                "PruningCallback takes a PruningSampler or a function that makes one, got "
                f"{sampler!r}"
            )
        self._make = None if isinstance(sampler, PruningSampler) else sampler
        self._sampler = sampler if isinstance(sampler, PruningSampler) else None
        self._names = {"val_loss": val_loss, "val_accuracy": val_accuracy}
        self._validated = False
        self._before = 0

    @property
    def sampler(self) -> PruningSampler:
        """The sampler, once it is made."""
        if self._sampler is None:
            raise RuntimeError("the sampler is made when the training is set up")
        return self._sampler

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Makes the sampler where that was left to this, and checks the trainer.

        It warns where max_epochs may end the training before the budget is spent, and where val
        values are asked for, but there is no validation to log them.

        Raises:
            ValueError: the trainer would leave samples out that were handed out, or go on after
                the budget is spent, or not validate in every epoch, where the selection needs val
                values, or validate by counts of batches that a later epoch may not have; or what
                was to make the sampler made none.
        """
        if stage != "fit":
            return
        if self._sampler is None:
            assert self._make is not None
            self._sampler = self._make()
        only_own_shares(self.sampler, "Lightning")
        self._check_length(trainer)
        self._check_validation(trainer)
        if not trainer.enable_validation:
            self._warn_of_missing({})
        warn_of_an_early_end(self.sampler, trainer.max_epochs)
        trainer.reload_dataloaders_every_n_epochs = 1

    def _check_length(self, trainer: Any) -> None:
        limit = trainer.limit_train_batches
        wrong = {
            f"overfit_batches={trainer.overfit_batches}": bool(trainer.overfit_batches),
            f"limit_train_batches={limit}": isinstance(limit, int) or limit != 1.0,
            f"max_steps={trainer.max_steps}": trainer.max_steps != -1,
        }
        for setting in (name for name, refused in wrong.items() if refused):
            raise ValueError(
                f"{setting} leaves out samples that the agent chose: leave it out, the budget of "
                "the sampler ends the training"
            )
        late = {
            f"min_steps={trainer.min_steps}": bool(trainer.min_steps),
            f"min_epochs={trainer.min_epochs}": trainer.min_epochs > 1,  # 0 where it was left out
        }
        for setting in (name for name, refused in late.items() if refused):
            raise ValueError(
                f"{setting} may go on after the budget is spent: leave it out, the budget of the "
                "sampler ends the training"
            )

    def _check_validation(self, trainer: Any) -> None:
        every = trainer.check_val_every_n_epoch
        interval = getattr(trainer, "val_check_interval", None)  # it has none where that is a time
        needed = any(self._names.values()) and trainer.enable_validation
        if needed and every != 1:
            raise ValueError(
                "val_loss and val_accuracy are needed in every epoch: expected "
                f"check_val_every_n_epoch=1, got {every}"
            )
        if needed and interval is None:
            raise ValueError(
                "val_loss and val_accuracy are needed in every epoch: expected "
                "val_check_interval as a share such as 1.0, got a time"
            )
        by_batches = isinstance(interval, int) and interval > 1 and trainer.limit_val_batches > 0
        if by_batches and every is not None:  # None counts on from epoch to epoch
            raise ValueError(
                "expected val_check_interval as a share such as 1.0, since epochs differ in "
                f"length; got {interval}"
            )

    def _warn_of_missing(self, found: Any) -> None:
        # No error: a training step or another callback may log it, and a module may leave the
        # sanity check out of its logs.
        missing = missing_metric(found, self._names)
        if missing is not None:
            warnings.warn(
                f"no validation logs {missing!r}; there are {', '.join(found) or 'none'}: unless "
                "it is logged elsewhere, the first epoch ends with an error",
                stacklevel=3,
            )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Checks that the loader draws from the sampler.

        Raises:
            RuntimeError: it does not, or Lightning has replaced it.
            ValueError: its data set is longer or shorter than the sampler.
        """
        self._validated = False
        loaders = trainer.fit_loop._combined_loader.flattened
        own = [loader for loader in loaders if find_sampler(loader) is self.sampler]
        if not own:
            raise RuntimeError(
                "no train loader draws from the callback's sampler: give it as sampler=, or with "
                "WholeBatches and several processes Trainer(use_distributed_sampler=False)"
            )
        for loader in own:
            same_count(self.sampler, getattr(loader, "dataset", None))

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes what the training step itself records."""
        self._before = self.sampler.recorded

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Records the batch.

        Raises:
            RuntimeError: the training step returned nothing to record.
        """
        if outputs is None or self.sampler.recorded > self._before:
            return  # the step was left out, or recorded by the module
        if not record_output(self.sampler, batch_indices(batch), outputs):
            raise RuntimeError(
                'training_step returns a dict with "loss" and "logits", or "loss" and the "losses" '
                "of the samples, or calls sampler.record(indices, logits) itself"
            )

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Notes that the val values are of this epoch; before the first, warns of missing ones."""
        self._validated = not trainer.sanity_checking
        if trainer.sanity_checking:
            self._warn_of_missing(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Selects, and stops the training where the budget is spent."""
        self.sampler.select(**given_metrics(trainer.callback_metrics, self._names))
        if self.sampler.finished:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Adds the states of all processes."""
        asked = any(self._names.values())
        known = self._validated and asked
        checkpoint[KEY] = {
            "states": self.sampler.gather_states(),
            "val": given_metrics(trainer.callback_metrics, self._names) if known else {},
            "complete": known or not asked,
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Goes on from there.

        Raises:
            ValueError: the checkpoint is of another run, or has no state of a sampler, or lies
                between the last batch of an epoch and its validation.
        """
        if trainer.state.fn != "fit":
            return
        if KEY not in checkpoint:
            raise ValueError("the checkpoint was saved without PruningCallback")
        saved, loop = checkpoint[KEY], checkpoint["loops"]["fit_loop"]
        batches = loop["epoch_loop.batch_progress"]
        load_own(self.sampler, saved["states"])
        if self.sampler.recorded and batches["is_last_batch"]:
            if not saved["complete"]:
                raise ValueError(
                    "the checkpoint lies between an epoch's last batch and its validation, whose "
                    "values the selection needs: go on from the one before or after it"
                )
            self.sampler.select(**saved["val"])
        _begin_an_epoch(loop, self.sampler.epoch)


def _begin_an_epoch(loop: dict[str, Any], epoch: int) -> None:
    """Makes Lightning's counters those of a run that has just ended so many epochs."""
    for counter in ("total", "current"):
        progress = loop["epoch_progress"][counter]
        progress.update(dict.fromkeys(progress, epoch))
    batches = loop["epoch_loop.batch_progress"]
    batches["current"].update(dict.fromkeys(batches["current"], 0))
    batches["total"].update(dict.fromkeys(batches["total"], batches["total"]["ready"]))
    batches["is_last_batch"] = False
