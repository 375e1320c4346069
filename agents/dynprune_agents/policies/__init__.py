"""Learned policies: what they see, their networks and files, and the agents that play them."""
