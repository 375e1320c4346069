"""Where the agent weighs, the loss is the Trainer's with weights, whatever makes that up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.digits import N, digits, net, new_sampler
from torch import Tensor, nn

import dynprune_agents
from dynprune_env import PruningSampler

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from dynprune_env.integrations.huggingface import PruningTrainer  # noqa: E402

WEIGHTS = torch.ones(N).double()
WEIGHTS[::2] = 3
MEAN_ONE = WEIGHTS / WEIGHTS.mean()


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        x, y = digits()
        return {"x": x[index], "labels": int(y[index])}


class Classifier(nn.Module):
    """Its loss is a sum over all accumulated batches where it is told how many labels they have."""

    accepts_loss_kwargs = True

    def __init__(self) -> None:
        super().__init__()
        self.net, self.config = net(), SimpleNamespace(problem_type=None)

    def forward(self, x: Tensor, labels: Any = None, num_items_in_batch: Any = None) -> Any:
        logits = self.net(x)
        if labels is None:
            return {"logits": logits}
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return {"loss": loss / (num_items_in_batch or len(x)), "logits": logits}


class ByMeans(Classifier):
    """Its loss is the mean over a batch."""

    accepts_loss_kwargs = False


def arguments(folder: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": N,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return transformers.TrainingArguments(**{**settings, **changes})


def one_epoch(
    args: Any, model: nn.Module | None = None, kind: type = PruningTrainer, **kwargs: Any
) -> Any:
    """The weights after an epoch of all samples, trained with weights 3 and 1 in turn."""
    sampler = new_sampler("full_data", budget=1.0, epochs=1, base_weights=WEIGHTS)
    trainer = kind(
        model=model or Classifier(), args=args, train_dataset=Rows(), sampler=sampler, **kwargs
    )
    trainer.train()
    return trainer.model.net.weight.detach()


def expected(smoothing: float = 0.0) -> Tensor:
    """After one step of gradient descent on the weighted mean of all."""
    x, y = digits()
    model = net()
    losses = nn.functional.cross_entropy(model(x), y, reduction="none", label_smoothing=smoothing)
    (losses * MEAN_ONE).mean().backward()
    return (model.weight - 0.1 * model.weight.grad).detach()


@pytest.mark.parametrize("model", [Classifier, ByMeans])
@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_weighted_mean_with_the_label_smoothing_of_the_arguments(
    model: Any, accumulated: int, smoothing: float, tmp_path: Path
) -> None:
    args = arguments(
        tmp_path,
        per_device_train_batch_size=N // accumulated,
        gradient_accumulation_steps=accumulated,
        label_smoothing_factor=smoothing,
    )
    assert torch.allclose(one_epoch(args, model()), expected(smoothing), atol=1e-6)


class Told(PruningTrainer):  # type: ignore[misc]
    """Notes its losses and the Trainer's, as if it were one of two processes."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        cls = type(self.accelerator)
        kept, cls.num_processes = cls.num_processes, property(lambda _: 2)
        try:
            loss: Any = super().compute_loss(*args, **kwargs)
        finally:
            cls.num_processes = kept
        losses.append(loss.item())
        return loss


losses: list[float] = []


@pytest.mark.parametrize(("averages", "times"), [(True, 2), (False, 1)])
def test_counts_of_all_processes_are_made_up_for(
    averages: bool, times: int, tmp_path: Path
) -> None:
    """Each process's gradient is averaged, while the counts are of all: as `Trainer` does it."""
    losses.clear()
    one_epoch(arguments(tmp_path, average_tokens_across_devices=averages), kind=Told)
    x, y = digits()
    plain = nn.functional.cross_entropy(net()(x), y, reduction="none")
    assert losses == [pytest.approx(times * (plain * MEAN_ONE).mean().item(), rel=1e-5)]


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    found = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    found["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env={**found, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    output = [process.communicate(timeout=200) for process in running]
    assert [process.returncode for process in running] == [0, 0], output
    for out, _ in output:
        for weights in json.loads(out.splitlines()[-1]):
            assert torch.allclose(torch.tensor(weights), expected(), atol=1e-6)


class Tokens(Classifier):
    """Says the class of every sample at as many places as its index has units, from its start."""

    def forward(self, x: Tensor, labels: Any = None, num_items_in_batch: Any = None) -> Any:
        logits = self.net(x)[:, None].expand(-1, labels.shape[1], -1)
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="sum")
        return {"loss": loss / num_items_in_batch, "logits": logits}


class Texts(Rows):
    def __getitem__(self, index: int) -> dict[str, Any]:
        row = super().__getitem__(index)
        length = 1 + index % 4
        return {"x": row["x"], "labels": [row["labels"]] * length + [-100] * (4 - length)}


class OfTokens(PruningTrainer):  # type: ignore[misc]
    def sample_losses(self, inputs: Any, outputs: Any) -> Tensor:
        labels = inputs["labels"]
        losses = nn.functional.cross_entropy(
            outputs["logits"].transpose(1, 2), labels, reduction="none"
        )
        return losses.sum(1) / labels.ne(-100).sum(1)


def test_long_samples_count_by_their_labels_as_in_the_trainer(tmp_path: Path) -> None:
    sampler = new_sampler("full_data", budget=1.0, epochs=1, base_weights=WEIGHTS)
    trainer = OfTokens(
        model=Tokens(), args=arguments(tmp_path), train_dataset=Texts(), sampler=sampler
    )
    trainer.train()
    x, y = digits()
    model, lengths = net(), 1 + torch.arange(N) % 4
    each = nn.functional.cross_entropy(model(x), y, reduction="none") * lengths * MEAN_ONE
    (each.sum() / lengths.sum()).backward()
    wanted = model.weight - 0.1 * model.weight.grad
    assert torch.allclose(trainer.model.net.weight, wanted.float(), atol=1e-6)


class OwnLoss(Classifier):
    def forward(self, x: Tensor, labels: Any = None, num_items_in_batch: Any = None) -> Any:
        found = super().forward(x, labels, num_items_in_batch)
        return {**found, "loss": 2 * found["loss"] + 1}


def test_a_loss_that_samples_do_not_make_up_is_refused_where_the_agent_weighs(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="compute_loss_func gives their sum alone"):
        one_epoch(arguments(tmp_path), compute_loss_func=lambda *_, **__: torch.zeros(()))
    with pytest.raises(ValueError, match=r"whose mean is .*, but the loss of the model is"):
        one_epoch(arguments(tmp_path), OwnLoss())


@pytest.mark.parametrize("agent", ["infobatch", "importance_sampling"])
def test_an_agent_that_will_weigh_is_known_before_it_does(agent: str, tmp_path: Path) -> None:
    for name, weighs in ((agent, True), ("dynamic_random", False)):
        assert new_sampler(name).weighs is weighs
    with pytest.raises(ValueError, match="compute_loss_func gives their sum alone"):
        PruningTrainer(
            model=Classifier(),
            args=arguments(tmp_path),
            train_dataset=Rows(),
            sampler=new_sampler(agent),
            compute_loss_func=lambda *_, **__: torch.zeros(()),
        )


def test_a_loss_of_ones_own_is_trained_where_the_agent_does_not_weigh(tmp_path: Path) -> None:
    def nothing(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        return 0 * outputs["logits"].sum()

    trainer = PruningTrainer(
        model=Classifier(),
        args=arguments(tmp_path),
        train_dataset=Rows(),
        sampler=new_sampler("dynamic_random"),
        compute_loss_func=nothing,
    )
    trainer.train()
    assert trainer.model.net.weight.equal(net().weight)


def test_the_losses_of_samples_are_made_once(tmp_path: Path) -> None:
    calls = []

    class Counting(PruningTrainer):  # type: ignore[misc]
        def sample_losses(self, inputs: Any, outputs: Any) -> Tensor:
            calls.append(len(inputs["labels"]))
            return super().sample_losses(inputs, outputs)

    agent = dynprune_agents.make("full_data")
    sampler = PruningSampler(N, agent, budget=1.0, epochs=1, base_weights=WEIGHTS)
    args = arguments(tmp_path)
    Counting(model=Classifier(), args=args, train_dataset=Rows(), sampler=sampler).train()
    assert calls == [N]  # recorded, since there are no classes, and weighed


if __name__ == "__main__":
    torch.set_num_threads(1)
    half = {"per_device_train_batch_size": N // 2, "ddp_backend": "gloo"}
    print(
        json.dumps(
            [
                one_epoch(
                    arguments(Path(sys.argv[1]), **half, average_tokens_across_devices=averages),
                    kind_of_model(),
                ).tolist()
                for averages in (True, False)
                for kind_of_model in (Classifier, ByMeans)
            ]
        )
    )
