"""What the learners share: one replica's pass, images ready for batches, seeded models."""

from __future__ import annotations
