"""Batched random crop and flip: a pure function of images and noise."""

from __future__ import annotations
