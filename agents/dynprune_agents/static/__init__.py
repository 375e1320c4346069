"""Rules that score first, at a cost, and then keep one subset."""
