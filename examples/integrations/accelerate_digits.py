"""accelerate trains Digits at half of the visits; `accelerator.load_state` goes on exactly."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dynprune_agents
from dynprune_env import Indexed, PruningSampler, progress_scheduler
from dynprune_env.integrations.accelerate import prepare_loader

torch.manual_seed(0)
accelerator = Accelerator(cpu=True)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
sampler = PruningSampler(y[:1300], dynprune_agents.make("epsilon_greedy"), epochs=20, budget=0.5)
loader = DataLoader(Indexed(TensorDataset(x[:1300], y[:1300])), 64, sampler=sampler)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
model, optimizer = accelerator.prepare(model, optimizer)
loader = prepare_loader(accelerator, loader)
scheduler = progress_scheduler(optimizer, sampler)

while not sampler.finished:
    for indices, (inputs, labels) in loader:
        logits = model(inputs)
        accelerator.backward(nn.functional.cross_entropy(logits, labels))
        optimizer.step()
        optimizer.zero_grad()
        sampler.record(indices, logits)
        scheduler.step()
    sampler.select()

accuracy = (model(x[1300:]).argmax(1) == y[1300:]).float().mean().item()
print(f"test accuracy {accuracy:.1%}")
