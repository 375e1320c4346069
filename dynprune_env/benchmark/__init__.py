"""Playing agents side by side, resumably, one file per run."""
