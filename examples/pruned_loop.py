"""The loop of `plain_loop.py`, in which an agent chooses half of the visits."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dynprune_agents
from dynprune_env import Indexed, PruningSampler

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
dataset = TensorDataset(x[:1300], y[:1300])
agent = dynprune_agents.make("epsilon_greedy")
sampler = PruningSampler(y[:1300], agent, epochs=20, budget=0.5)
loader = DataLoader(Indexed(dataset), batch_size=64, sampler=sampler)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sampler.steps_remaining(64))

while not sampler.finished:
    for indices, (inputs, labels) in loader:
        logits = model(inputs)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        sampler.record(indices, logits)
    sampler.select()

accuracy = (model(x[1300:]).argmax(1) == y[1300:]).float().mean().item()
print(f"test accuracy {accuracy:.1%}")
