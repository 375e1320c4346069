"""GraNd: the norm of a sample's gradient.

Paul, Ganguli, Dziugaite (NeurIPS 2021), "Deep Learning on a Data Diet", arXiv:2107.07075: the
expected norm of the per-sample gradient of the loss, early in training, averaged over several nets.
A sample's gradient is charged as a visit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from dynprune_agents._agent import check_shares
from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


def gradient_norms(model: nn.Module, inputs: Tensor, labels: Tensor) -> np.ndarray:
    """Norm of each sample's gradient over all parameters, (B,) float32; evaluation mode."""
    parameters = {name: value.detach() for name, value in model.eval().named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(parameters: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (parameters, buffers), (x[None],))
        return nn.functional.cross_entropy(logits, label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels)
    squares = [value.flatten(1).square().sum(1) for value in gradients.values()]
    return torch.stack(squares).sum(0).sqrt().cpu().numpy()


@dataclass
class GraNd(StaticAgent):
    """Keeps the highest early gradient norms, averaged over nets (Paul et al. 2021).

    Attributes:
        nets: how many nets are averaged (the paper's 10).
        early: share of a full run after which the score is taken, in [0, 1]; 0 is initialisation.
        chunk: samples whose gradients are held at a time; None for as many as 64 MB hold.
    """

    nets: int = 10
    early: float = 0.1
    chunk: int | None = None

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares(early=self.early)
        if self.nets < 1 or (self.chunk is not None and self.chunk < 1):
            raise ValueError(f"nets and chunk are at least 1, got {self.nets} and {self.chunk}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The mean norm."""
        total = np.zeros((len(runs.visits), runs.num_samples))
        for net in range(self.nets):
            list(runs.run(net, round(self.early * runs.epochs)))
            rows = []
            for model in runs.models():
                size = sum(parameter.numel() for parameter in model.parameters())
                batches = runs.batches(self.chunk or max(1, 2**24 // size))
                rows.append(np.concatenate([gradient_norms(model, x, y) for x, y in batches]))
            runs.charge(1.0)
            total += np.stack(rows)
        return runs.as_observed(total / self.nets)
