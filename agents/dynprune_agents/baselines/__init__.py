"""All data, or a random choice of it: what every rule is compared with."""
