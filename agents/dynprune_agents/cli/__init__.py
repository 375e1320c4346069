"""The dynprune command."""
