"""`PruningCallback` in Lightning: nothing is left out, nothing is trained twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.digits import EPOCHS, Growing, dataset, net, new_sampler, plain_visits
from torch.utils.data import DataLoader

from dynprune_env import Indexed, PruningSampler, WholeBatches

L = pytest.importorskip("lightning", reason="lightning is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")  # of Lightning's own modules

from dynprune_env.integrations.lightning import PruningCallback  # noqa: E402
from dynprune_env.integrations.schedule import progress_scheduler  # noqa: E402


class Digits(L.LightningModule):  # type: ignore[name-defined]
    """Trains and notes what it trained."""

    def __init__(self, returns: str = "logits", schedule: PruningSampler | None = None):
        super().__init__()
        self.net, self.returns, self.schedule = net(), returns, schedule
        self.visits: list[list[int]] = []
        self.validations = 0

    def on_train_epoch_start(self) -> None:
        self.visits.append([])

    def training_step(self, batch: Any, _: int) -> Any:
        ids, (inputs, labels) = batch
        logits = self.net(inputs)
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        self.visits[-1] += ids.tolist()
        more = {"logits": {"logits": logits}, "losses": {"losses": losses}, "": {}}
        return {"loss": losses.mean(), **more[self.returns]}

    def validation_step(self, batch: Any, _: int) -> None:
        inputs, labels = batch
        self.log("val_loss", torch.nn.functional.cross_entropy(self.net(inputs), labels))

    def on_validation_end(self) -> None:
        self.validations += 1

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        if self.schedule is None:
            return optimizer
        rates = {"scheduler": progress_scheduler(optimizer, self.schedule), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": rates}


def trainer(*callbacks: Any, **changes: Any) -> Any:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": EPOCHS,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(callbacks=[*callbacks], **{**quiet, **changes})


def loader(sampler: PruningSampler, whole: bool = False) -> DataLoader:
    if whole:
        return DataLoader(Indexed(dataset()), batch_sampler=WholeBatches(sampler, 16))
    return DataLoader(Indexed(dataset()), 16, sampler=sampler)


def fit(sampler: PruningSampler, *callbacks: Any, ckpt: Path | None = None, **kwargs: Any) -> Any:
    val = kwargs.pop("val", None)
    module = Digits(kwargs.pop("returns", "logits"), kwargs.pop("schedule", None))
    names = {"val_loss": "val_loss"} if val else {}
    whole = kwargs.pop("whole", False)
    trainer(PruningCallback(sampler, **names), *callbacks, **kwargs).fit(
        module, loader(sampler, whole), val, ckpt_path=ckpt
    )
    return module


@pytest.mark.parametrize("agent", ["selective_backprop", "growing"])
def test_every_epoch_trains_what_was_handed_out_and_the_training_ends_with_the_budget(
    agent: str,
) -> None:
    make: Any = Growing() if agent == "growing" else agent
    sampler = new_sampler(make)
    module = fit(sampler, max_epochs=50)
    assert sampler.finished
    assert module.visits == plain_visits(Growing() if agent == "growing" else agent)
    assert sampler.visits == sum(map(len, module.visits))


def test_losses_of_samples_may_be_returned_instead_of_logits() -> None:
    sampler = new_sampler("dynamic_random")
    fit(sampler, returns="losses")
    assert sampler.visits == 500


def test_whole_batches_are_found_as_well() -> None:
    sampler = new_sampler(Growing())
    fit(sampler, whole=True)
    assert sampler.finished


def test_validation_runs_in_every_epoch_and_the_agent_sees_it() -> None:
    sampler = new_sampler(Growing())
    module = fit(sampler, val=DataLoader(dataset(), 50))
    assert module.validations == len(module.visits) == EPOCHS
    loss = torch.nn.functional.cross_entropy(module.net(dataset().tensors[0]), dataset().tensors[1])
    assert float(sampler._metrics.val_loss[0]) == pytest.approx(loss.item(), abs=1e-4)


def test_a_schedule_on_progress_is_complete() -> None:
    sampler = new_sampler("infobatch(delta=1.0)", budget=0.3)
    module = fit(sampler, schedule=sampler, max_epochs=50)
    (rate,) = (group["lr"] for group in module.optimizers().param_groups)
    assert rate < 0.01  # of 0.1, one batch before the end


class SaveOften(L.Callback):  # type: ignore[name-defined]
    """Saves after every batch, every validation and every epoch."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.paths: list[tuple[str, Path]] = []

    def save(self, trainer: Any, where: str) -> None:
        path = self.folder / f"{len(self.paths)}.ckpt"
        trainer.save_checkpoint(path)
        self.paths.append((where, path))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.save(trainer, "batch")

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        self.save(trainer, "epoch")


@pytest.mark.parametrize("validates", [False, True])
def test_a_run_goes_on_from_any_checkpoint_exactly_or_says_that_it_cannot(
    validates: bool, tmp_path: Path
) -> None:
    val = DataLoader(dataset(), 50) if validates else None
    saving = SaveOften(tmp_path)
    whole = fit(new_sampler(Growing()), saving, val=val)
    weights = whole.net.weight
    flat = [i for epoch in whole.visits for i in epoch]
    went_on = refused = 0
    for where, path in saving.paths:
        sampler = new_sampler(Growing())
        try:
            module = fit(sampler, ckpt=path, val=val, max_epochs=50)
        except ValueError as error:
            assert "between an epoch's last batch and its validation" in str(error)
            assert (validates, where) == (True, "batch")
            refused += 1
            continue
        rest = [i for epoch in module.visits for i in epoch]
        assert rest == flat[len(flat) - len(rest) :], (where, path)
        assert sampler.finished
        assert sampler.visits == len(flat)
        assert module.net.weight.equal(weights)
        went_on += 1
    assert refused == (EPOCHS if validates else 0)
    assert went_on == len(saving.paths) - refused > 20


def test_a_checkpoint_without_a_sampler_or_of_another_run_is_refused(tmp_path: Path) -> None:
    plain = trainer()
    sampler = new_sampler("dynamic_random")
    plain.fit(Digits(), loader(sampler))
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match="saved without PruningCallback"):
        fit(new_sampler(), ckpt=tmp_path / "plain.ckpt")
    saving = SaveOften(tmp_path)
    fit(new_sampler("dynamic_random"), saving, max_epochs=1)
    with pytest.raises(ValueError, match="the state is of a run with seed 1"):
        fit(new_sampler("dynamic_random", seed=2), ckpt=saving.paths[0][1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit_train_batches": 0.5}, "limit_train_batches=0.5 leaves out samples"),
        ({"limit_train_batches": 1}, "limit_train_batches=1 leaves out samples"),
        ({"overfit_batches": 2}, "overfit_batches=2 leaves out samples"),
        ({"max_steps": 10}, "max_steps=10 leaves out samples"),
        ({"min_steps": 500}, "min_steps=500 may go on after the budget is spent"),
        ({"min_epochs": 2}, "min_epochs=2 may go on after the budget is spent"),
        ({"val_check_interval": 5}, "as a share such as 1.0, since epochs differ in length; got 5"),
    ],
)
def test_a_trainer_that_would_not_train_what_the_agent_chose_is_refused(
    changes: Any, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit(new_sampler(), val=DataLoader(dataset(), 50), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_epochs": 1},
        {"val_check_interval": 0.5},
        {"val_check_interval": 1},
        {"val_check_interval": 50, "limit_val_batches": 0},
        {"val_check_interval": 50, "check_val_every_n_epoch": None},
    ],
)
def test_a_trainer_that_trains_it_all_is_not(changes: Any) -> None:
    sampler = new_sampler(Growing())
    trainer(PruningCallback(sampler), **changes).fit(
        Digits(), loader(sampler), DataLoader(dataset(), 50)
    )
    assert sampler.finished
    assert sampler.visits == sum(map(len, plain_visits(Growing())))


def warned(sampler: PruningSampler, module: Any = None, **kwargs: Any) -> list[str]:
    """What is said before the end of the first epoch or of the training."""
    val = DataLoader(dataset(), 50) if kwargs.pop("validates", True) else None
    names = {key: kwargs.pop(key) for key in ("val_loss", "val_accuracy") if key in kwargs}
    running = trainer(PruningCallback(sampler, **names), num_sanity_val_steps=2, **kwargs)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            running.fit(module or Digits(), loader(sampler), val)
        except RuntimeError as error:
            assert "was logged in this epoch" in str(error)
    sentences = [str(each.message) for each in seen]
    return [s for s in sentences if "ends the training" in s or "no validation" in s]


@pytest.mark.parametrize(("most", "warns"), [(2, True), (EPOCHS, False), (-1, False)])
def test_fewer_epochs_than_the_samplers_meet_a_warning(most: int, warns: bool) -> None:
    said = warned(new_sampler("dynamic_random"), max_epochs=most)
    wanted = [f"max_epochs={most} ends the training before the sampler's {EPOCHS} epochs"]
    assert [sentence.partition(":")[0] for sentence in said] == (wanted if warns else [])


@pytest.mark.parametrize("validates", [False, True])
def test_a_name_that_no_validation_logs_meets_a_warning_before_the_training(
    validates: bool,
) -> None:
    said = warned(new_sampler(), val_loss="loss", validates=validates)
    there = "val_loss" if validates else "none"
    assert len(said) == 1
    assert said[0].startswith(f"no validation logs 'loss'; there are {there}: unless")
    assert warned(new_sampler(), val_loss="val_loss") == []


def test_a_name_may_be_logged_by_the_training() -> None:
    class Own(Digits):
        def training_step(self, batch: Any, number: int) -> Any:
            self.log("own", 0.25, on_step=False, on_epoch=True, batch_size=16)
            return super().training_step(batch, number)

    sampler = new_sampler()
    assert len(warned(sampler, Own(), val_loss="own")) == 1
    assert sampler.finished
    assert float(sampler._metrics.val_loss[0]) == 0.25


@pytest.mark.parametrize("every", [2, None])
def test_val_values_of_every_epoch_need_validations_in_every_epoch(every: int | None) -> None:
    module, sampler = Digits(), new_sampler()
    seldom = {"check_val_every_n_epoch": every, "val_check_interval": 3 if every is None else 1.0}
    fitting = trainer(PruningCallback(sampler, val_loss="val_loss"), **seldom)
    with pytest.raises(ValueError, match=f"expected check_val_every_n_epoch=1, got {every}"):
        fitting.fit(module, loader(sampler), DataLoader(dataset(), 64))
    assert module.visits == []  # no epoch was trained
    trainer(PruningCallback(sampler), **seldom, max_epochs=1).fit(
        module, loader(sampler), DataLoader(dataset(), 64)
    )
    assert module.visits  # val values that nobody reads may be seldom


def test_val_values_of_every_epoch_need_no_clock() -> None:
    with pytest.raises(ValueError, match=r"as a share such as 1\.0, got a time"):
        fit(new_sampler(), val=DataLoader(dataset(), 50), val_check_interval="00:00:01:00")


def test_mistakes_meet_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="training_step returns a dict"):
        fit(new_sampler(), returns="")
    with pytest.raises(RuntimeError, match="no train loader draws from the callback's sampler"):
        trainer(PruningCallback(new_sampler())).fit(Digits(), loader(new_sampler()))
    with pytest.raises(ValueError, match='needs shares="sampler"'):
        fit(new_sampler(shares="framework"))
    with pytest.raises(ValueError, match="or a function that makes one, got 'x'"):
        PruningCallback("x")  # type: ignore[arg-type]
    made: Any = PruningCallback(lambda: "x")  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="adapter of Lightning takes a PruningSampler, got 'x'"):
        trainer(made).fit(Digits(), loader(new_sampler()))
    for count in (150, 250):
        with pytest.raises(ValueError, match=f"of {count} samples, the train data set is of 200"):
            fit(PruningSampler(count, Growing(), epochs=EPOCHS))
    with pytest.raises(RuntimeError, match="no 'loss' was logged in this epoch"):
        trainer(PruningCallback(sampler := new_sampler(), val_loss="loss")).fit(
            Digits(), loader(sampler)
        )


def test_without_the_callback_a_cached_length_is_an_error() -> None:
    class Selecting(Digits):
        def training_step(self, batch: Any, number: int) -> Any:
            found = super().training_step(batch, number)
            sampler.record(batch[0], found["logits"])
            return found

        def on_train_epoch_end(self) -> None:
            sampler.select()

    sampler = new_sampler(Growing())
    with pytest.raises(RuntimeError, match="the loader's length was cached"):
        trainer().fit(Selecting(), loader(sampler))


def test_a_sampler_may_be_made_by_the_callback() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callback = PruningCallback(lambda: new_sampler(Growing()))

        class Own(Digits):
            def train_dataloader(self) -> DataLoader:
                return loader(callback.sampler)

        with pytest.raises(RuntimeError, match="made when the training is set up"):
            _ = callback.sampler
        trainer(callback).fit(Own())
        assert callback.sampler.finished


@pytest.mark.slow
def test_two_processes_train_one_selection(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "helpers" / "lightning_ddp.py"
    paths = os.pathsep.join([str(script.parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    plain = plain_visits("dynamic_random")
    for mine, theirs, kept in zip(first["visits"], second["visits"], plain, strict=True):
        assert sorted(mine + theirs) == sorted(kept)
    assert first["charged"] == second["charged"] == 500
