"""Passes over the kept samples: the engine behind the environments."""
