"""Data sets, models and recipes."""
