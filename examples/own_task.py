"""A task of one's own: which library does a docstring come from? Token ids, an embedding bag.

Run this file, or play any agents on it from the command line:

    dynprune --import own_task bench --env DynPrune-Docstrings-v0 --agents ucb --seeds 3
"""

import ast
import re
import warnings
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import nn

from dynprune_env import Recipe, Task, own_task, register_task

LIBRARIES = ("numpy", "scipy", "sklearn", "torch")
WORDS, LENGTH, EACH = 4096, 24, 600


def docstrings(library: str):
    """The docstrings in a library's files, without its own name."""
    for path in sorted(Path(find_spec(library).origin).parent.rglob("*.py")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text.replace(library, "")


def tokens(text: str) -> np.ndarray:
    """The first words as numbers from 1, filled up with 0, (LENGTH,) int64."""
    words = re.findall(r"[a-z]+", text.lower())[:LENGTH]
    ids = [1 + crc32(word.encode()) % (WORDS - 1) for word in words]
    return np.pad(ids, (0, LENGTH - len(ids))).astype(np.int64)


def make_model() -> nn.Module:
    """The mean of the words' vectors, and a layer on top."""
    return nn.Sequential(
        nn.EmbeddingBag(WORDS, 32, padding_idx=0), nn.ReLU(), nn.Linear(32, len(LIBRARIES))
    )


def make_task() -> Task:
    """Reads the docstrings; a quarter is for test."""
    texts = [text for name in LIBRARIES for text in islice(docstrings(name), EACH)]
    inputs, labels = np.stack([tokens(t) for t in texts]), np.repeat(range(len(LIBRARIES)), EACH)
    test = np.random.default_rng(0).random(len(labels)) < 0.25
    return own_task(
        train=(inputs[~test], labels[~test]),
        test=(inputs[test], labels[test]),
        model=make_model,
        recipe=Recipe(epochs=15, batch_size=32, learning_rate=0.5, weight_decay=0.0),
    )


register_task("Docstrings", make_task)

if __name__ == "__main__":
    import dynprune_agents
    from dynprune_env import run_episodes

    torch.set_num_threads(1)
    for spec, budget in (("full_data", 1.0), ("dynamic_random", 0.5), ("ucb", 0.5)):
        (result,) = run_episodes(
            "DynPrune-Docstrings-v0", dynprune_agents.make(spec), [0], env_kwargs={"budget": budget}
        )
        print(f"{spec:15} {result.visits:7,} visits, test accuracy {result.test_accuracy:.1%}")
