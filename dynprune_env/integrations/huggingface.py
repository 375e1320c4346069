"""transformers: a Trainer whose epochs train what an agent keeps.

    sampler = PruningSampler(labels, agent, epochs=20, budget=0.5)
    trainer = PruningTrainer(model=model, args=args, train_dataset=dataset, sampler=sampler)
    trainer.train()

The sampler ends the training: `num_train_epochs` is its `epochs`, and the learning rate follows its
progress. The train data set is wrapped, so give it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from dynprune_env.integrations.accelerate import prepare_loader
from dynprune_env.integrations.loaders import given_metrics, only_own_shares, same_count
from dynprune_env.integrations.schedule import on_progress
from dynprune_env.sampler.sampler import PruningSampler

INDEX = "sample_index"
IGNORED = -100  # a label that transformers leaves out
EVALUATING = ("evaluate", "evaluation_loop")  # what metrics come from


class WithIndex(Dataset[Any]):
    """A map-style data set of dicts whose samples carry their index."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.dataset[index], INDEX: index}


class PruningMixin:
    """Goes before `Trainer`, or a subclass of it: `class Mine(PruningMixin, MyTrainer)`.

    It records the logits of classifiers whose batch has `labels`, and the losses of others as
    `sample_losses` gives them. An epoch ends with a selection after its evaluation, and a
    checkpoint goes on exactly, from the middle of an epoch too.

    Args:
        *args: of the Trainer.
        sampler: of the train data set.
        val_loss: name of the metric that is the val loss, in nats, e.g. "eval_loss"; None leaves
            it out. With it, eval_strategy="epoch" and eval_delay=0.
        val_accuracy: likewise, in [0, 1], e.g. "eval_accuracy" of a compute_metrics that gives it.
        **kwargs: of the Trainer.

    Where the agent weighs (`sampler.weighs`), the loss is made of `sample_losses`, and so they must
    be the parts of the Trainer's.

    Raises:
        ValueError: the arguments would make the Trainer leave samples out, or not evaluate in every
            epoch where val values are asked for, or to other names, or are a loss that has no parts
            to weigh; or sampler is no `PruningSampler`, or one of another number of samples.
    """

    def __init__(
        self,
        *args: Any,
        sampler: PruningSampler,
        val_loss: str | None = None,
        val_accuracy: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        me: Any = self
        only_own_shares(sampler, "transformers")
        wrong = {
            f"max_steps={me.args.max_steps}": me.args.max_steps > 0,
            "auto_find_batch_size=True": me.args.auto_find_batch_size,
        }
        for setting in (name for name, refused in wrong.items() if refused):
            raise ValueError(
                f"{setting} leaves samples out or trains them twice: the budget of the sampler "
                "ends the training"
            )
        self._check_evaluation([name for name in (val_loss, val_accuracy) if name])
        if sampler.weighs and me.compute_loss_func is not None:
            raise ValueError(
                "the agent weighs the losses of samples, and compute_loss_func gives their sum "
                "alone: override sample_losses(inputs, outputs) instead"
            )
        if sampler.weighs and me.args.n_gpu > 1:
            raise ValueError(
                f"an agent that weighs needs a process per GPU, got one for {me.args.n_gpu}: start "
                "the script with torchrun"
            )
        if me.train_dataset is None:
            raise ValueError("expected a train_dataset, got None")
        same_count(sampler, me.train_dataset)
        self.sampler = sampler
        self._names = {"val_loss": val_loss, "val_accuracy": val_accuracy}
        self._val: dict[str, float] = {}
        self._epoch_over = self._weighs = self._agreed = False
        me.add_callback(_Saving(self))

    def _check_evaluation(self, names: list[str]) -> None:
        me: Any = self
        strategy = str(getattr(me.args.eval_strategy, "value", me.args.eval_strategy))
        if names and strategy != "epoch":
            raise ValueError(
                "val_loss and val_accuracy are needed in every epoch: expected "
                f'eval_strategy="epoch", got "{strategy}"'
            )
        if names and me.args.eval_delay > 0:
            raise ValueError(
                "val_loss and val_accuracy are needed in every epoch: expected eval_delay=0, got "
                f"{me.args.eval_delay}"
            )
        own = (getattr(type(self), way) is getattr(Trainer, way) for way in EVALUATING)
        if not all(own):
            return  # it may have metrics of its own
        computes = me.compute_metrics is not None and not me.args.prediction_loss_only
        several = me.eval_dataset if isinstance(me.eval_dataset, dict) else ()
        beginnings = tuple(f"eval_{key}_" for key in several) or ("eval_",)
        for name in names:
            if not name.startswith(beginnings):
                raise ValueError(
                    f"the Trainer's metrics begin with {' or '.join(beginnings)}, got {name!r}"
                )
            if not computes and not name.endswith("_loss"):
                raise ValueError(
                    f'"{name}" needs compute_metrics, and prediction_loss_only=False: else an '
                    "evaluation gives losses alone"
                )

    # -- what the Trainer asks ------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of the sampler's visits, each process its share."""
        me: Any = self
        loader = DataLoader(
            WithIndex(me.train_dataset),
            batch_size=me._train_batch_size,
            sampler=self.sampler,
            collate_fn=me._get_collator_with_removed_columns(me.data_collator, "training"),
            drop_last=me.args.dataloader_drop_last,
            num_workers=me.args.dataloader_num_workers,
            pin_memory=me.args.dataloader_pin_memory,
            persistent_workers=me.args.dataloader_persistent_workers,
            prefetch_factor=me.args.dataloader_prefetch_factor,
        )
        return prepare_loader(me.accelerator, loader)

    def _set_signature_columns_if_needed(self) -> None:
        me: Any = super()
        me._set_signature_columns_if_needed()
        columns = self._signature_columns
        if columns is not None and INDEX not in columns:
            self._signature_columns = [*columns, INDEX]

    _signature_columns: list[str] | None

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """The counts of a run that the sampler ends: at most so many steps."""
        me: Any = super()
        _, per_epoch, *others, in_epoch, _ = me.set_initial_training_values(args, dataloader)
        most = self._planned_steps + self._more_steps
        return (self.sampler.epochs, per_epoch, *others, in_epoch, most)

    @property
    def _planned_steps(self) -> int:
        """What the run takes if the rest of the budget is spent evenly."""
        me: Any = self
        size = me._train_batch_size * me.args.gradient_accumulation_steps
        return max(1, self.sampler.steps_remaining(size))

    @property
    def _more_steps(self) -> int:
        """By how many an uneven pace may exceed that, so that the Trainer does not end the run.

        Two an epoch: its last step, which may be of few samples, and the rounding of a share.
        """
        return 2 * self.sampler.epochs

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the arguments, on the sampler's progress instead of steps.

        How many steps a run takes is known at its end only, since the agent chooses how fast it
        spends: on steps, the learning rate would stop on its way, or stand at its end for long.
        Schedules that are no function of the step (on a plateau) stay as they are.
        """
        me: Any = self
        if me.lr_scheduler is not None:
            return me.lr_scheduler
        steps = max(1, num_training_steps - self._more_steps)
        parent: Any = super()
        planned = parent.create_scheduler(steps, optimizer)
        if type(planned) is LambdaLR:
            shapes = [_of_progress(factor, steps) for factor in planned.lr_lambdas]
            me.lr_scheduler = on_progress(planned.optimizer, self.sampler, shapes)
        return me.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The Trainer's.

        Raises:
            ValueError: the batch does not say which samples it is of.
        """
        if INDEX not in inputs:
            raise ValueError(
                f"the data_collator drops {INDEX!r} of the samples and must keep it: expected it "
                f"in a batch, got {', '.join(inputs)}"
            )
        parent: Any = super()
        return parent.training_step(model, inputs, *args, **kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The Trainer's loss, weighted where the agent weighs, and recorded while training."""
        inputs = dict(inputs)
        ids = inputs.pop(INDEX, None)
        labels = inputs.get("labels")
        parent: Any = super()
        loss, outputs = parent.compute_loss(
            model, dict(inputs), return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if ids is not None and model.training:
            logits = _logits(outputs)
            scored = logits.dim() == 2 and labels is not None and labels.dim() == 1
            scored = scored and self.sampler.num_classes is not None
            losses = None if scored and not self._weighs else self.sample_losses(inputs, outputs)
            if scored:
                self.sampler.record(ids, logits)
            else:
                self.sampler.record(ids, losses=losses)
            if losses is not None and self._weighs:
                loss = self._weighted(losses, ids, inputs, loss, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _weighted(self, losses: Tensor, ids: Tensor, inputs: Any, plain: Tensor, items: Any) -> Any:
        """What the Trainer's loss is with these weights: sums over items, divided as there."""
        me: Any = self
        counts = self._items_of(inputs, losses)
        divisor = counts.sum()
        if me.model_accepts_loss_kwargs and items is not None:
            divisor = items  # of all accumulated batches
            if me.args.average_tokens_across_devices:  # and of all processes, which are averaged
                divisor = items / (me.accelerator.num_processes // me.get_tp_size())
        if not self._agreed:
            _check_parts((losses.detach() * counts).sum() / divisor, plain.detach())
            self._agreed = True
        return (losses * counts * self.sampler.weights(ids)).sum() / divisor

    def _items_of(self, inputs: dict[str, Any], losses: Tensor) -> Tensor:
        """How many labels of each sample the loss is a mean over, (B,): more than one of tokens."""
        me: Any = self
        labels = inputs.get("shift_labels", inputs.get("labels"))
        if labels is None:
            return torch.ones_like(losses)
        if "shift_labels" not in inputs and getattr(me, "_loss_shifts_labels", False):
            labels = labels[..., 1:]
        return labels.ne(IGNORED).reshape(len(losses), -1).sum(1)

    def sample_losses(self, inputs: dict[str, Any], outputs: Any) -> Tensor:
        """The loss of each sample, (B,): cross-entropy or, with a single output, squared error.

        Label smoothing is that of the arguments. Override it for models of another kind, e.g. of
        tokens: the mean over those of a sample that have a label.

        Raises:
            ValueError: the model is of another kind.
        """
        me: Any = self
        logits, labels = _logits(outputs), inputs.get("labels")
        if labels is None or labels.dim() != 1 or logits.dim() > 2:
            raise ValueError(
                f"logits {tuple(logits.shape)} are no classifier's: override "
                "sample_losses(inputs, outputs) to give the losses of the samples, (B,)"
            )
        if labels.is_floating_point():
            return F.mse_loss(logits.reshape(len(labels)), labels, reduction="none")
        smoothing = me.label_smoother.epsilon if me.label_smoother is not None else 0.0
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    # -- epochs ---------------------------------------------------------------------------------

    def _run_epoch(self, **kwargs: Any) -> None:  # of transformers 5
        me: Any = self
        loader = kwargs["train_dataloader"]
        batches, per_step = len(loader), me.args.gradient_accumulation_steps
        self._weighs = bool((self.sampler.weights(self.sampler.kept) != 1).any())
        self._epoch_over, self._val = False, {}
        if batches:
            counts = {
                "steps_in_epoch": batches,
                "num_update_steps_per_epoch": -(-batches // per_step),
            }
            parent: Any = super()
            parent._run_epoch(**{**kwargs, **counts, "steps_trained_in_current_epoch": 0})
        else:  # a checkpoint of the last step, or a rest that is dropped
            me.control = me.callback_handler.on_epoch_end(me.args, me.state, me.control)
            names = ("model", "trial", "epoch", "ignore_keys_for_eval", "start_time")
            me._maybe_log_save_evaluate(me._tr_loss, None, *(kwargs[name] for name in names))
        if not me.control.should_training_stop or self._epoch_over:
            self._select()

    def _select(self) -> None:
        me: Any = self
        self.sampler.select(**given_metrics(self._val, self._names))
        self._epoch_over = False
        if self.sampler.finished:
            me.control.should_training_stop = True

    def _init_training_state(
        self, max_steps: Any, per_epoch: Any, epochs: Any, checkpoint: Any, trial: Any
    ) -> tuple[int, int]:
        me: Any = super()
        me._init_training_state(max_steps, per_epoch, epochs, checkpoint, trial)
        if checkpoint is not None:
            self._load_sampler(Path(checkpoint))
        return (epochs if self.sampler.finished else self.sampler.epoch), 0

    def _sampler_file(self, folder: Path) -> Path:
        return folder / f"pruning_sampler_{self.sampler.rank}.pt"

    def _save_sampler(self, folder: Path) -> None:
        state = {"sampler": self.sampler.state_dict(), "val": self._val, "over": self._epoch_over}
        torch.save(state, self._sampler_file(folder))

    def _load_sampler(self, folder: Path) -> None:
        if not self._sampler_file(folder).exists():
            raise ValueError(
                f"{folder} has no {self._sampler_file(folder).name}: saved without a sampler"
            )
        state = torch.load(self._sampler_file(folder), weights_only=True)
        self.sampler.load_state_dict(state["sampler"])
        if state["over"]:
            self._val = state["val"]
            self._select()


class _Saving(TrainerCallback):
    """Notes where an epoch stands, and saves the sampler in checkpoints."""

    def __init__(self, trainer: PruningMixin):
        self.trainer = trainer

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here on all of the epoch is recorded."""
        self.trainer._epoch_over = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        """Keeps the numbers among the metrics; there is one call for each eval data set."""
        self.trainer._val |= {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds the sampler to the checkpoint."""
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        self.trainer._save_sampler(folder)


class PruningTrainer(PruningMixin, Trainer):
    """`transformers.Trainer` with a `PruningSampler`; see `PruningMixin`."""


def _logits(outputs: Any) -> Tensor:
    return outputs["logits"] if isinstance(outputs, dict) else outputs[1]


def _check_parts(mean: Tensor, loss: Tensor) -> None:
    """Checks that the losses of the samples are the parts of the Trainer's loss.

    Raises:
        ValueError: they are not.
    """
    if not torch.isclose(mean.float(), loss.float(), rtol=0.02, atol=1e-3, equal_nan=True):
        raise ValueError(
            f"the agent weighs the losses of samples, whose mean is {mean:.4g}, but the loss of "
            f"the model is {loss:.4g}: override sample_losses(inputs, outputs) to give its parts"
        )


def _of_progress(factor: Any, steps: int) -> Any:
    return lambda progress: factor(round(progress * steps))
