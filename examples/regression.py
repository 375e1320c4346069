"""Numbers to predict: how far diabetes went in a year, from ten measurements.

Run this file, or play any agents on it from the command line:

    dynprune --import regression bench --env DynPrune-Diabetes-v0 --agents ucb --seeds 3
"""

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import nn

from dynprune_env import Recipe, Task, own_task, register_task


def make_model() -> nn.Module:
    """One number for each patient."""
    return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))


def make_task() -> Task:
    """A quarter of the patients is for test; inputs and labels in standard deviations of train."""
    inputs, course = load_diabetes(return_X_y=True, scaled=False)
    test = np.random.default_rng(0).random(len(course)) < 0.25
    inputs = (inputs - inputs[~test].mean(0)) / inputs[~test].std(0)
    course = (course - course[~test].mean()) / course[~test].std()
    return own_task(
        train=(inputs[~test], course[~test]),
        test=(inputs[test], course[test]),
        model=make_model,
        recipe=Recipe(epochs=20, batch_size=16, learning_rate=0.01, optimizer="adamw", loss="mse"),
    )


register_task("Diabetes", make_task)

if __name__ == "__main__":
    import dynprune_agents
    from dynprune_env import run_episodes

    torch.set_num_threads(1)
    for spec, budget in (("full_data", 1.0), ("dynamic_random", 0.5), ("infobatch", 0.5)):
        (result,) = run_episodes(
            "DynPrune-Diabetes-v0", dynprune_agents.make(spec), [0], env_kwargs={"budget": budget}
        )
        r2 = result.test_accuracy  # of numbers: the share of the variance that is explained
        print(f"{spec:15} {result.visits:6,} visits, test accuracy (R²) {r2:.1%}")
