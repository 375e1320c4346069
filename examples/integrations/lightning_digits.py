"""Lightning trains Digits at half of the visits; `fit(ckpt_path=...)` goes on exactly."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dynprune_agents
from dynprune_env import Indexed, PruningSampler, progress_scheduler
from dynprune_env.integrations.lightning import PruningCallback

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
sampler = PruningSampler(y[:1300], dynprune_agents.make("epsilon_greedy"), epochs=20, budget=0.5)
loader = DataLoader(Indexed(TensorDataset(x[:1300], y[:1300])), 64, sampler=sampler)


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, number):
        _, (inputs, labels) = batch
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, nesterov=True)
        schedule = {"scheduler": progress_scheduler(optimizer, sampler), "interval": "step"}
        return [optimizer], [schedule]


net, callbacks = Net(), [PruningCallback(sampler)]
lightning.Trainer(max_epochs=20, callbacks=callbacks, accelerator="cpu").fit(net, loader)
print(f"test accuracy {(net.net(x[1300:]).argmax(1) == y[1300:]).float().mean():.1%}")
