"""The study of what augmentation does to policies compares two tasks that differ in it alone."""

from dataclasses import replace

from benchmarks.learned.augmentation import AUGMENTED, make_plain
from dynprune_env.tasks.registry import find_task


def test_the_plain_task_lacks_augmentation_and_nothing_else():
    plain, task = make_plain(), find_task(AUGMENTED)
    assert task.recipe.augmentation and not plain.recipe.augmentation
    recipe = replace(plain.recipe, augmentation=task.recipe.augmentation)
    assert replace(plain, recipe=recipe) == task
