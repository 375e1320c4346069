"""What a `PruningSampler` costs in a plain loop, and what streaming costs per visit.

Three loops on CIFAR10Small's data, model and batches take turns, epoch by epoch, in one process,
so that a busy machine slows all alike: shuffled without a sampler, with the sampler that keeps all,
and with the sampler that keeps half. Then the train images are read in batches from the device and
as streams of a map-style data set, and nothing else is done with them.

    python -m benchmarks.sampler_cost                              # about ten minutes on one core
    python -m benchmarks.sampler_cost --samples 4000 --rounds 2    # to see that it works
"""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch.utils.data import DataLoader, TensorDataset

import dynprune_agents
from benchmarks.speed.clock import take_turns
from dynprune_env import Indexed, PruningSampler
from dynprune_env.tasks.datasets import Split
from dynprune_env.tasks.inputs import Streamed
from dynprune_env.tasks.models import make_model
from dynprune_env.tasks.registry import TASKS, Task
from dynprune_env.tasks.variants import Variant, load_dataset
from dynprune_env.training.loading import input_table


def clock(device: torch.device) -> float:
    """CPU seconds of this process, or wall-clock seconds after a GPU's work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Loop:
    """An ordinary training loop, with or without a sampler."""

    def __init__(
        self, task: Task, data: Split, device: torch.device, sampler: PruningSampler | None
    ):
        source, self.recipe = task.info, task.recipe
        dataset = TensorDataset(data.inputs, data.labels)
        self.sampler, self.device = sampler, device
        self.loader: DataLoader = DataLoader(
            dataset if sampler is None else Indexed(dataset),
            self.recipe.batch_size,
            shuffle=sampler is None,
            sampler=sampler,
        )
        self.model = make_model(task.model, source.input_shape, source.num_classes).to(
            device, memory_format=torch.channels_last
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, 0.9, nesterov=True)
        shape = (1, -1, 1, 1)
        self.mean = torch.tensor(source.mean, device=device).view(shape) * 255
        self.std = torch.tensor(source.std, device=device).view(shape) * 255

    def epoch(self) -> None:
        """Trains one pass; with a sampler it records every batch and selects at the end."""
        for batch in self.loader:
            indices, (images, labels) = (None, batch) if self.sampler is None else batch
            x = (images.to(self.device).float() - self.mean) / self.std
            logits = self.model(x.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits, labels.to(self.device)).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.sampler is not None:
                self.sampler.record(indices, logits)
        if self.sampler is not None:
            self.sampler.select()


def main(
    samples: Annotated[int, typer.Option(help="Train samples, at most 45,000.")] = 45_000,
    rounds: Annotated[int, typer.Option(help="Epochs of each kind.")] = 5,
    threads: int = 1,
    workers: int = 1,
    device: str = "cpu",
) -> None:
    """Prints seconds per epoch, their ratios, and microseconds per visit of reading."""
    torch.set_num_threads(threads)
    where, task = torch.device(device), TASKS["CIFAR10Small"]
    on_host = torch.device("cpu")
    data = load_dataset(task.info, Variant(train_size=samples), None, False, on_host).train

    def sampler(agent: str, budget: float) -> PruningSampler:
        return PruningSampler(
            data.labels, dynprune_agents.make(agent), epochs=rounds + 1, budget=budget
        )

    loops = {
        "no sampler, 100 %": Loop(task, data, where, None),
        "sampler, 100 %": Loop(task, data, where, sampler("full_data", 1.0)),
        "sampler, 50 %": Loop(task, data, where, sampler("dynamic_random", 0.5)),
    }
    seconds = take_turns(
        {name: loop.epoch for name, loop in loops.items()}, rounds, partial(clock, where)
    )
    reference = seconds["no sampler, 100 %"]
    for name, values in seconds.items():
        ratio = np.median(values / reference)
        print(f"{name:18} median {np.median(values):7.3f} s per epoch, ratio {ratio:.3f}")

    size, pairs = task.recipe.batch_size, TensorDataset(data.inputs, data.labels)
    tables = {
        "from the device": input_table(data.inputs.to(where), task.info),
        **{
            f"streamed, {k} workers": input_table(Streamed(pairs, k).to(where), task.info)  # type: ignore[arg-type]
            for k in (0, workers)
        },
    }
    order = torch.randperm(samples).to(where)

    def read(name: str) -> None:
        for _ in tables[name].batches(order, size):
            pass

    reading = take_turns({name: partial(read, name) for name in tables}, rounds, time.perf_counter)
    for name, values in reading.items():
        print(f"reading, {name:20} median {np.median(values) / samples * 1e6:6.2f} µs per visit")
    print(
        f"{samples:,} samples, {rounds} rounds, {threads} thread(s), {device}, {torch.__version__}"
    )


if __name__ == "__main__":
    typer.run(main)
