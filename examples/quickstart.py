"""Plays one episode: UCB decides what each of 20 epochs trains on, with half of the visits."""

import gymnasium as gym

import dynprune_agents

env = gym.make("dynprune_env:DynPrune-Digits-v0", budget=0.5)
agent = dynprune_agents.make("ucb")

observation, info = env.reset(seed=0)
agent.reset(env.unwrapped.episode(seed=0))
terminated = False
while not terminated:
    mask = agent.select(observation)
    next_observation, reward, terminated, truncated, info = env.step(mask)
    agent.update(observation, mask, reward, next_observation)
    observation = next_observation
    print(f"epoch {info['epoch']:2}  kept {info['kept']:4}  val loss {info['val_loss']:.3f}")

loss, accuracy = env.unwrapped.evaluate("test")
print(f"test accuracy {accuracy:.1%} with {1 - info['saved']:.0%} of the visits of a full run")
