"""Largest numbers that settings and options take. A larger one is a slip that would take hours or all memory."""

from __future__ import annotations

MOST_TOKENS = 1 << 31
"""Tokens in a length, windows in a batch, width of a model."""
MOST_STEPS = 10**12
MOST_LAYERS = 1000
MOST_CHECKPOINTS = 100_000
MOST_RESAMPLES = 1_000_000
"""As in the data engine."""
MOST_THREADS = 1024
MOST_NUMBER = (1 << 63) - 1
"""The largest whole number that files and the data engine hold."""
