"""An ordinary training loop; `pruned_loop.py` is the same with a `PruningSampler`."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
dataset = TensorDataset(x[:1300], y[:1300])
loader = DataLoader(dataset, batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20 * len(loader))

for _ in range(20):
    for inputs, labels in loader:
        logits = model(inputs)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()

accuracy = (model(x[1300:]).argmax(1) == y[1300:]).float().mean().item()
print(f"test accuracy {accuracy:.1%}")
