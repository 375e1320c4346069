"""The colours of every picture: Okabe and Ito's, safe for colour-blind readers, and four greys."""

from __future__ import annotations

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY, ORANGE = "#CC79A7", "#56B4E9", "#E69F00"

LINES = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE)
"""Of curves, in this order; Okabe and Ito's yellow is too pale for lines, their black is INK's."""

INK, MUTED, LINE, PALE = "#222222", "#5F6670", "#C4C9CF", "#E6E9ED"
"""Greys of text, of what is less important, of thin lines, and of areas and grid lines."""

KEPT = {"always": BLUE, "sometimes": SKY, "never": PALE}
"""Of the samples that a run trained in every, in some and in no epoch."""
