"""Rules that select anew while the model trains."""
