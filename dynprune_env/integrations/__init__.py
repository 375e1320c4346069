"""A `PruningSampler` in other people's training loops; each module needs its library installed."""

from dynprune_env.integrations.schedule import progress_scheduler

__all__ = ["progress_scheduler"]
