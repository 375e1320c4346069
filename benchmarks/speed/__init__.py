"""How fast the environment is: against bare loops, against what one would write, and by size."""
