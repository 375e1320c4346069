"""`PruningTrainer`: every epoch as long as it is, a complete schedule, an exact resume."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.digits import EPOCHS, Growing, N, digits, net, new_sampler, plain_visits
from torch import Tensor, nn

from dynprune_env import PruningSampler

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from dynprune_env.integrations.huggingface import PruningTrainer  # noqa: E402


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        x, y = digits()
        return {"x": x[index], "labels": int(y[index])}


class Model(nn.Module):
    def __init__(self, log: list[int] | None = None) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Noting(PruningTrainer):  # type: ignore[misc]
    """Notes what is trained, and the learning rates."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if "sample_index" in inputs:
            self.visits += inputs["sample_index"].tolist()
            self.rates.append(self.optimizer.param_groups[0]["lr"])
        return super().compute_loss(model, inputs, *args, **kwargs)


OF_THE_TRAINER = ("val_loss", "val_accuracy", "compute_metrics", "data_collator", "eval_dataset")


def trainer(sampler: PruningSampler, folder: Path, kind: Any = Noting, **changes: Any) -> Any:
    own = {key: changes.pop(key) for key in OF_THE_TRAINER if key in changes}
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "max_grad_norm": 0.0,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "logging_strategy": "no",
    }
    args = transformers.TrainingArguments(**{**defaults, **changes})
    data = {"train_dataset": Rows(), "eval_dataset": Rows()}
    found = kind(model=Model(), args=args, sampler=sampler, **{**data, **own})
    found.visits, found.rates = [], []
    return found


@pytest.mark.parametrize("agent", ["selective_backprop", "growing"])
def test_the_trainer_trains_what_a_plain_loop_trains(agent: str, tmp_path: Path) -> None:
    make: Any = Growing if agent == "growing" else lambda: agent
    sampler = new_sampler(make())
    running = trainer(sampler, tmp_path)
    running.train()
    assert sampler.finished
    plain = [i for epoch in plain_visits(make()) for i in epoch]
    assert running.visits == plain
    assert sampler.visits == len(plain)
    assert running.state.global_step == len(running.rates)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("agent", ["infobatch(delta=1.0)", "growing"])
def test_the_schedule_is_complete_however_fast_the_agent_spends(
    kind: str, agent: str, tmp_path: Path
) -> None:
    sampler = new_sampler(Growing() if agent == "growing" else agent, budget=0.3)
    running = trainer(sampler, tmp_path, lr_scheduler_type=kind)
    running.train()
    assert sampler.finished
    assert running.rates[0] == pytest.approx(0.1)
    assert running.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-3)
    assert running.rates == sorted(running.rates, reverse=True)


def test_warm_up_is_a_share_of_progress(tmp_path: Path) -> None:
    sampler = new_sampler("dynamic_random")
    running = trainer(sampler, tmp_path, lr_scheduler_type="linear", warmup_steps=0.2)
    running.train()
    assert running.rates[0] == 0
    assert running.rates.index(max(running.rates)) == pytest.approx(0.2 * len(running.rates), abs=2)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_accumulated_gradients_are_stepped_at_the_end_of_every_epoch(
    accumulated: int, tmp_path: Path
) -> None:
    sampler = new_sampler(Growing())
    running = trainer(sampler, tmp_path, gradient_accumulation_steps=accumulated)
    running.train()
    epochs = plain_visits(Growing())  # its sizes depend on no loss
    steps = sum(ceil(ceil(len(epoch) / 16) / accumulated) for epoch in epochs)
    assert running.state.global_step == steps


@pytest.mark.slow
@pytest.mark.parametrize("validates", [False, True])
def test_a_run_goes_on_from_any_checkpoint_exactly(validates: bool, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1}
    if validates:
        changes |= {"eval_strategy": "epoch", "val_loss": "eval_loss"}
    sampler = new_sampler(Growing())
    whole = trainer(sampler, tmp_path, **changes)
    whole.train()
    steps = whole.state.global_step
    for step in range(1, steps + 1):
        other = new_sampler(Growing())
        running = trainer(other, tmp_path / "other", **{**changes, "save_strategy": "no"})
        running.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        rest = running.visits
        assert rest == whole.visits[len(whole.visits) - len(rest) :]
        assert len(rest) <= len(whole.visits) - 8 * step
        assert (other.finished, other.visits) == (True, sampler.visits)
        assert running.model.net.weight.equal(whole.model.net.weight)
        assert running.state.global_step == steps
        assert float(other._metrics.val_loss[0]) == float(sampler._metrics.val_loss[0])


def test_a_run_goes_on_from_the_end_of_an_epoch_exactly(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "val_loss": "eval_loss",
    }
    sampler = new_sampler(Growing())
    whole = trainer(sampler, tmp_path, **changes)
    whole.train()
    folders = [*tmp_path.glob("checkpoint-*")]
    assert len(folders) == EPOCHS
    for folder in folders:
        other = new_sampler(Growing())
        running = trainer(other, tmp_path / "other", **{**changes, "save_strategy": "no"})
        running.train(resume_from_checkpoint=str(folder))
        assert (other.finished, other.visits) == (True, sampler.visits)
        assert running.model.net.weight.equal(whole.model.net.weight)
        assert float(other._metrics.val_loss[0]) == float(sampler._metrics.val_loss[0])


def test_an_evaluation_reaches_the_agent(tmp_path: Path) -> None:
    sampler = new_sampler(Growing())
    running = trainer(sampler, tmp_path, eval_strategy="epoch", val_loss="eval_loss")
    running.train()
    assert float(sampler._metrics.val_loss[0]) == pytest.approx(running.evaluate()["eval_loss"])


class Few(torch.utils.data.Subset):
    """The first ten."""

    def __init__(self) -> None:
        super().__init__(Rows(), range(10))


@pytest.mark.parametrize("name", ["a", "b"])
def test_each_of_several_evaluations_reaches_the_agent(name: str, tmp_path: Path) -> None:
    sampler = new_sampler(Growing())
    several = {"a": Few(), "b": Rows()}
    wanted = f"eval_{name}_loss"
    running = trainer(
        sampler, tmp_path, eval_strategy="epoch", eval_dataset=several, val_loss=wanted
    )
    running.train()
    assert float(sampler._metrics.val_loss[0]) == pytest.approx(running.evaluate()[wanted])


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_evaluation_of_an_earlier_epoch_is_never_used(goes_on: bool, tmp_path: Path) -> None:
    class Once(Noting):
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.epoch and self.state.epoch > 1:
                return {}
            return super().evaluate(*args, **kwargs)

    changes = {"eval_strategy": "epoch", "val_loss": "eval_loss", "save_strategy": "epoch"}
    folder: Any = None
    if goes_on:
        trainer(new_sampler(Growing()), tmp_path, **changes).train()
        folder = str(min(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name[11:])))
    running = trainer(new_sampler(Growing()), tmp_path / "other", Once, **changes)
    with pytest.raises(RuntimeError, match="no 'eval_loss' was logged in this epoch"):
        running.train(resume_from_checkpoint=folder)
    assert running.sampler.epoch == 1


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}


def test_an_accuracy_of_ones_own_reaches_the_agent(tmp_path: Path) -> None:
    sampler = new_sampler(Growing())
    names = {"val_accuracy": "eval_accuracy", "compute_metrics": accuracy}
    running = trainer(sampler, tmp_path, eval_strategy="epoch", **names)
    running.train()
    assert float(sampler._metrics.val_accuracy[0]) == running.evaluate()["eval_accuracy"]


def test_a_trainer_may_have_metrics_of_its_own(tmp_path: Path) -> None:
    class Own(Noting):
        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            found = super().evaluation_loop(*args, **kwargs)
            found.metrics["accuracy"] = 0.25
            return found

    sampler = new_sampler(Growing())
    trainer(sampler, tmp_path, Own, eval_strategy="epoch", val_accuracy="accuracy").train()
    assert float(sampler._metrics.val_accuracy[0]) == 0.25


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"val_loss": "loss"}, "metrics begin with eval_, got 'loss'"),
        (
            {"val_loss": "eval_loss", "eval_dataset": {"a": Few(), "b": Rows()}},
            "metrics begin with eval_a_ or eval_b_, got 'eval_loss'",
        ),
        ({"val_loss": "eval_loss", "eval_delay": 2}, "expected eval_delay=0, got 2"),
        ({"val_accuracy": "eval_accuracy"}, '"eval_accuracy" needs compute_metrics'),
        (
            {
                "val_accuracy": "eval_accuracy",
                "compute_metrics": accuracy,
                "prediction_loss_only": True,
            },
            "and prediction_loss_only=False",
        ),
    ],
)
def test_val_values_that_no_evaluation_would_give_are_refused(
    changes: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        trainer(new_sampler(), tmp_path, eval_strategy="epoch", **changes)


def test_a_collator_that_drops_the_index_is_refused_at_the_first_batch(tmp_path: Path) -> None:
    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {
            "x": torch.stack([row["x"] for row in rows]),
            "labels": torch.tensor([row["labels"] for row in rows]),
        }

    running = trainer(new_sampler(), tmp_path, data_collator=collate)
    with pytest.raises(ValueError, match=r"drops 'sample_index' .* in a batch, got x, labels"):
        running.train()
    assert running.state.global_step == 0


def test_weights_of_the_agent_reach_the_gradient(tmp_path: Path) -> None:
    weights = torch.ones(N)
    weights[::2] = 3
    sampler = new_sampler("full_data", budget=1.0, epochs=1, base_weights=weights)
    running = trainer(sampler, tmp_path, per_device_train_batch_size=N)
    running.train()
    x, y = digits()
    model = net()
    losses = nn.functional.cross_entropy(model(x), y, reduction="none")
    (losses * weights / weights.mean()).mean().backward()
    expected = model.weight - 0.1 * model.weight.grad
    assert torch.allclose(running.model.net.weight, expected, atol=1e-6)


def test_mistakes_meet_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_steps=5 leaves samples out"):
        trainer(new_sampler(), tmp_path, max_steps=5)
    with pytest.raises(ValueError, match="of 50 samples, the train data set is of 200"):
        trainer(PruningSampler(50, Growing(), epochs=2), tmp_path)
    with pytest.raises(ValueError, match="adapter of transformers takes a PruningSampler, got 'x'"):
        trainer("x", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no 'eval_x_loss' was logged in this epoch"):
        trainer(new_sampler(), tmp_path, val_loss="eval_x_loss", eval_strategy="epoch").train()
    for seldom in ({}, {"eval_strategy": "steps", "eval_steps": 2}):
        with pytest.raises(ValueError, match=r'expected eval_strategy="epoch", got "(no|steps)"'):
            trainer(new_sampler(), tmp_path, val_accuracy="eval_accuracy", **seldom)
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(ValueError):
        trainer(new_sampler(), tmp_path).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-1")
        )
