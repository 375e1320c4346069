"""Saving the policy of one's own Stable-Baselines3 model, for the agent `sb3`."""

from dynprune_agents.policies._sb3_files import save_model as save_policy

__all__ = ["save_policy"]
