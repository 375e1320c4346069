"""transformers on Digits at half of the visits; `resume_from_checkpoint` goes on exactly."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import TrainingArguments

import dynprune_agents
from dynprune_env import PruningSampler
from dynprune_env.integrations.huggingface import PruningTrainer

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
sampler = PruningSampler(y[:1300], dynprune_agents.make("epsilon_greedy"), epochs=20, budget=0.5)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, inputs, labels):
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


rows = [{"inputs": x[i], "labels": y[i]} for i in range(1300)]
args = TrainingArguments(
    per_device_train_batch_size=64, learning_rate=0.01, report_to=[], save_strategy="no"
)
trainer = PruningTrainer(model=Net(), args=args, train_dataset=rows, sampler=sampler)
trainer.train()
logits = trainer.model.net.cpu()(x[1300:])
print(f"test accuracy {(logits.argmax(1) == y[1300:]).float().mean():.1%}")
