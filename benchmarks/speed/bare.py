"""Loops without an environment: hand-tuned ones, and the ones that one would write today."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from dynprune_env.envs.env import DynPruneEnv
from dynprune_env.tasks.models import make_model


class Bare:
    """A hand-tuned loop on an environment's data, model and recipe: no statistics, no budget.

    Images lie on the device as padded uint8; crop, flip and normalisation are indexing and three
    operations; channels last and bf16 where the environment uses them; fused SGD.
    """

    def __init__(self, env: DynPruneEnv):
        task, trainer = env.settings.resolved, env.vector.trainer
        self.recipe, self.device = task.recipe, trainer.device
        self.bf16 = env.settings.use_bf16(trainer.device)
        source = task.info
        self.model = make_model(task.model, source.input_shape, source.num_classes).to(self.device)
        self.layout = torch.contiguous_format
        if len(source.input_shape) == 3 and not task.model.startswith("mlp"):
            self.layout = torch.channels_last
            self.model = self.model.to(memory_format=self.layout)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=0.1,
            momentum=self.recipe.momentum,
            nesterov=True,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        data = trainer.dataset
        self.train, self.val = data.train, data.val
        self.crop = self.recipe.augmentation.crop
        self.windows = self.train.inputs
        if self.crop:
            height, width = source.input_shape[-2:]
            padded = F.pad(self.train.inputs, [self.crop] * 4)
            self.windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        self.mean = torch.tensor(source.mean or [0.0], device=self.device).view(-1, 1, 1)
        self.std = torch.tensor(source.std or [1.0], device=self.device).view(-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32."""
        if x.dtype == torch.uint8:
            x = (x.float() / 255 - self.mean) / self.std
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(x.contiguous(memory_format=self.layout)).float()

    def epoch(self, mask: np.ndarray) -> None:
        """One pass over the kept samples, then the val split."""
        order = torch.randperm(len(self.train))
        order = order[torch.from_numpy(mask)[order]].to(self.device)
        self.model.train()
        if self.crop:
            shifts = torch.randint(2 * self.crop + 1, (len(order), 2), device=self.device)
            flips = torch.rand(len(order), device=self.device) < 0.5
            batches = zip(
                order.split(self.recipe.batch_size),
                shifts.split(self.recipe.batch_size),
                flips.split(self.recipe.batch_size),
                strict=True,
            )
            for ids, shift, flip in batches:
                x = self.windows[ids, :, shift[:, 0], shift[:, 1]]
                x = torch.where(flip[:, None, None, None], x.flip(-1), x)
                self.step(x, self.train.labels[ids])
        else:
            x, y = self.windows[order], self.train.labels[order]
            for xs, ys in zip(
                x.split(self.recipe.batch_size), y.split(self.recipe.batch_size), strict=True
            ):
                self.step(xs, ys)
        self.evaluate()

    def step(self, x: Tensor, y: Tensor) -> None:
        """One gradient step."""
        loss = F.cross_entropy(self.forward(x), y, label_smoothing=self.recipe.label_smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Val loss and accuracy."""
        self.model.eval()
        logits = torch.cat([self.forward(x) for x in self.val.inputs.split(1024)])
        right = (logits.argmax(1) == self.val.labels).float().mean()
        return float(F.cross_entropy(logits, self.val.labels)), float(right)


class PictureSet(Dataset):
    """As torchvision's data sets: a PIL image, its transform, its label, and its index."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[object], Tensor]):
        from PIL import Image

        self.pictures = [Image.fromarray(each) for each in images.permute(0, 2, 3, 1).numpy()]
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.transform(self.pictures[index]), self.labels[index], index


class Subset(Sampler):
    """The kept samples in random order; the set can be changed between epochs."""

    def __init__(self, n: int):
        self.kept = np.arange(n)

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.permutation(self.kept).tolist())

    def __len__(self) -> int:
        return len(self.kept)


class Loader(Bare):
    """What one would write today: a DataLoader with torchvision's transforms, float32.

    Args:
        env: gives data, model and recipe.
        tuned: whether the model runs in channels last and bf16 as the environment's does.
    """

    def __init__(self, env: DynPruneEnv, tuned: bool):
        super().__init__(env)
        if not tuned:
            self.bf16, self.layout = False, torch.contiguous_format
            self.model = self.model.to(memory_format=self.layout)
        source = env.settings.resolved.info
        normalise = [transforms.ToTensor(), transforms.Normalize(source.mean, source.std)]
        size = source.input_shape[-1]
        crop = [transforms.RandomCrop(size, padding=self.crop), transforms.RandomHorizontalFlip()]
        images, labels = self.train.inputs, self.train.labels
        self.subset = Subset(len(labels))
        self.loader = DataLoader(
            PictureSet(images, labels, transforms.Compose(crop + normalise)),
            batch_size=self.recipe.batch_size,
            sampler=self.subset,
        )
        self.plain = DataLoader(
            PictureSet(images, labels, transforms.Compose(normalise)), batch_size=1024
        )
        self.tests = DataLoader(
            PictureSet(self.val.inputs, self.val.labels, transforms.Compose(normalise)),
            batch_size=1024,
        )
        self.scores = torch.full((len(labels),), 3.0)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Val loss and accuracy."""
        self.model.eval()
        parts = [(self.forward(x), y) for x, y, _ in self.tests]
        logits, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        right = (logits.argmax(1) == labels).float().mean()
        return float(F.cross_entropy(logits, labels)), float(right)

    @torch.no_grad()
    def score(self) -> None:
        """A forward pass over all samples."""
        self.model.eval()
        for x, y, index in self.plain:
            self.scores[index] = F.cross_entropy(self.forward(x), y, reduction="none")

    def scored_epoch(self, share: float) -> None:
        """Scores all, trains on the share with the highest losses, evaluates."""
        self.score()
        self.subset.kept = self.scores.topk(round(share * len(self.scores))).indices.numpy()
        self.model.train()
        for x, y, _ in self.loader:
            self.step(x, y)
        self.evaluate()

    def infobatch_epoch(self, r: float = 0.5) -> int:
        """The steps of the authors' loop (Qin et al. 2024), written anew.

        Prunes by the scores at the epoch's start: a share r of those below the mean, the rest of
        them weighted by 1 / (1 - r); looks up the weights of each batch; writes its losses into
        the scores on the host, which waits for every batch.

        Returns:
            How many samples were kept.
        """
        easy = (self.scores < self.scores.mean()).numpy()
        ids = np.flatnonzero(easy)
        kept = np.random.choice(ids, int((1 - r) * len(ids)), replace=False)
        weights = torch.ones(len(self.scores))
        weights[kept] = 1 / (1 - r)
        self.subset.kept = np.concatenate([kept, np.flatnonzero(~easy)])
        self.model.train()
        for x, y, index in self.loader:
            losses = F.cross_entropy(self.forward(x), y, reduction="none")
            self.scores[index] = losses.detach().cpu()
            (losses * weights[index]).mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.evaluate()
        return len(self.subset)
