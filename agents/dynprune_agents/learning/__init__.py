"""Training selection policies: Stable-Baselines3 and evolution strategies, by one command."""
