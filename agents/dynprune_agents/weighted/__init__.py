"""Rules that also weigh the gradients of what they keep."""
