"""Several labels a sample: is a digit even, at least five, and does it have a hole?

Run this file, or play any agents on it from the command line:

    dynprune --import multi_label bench --env DynPrune-Properties-v0 --agents ucb --seeds 3
"""

import numpy as np
import torch
from sklearn.datasets import load_digits

from dynprune_env import Recipe, Task, own_task, register_task

PROPERTIES = np.array([[d % 2 == 0, d >= 5, d in (0, 4, 6, 8, 9)] for d in range(10)])


def make_task() -> Task:
    """A quarter of the digits is for test; a sample is right if all three of its labels are."""
    inputs, digits = load_digits(return_X_y=True)
    inputs, labels = (inputs / 16).astype(np.float32), PROPERTIES[digits]
    test = np.random.default_rng(0).random(len(labels)) < 0.25
    return own_task(
        train=(inputs[~test], labels[~test]),
        test=(inputs[test], labels[test]),
        model="mlp(width=32)",
        recipe=Recipe(
            epochs=15,
            batch_size=32,
            learning_rate=0.01,
            optimizer="adam",
            schedule="cosine",
            loss="bce",
        ),
    )


register_task("Properties", make_task)

if __name__ == "__main__":
    import dynprune_agents
    from dynprune_env import run_episodes

    torch.set_num_threads(1)
    for spec, budget in (("full_data", 1.0), ("dynamic_random", 0.3), ("ucb", 0.3)):
        (result,) = run_episodes(
            "DynPrune-Properties-v0",
            dynprune_agents.make(spec),
            [0],
            env_kwargs={"budget": budget},
        )
        print(f"{spec:15} {result.visits:7,} visits, test accuracy {result.test_accuracy:.1%}")
