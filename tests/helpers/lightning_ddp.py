"""Two processes of Lightning train one selection; each prints what it visited as JSON."""

from __future__ import annotations

import json
import sys

import lightning as L
import torch
from torch.utils.data import DataLoader

from dynprune_env import Indexed
from dynprune_env.integrations.lightning import PruningCallback
from helpers.digits import dataset, net, new_sampler

callback = PruningCallback(lambda: new_sampler("dynamic_random"))


class Digits(L.LightningModule):
    """Trains Digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.visits = net(), []

    def train_dataloader(self) -> DataLoader:
        """Made once the processes run."""
        return DataLoader(Indexed(dataset()), 16, sampler=callback.sampler)

    def on_train_epoch_start(self) -> None:
        self.visits.append([])

    def training_step(self, batch: tuple, number: int) -> dict:
        """Notes the samples."""
        ids, (inputs, labels) = batch
        logits = self.net(inputs)
        self.visits[-1] += ids.tolist()
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


torch.set_num_threads(1)
module = Digits()
trainer = L.Trainer(
    max_epochs=5,
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[callback],
    default_root_dir=sys.argv[1],
)
trainer.fit(module)
with open(f"{sys.argv[1]}/{trainer.global_rank}.json", "w") as file:
    json.dump({"visits": module.visits, "charged": callback.sampler.visits}, file)
