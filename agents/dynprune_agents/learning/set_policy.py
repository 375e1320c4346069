"""Where older policy files look for SetPolicy; it lies in `dynprune_agents.policies` now."""

from dynprune_agents.policies._distribution import KeepDistribution, KeepLogits
from dynprune_agents.policies._set_policy import SampleFeatures, SetNetwork, SetPolicy

__all__ = ["KeepDistribution", "KeepLogits", "SampleFeatures", "SetNetwork", "SetPolicy"]
