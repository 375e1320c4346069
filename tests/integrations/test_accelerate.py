"""accelerate, in one process and in two: every process trains its own share, once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.digits import Growing, dataset, net, new_sampler, plain_visits
from torch.utils.data import DataLoader, Subset

from dynprune_env import Indexed, PruningSampler

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

from dynprune_env.integrations.accelerate import prepare_loader  # noqa: E402
from dynprune_env.integrations.loaders import SamplerStates  # noqa: E402


def train(
    folder: Path, agent: Any = "dynamic_random", stop: int | None = None, how: str = "adapter"
) -> dict[str, Any]:
    """Visits of this process by epoch; goes on from a saved state after `stop` batches."""

    def start() -> tuple[Any, ...]:
        accelerator = accelerate.Accelerator(cpu=True)
        player = Growing() if agent == "growing" else agent
        shares = "framework" if how == "framework" else "sampler"
        sampler = new_sampler(player, shares=shares)
        loader = DataLoader(Indexed(dataset()), 16, sampler=sampler)
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model, optimizer = accelerator.prepare(model, optimizer)
        if how == "adapter":
            loader = prepare_loader(accelerator, loader)
        else:
            loader = accelerator.prepare(loader)
            accelerator.register_for_checkpointing(SamplerStates(sampler))
        return accelerator, sampler, loader, model, optimizer

    accelerator, sampler, loader, model, optimizer = start()
    visits: list[list[int]] = []
    batches = 0
    while not sampler.finished:
        visits.append([])
        again = True
        while again:
            again = False
            for ids, (inputs, labels) in loader:
                logits = model(inputs)
                accelerator.backward(torch.nn.functional.cross_entropy(logits, labels))
                optimizer.step()
                optimizer.zero_grad()
                sampler.record(ids, logits)
                visits[-1] += ids.tolist()
                batches += 1
                if batches == stop:
                    accelerator.save_state(str(folder))
                    accelerator, sampler, loader, model, optimizer = start()
                    accelerator.load_state(str(folder))
                    again = True
                    break
        sampler.select()
    return {"visits": visits, "charged": sampler.visits}


@pytest.mark.parametrize("agent", ["selective_backprop", "growing"])
@pytest.mark.parametrize("stop", [None, 5])
def test_one_process_trains_what_a_plain_loop_trains(
    agent: str, stop: int | None, tmp_path: Path
) -> None:
    plain = plain_visits(Growing() if agent == "growing" else agent)
    assert train(tmp_path, agent, stop)["visits"] == plain


def two(tmp_path: Path, *jobs: dict[str, Any]) -> list[tuple[Any, Any]]:
    """What both processes say of each job."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(2):
        spots = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        places = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        found = {**os.environ, **{name: str(value) for name, value in (spots | places).items()}}
        found["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        running.append(
            subprocess.Popen(
                [sys.executable, __file__, str(tmp_path), json.dumps(jobs)],
                env=found,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    output = [process.communicate(timeout=150) for process in running]
    assert [process.returncode for process in running] == [0, 0], output
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in output)
    return [*zip(first, second, strict=True)]


@pytest.mark.slow
def test_two_processes_train_one_selection(tmp_path: Path) -> None:
    jobs: list[dict[str, Any]] = [
        {},
        {"stop": 5},
        {"how": "framework"},
        {"how": "framework", "stop": 5},
        {"how": "nothing"},
    ]
    own, resumed, dealt, dealt_on, wrong = two(tmp_path, *jobs)
    plain = plain_visits("dynamic_random")
    for first, second in (own, resumed):
        for mine, theirs, kept in zip(first["visits"], second["visits"], plain, strict=True):
            assert sorted(mine + theirs) == sorted(kept)
        assert first["charged"] == second["charged"] == 500
    assert resumed == own
    for first, second in (dealt, dealt_on):
        for mine, theirs, kept in zip(first["visits"], second["visits"], plain, strict=True):
            assert set(mine) | set(theirs) == set(kept)
            assert len(mine) == len(theirs) <= 64  # batches filled up with repeated samples
        assert first["charged"] == second["charged"] == 500
    for each in wrong:
        assert "of the 50 samples that this epoch handed out were recorded" in each["error"]
        assert "another sampler or loader dealt the samples out again" in each["error"]


def test_a_loader_that_does_not_fit_is_refused() -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    with pytest.raises(ValueError, match=r"draws from <torch\.utils\.data\.sampler\.Sequential"):
        prepare_loader(accelerator, DataLoader(dataset()))
    prepared = accelerator.prepare(DataLoader(Indexed(dataset()), sampler=new_sampler()))
    with pytest.raises(ValueError, match="was prepared already"):
        prepare_loader(accelerator, prepared)
    loader = DataLoader(Indexed(dataset()), sampler=new_sampler(shares="framework"))
    with pytest.raises(ValueError, match='accelerate needs shares="sampler"'):
        prepare_loader(accelerator, loader)
    for count in (150, 250):
        sampler = PruningSampler(count, Growing(), epochs=2)
        with pytest.raises(ValueError, match=f"of {count} samples, the train data set is of 200"):
            prepare_loader(accelerator, DataLoader(Indexed(dataset()), sampler=sampler))


class Endless:
    """It has no length."""

    def __getitem__(self, index: int) -> Any:
        return dataset()[index]


@pytest.mark.parametrize(
    ("data", "count"), [(Endless(), 200), (Subset(dataset(), range(150)), 150)], ids=["none", "150"]
)
def test_a_data_set_of_the_samplers_length_or_of_none_is_taken(data: Any, count: int) -> None:
    sampler = PruningSampler(count, Growing(), epochs=2)
    loader = DataLoader(Indexed(data), 16, sampler=sampler)
    assert len([*prepare_loader(accelerate.Accelerator(cpu=True), loader)]) == len(loader)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, jobs = sys.argv[1:]
    messages: list[Any] = []
    for number, job in enumerate(json.loads(jobs)):
        try:
            messages.append(train(Path(folder) / str(number), **job))
        except (RuntimeError, ValueError) as error:
            messages.append({"error": str(error)})
    print(json.dumps(messages))
