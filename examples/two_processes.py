"""Two processes train one selection with DistributedDataParallel (gloo, on one machine).

On GPUs it is the same with the backend "nccl" and one process per GPU, started by torchrun.
"""

import os
import tempfile

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import dynprune_agents
from dynprune_env import Indexed, PruningSampler


def main(rank: int, world_size: int, file: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world_size)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    sampler = PruningSampler(y[:1300], dynprune_agents.make("learned"), epochs=20, budget=0.5)
    dataset = Indexed(TensorDataset(x[:1300], y[:1300]))
    loader = DataLoader(dataset, batch_size=32, sampler=sampler)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    while not sampler.finished:
        for indices, (inputs, labels) in loader:
            logits = model(inputs)
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            sampler.record(indices, logits)
        sampler.select()
    accuracy = (net(x[1300:]).argmax(1) == y[1300:]).float().mean().item()
    if rank == 0:
        print(f"test accuracy {accuracy:.1%}, {sampler.visits:,} visits in {world_size} processes")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "init")
        torch.multiprocessing.spawn(main, args=(2, file), nprocs=2)
