"""The training back ends behind one interface, and which of them fits a model."""

from __future__ import annotations
