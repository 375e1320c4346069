"""Studies that are too slow for the tests; their results are committed beside them."""
