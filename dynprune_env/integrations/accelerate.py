"""accelerate: a loader that is not dealt out a second time, and a sampler in its checkpoints.

    accelerator = Accelerator()
    sampler = PruningSampler(labels, agent, epochs=20, budget=0.5)  # after Accelerator()
    loader = DataLoader(Indexed(dataset), 64, sampler=sampler)
    model, optimizer = accelerator.prepare(model, optimizer)
    loader = prepare_loader(accelerator, loader)  # instead of accelerator.prepare(loader)

The loop is a plain one: `sampler.record`, `sampler.select`. After `accelerator.load_state` it goes
on with what is left of the epoch; `skip_first_batches` would skip it a second time.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from dynprune_env.integrations.loaders import SamplerStates, only_own_shares, sampler_of


def prepare_loader(accelerator: Accelerator, loader: DataLoader[Any]) -> DataLoader[Any]:
    """What `accelerator.prepare` makes of a train loader, but each process keeps its own share.

    The sampler is saved and loaded with the accelerator's state, by all processes.

    Args:
        accelerator: of the training.
        loader: draws from a `PruningSampler`.

    Raises:
        ValueError: it does not, or its data set is longer or shorter than the sampler, or it was
            prepared already, or the accelerator has one process hand out all batches.
    """
    sampler = sampler_of(loader)
    only_own_shares(sampler, "accelerate")
    if getattr(loader, "_is_accelerate_prepared", False):
        raise ValueError("the loader was prepared already, which deals its shares out again")
    if sampler.num_replicas != accelerator.num_processes:
        raise ValueError(
            f"the sampler deals out to {sampler.num_replicas} processes, the accelerator runs "
            f"{accelerator.num_processes}: make the sampler after the accelerator"
        )
    if accelerator.dispatch_batches or accelerator.split_batches:
        raise ValueError("dispatch_batches and split_batches deal the samples out again: leave out")
    prepared: Any = prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,  # of this loader: its sampler gives this process's share
        process_index=0,
        put_on_device=accelerator.device_placement,
        use_seedable_sampler=False,
    )
    prepared._is_accelerate_prepared = True
    accelerator._dataloaders.append(prepared)
    accelerator.register_for_checkpointing(SamplerStates(sampler))
    return prepared
