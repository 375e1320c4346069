"""Samples or groups of them as arms."""
