"""Studies of the learned policies: how they do, what they do, and how else one could learn."""
