"""What everything else stands on: files, specs, randomness, processes."""
