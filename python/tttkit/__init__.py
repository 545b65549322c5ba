"""Train Test-Time-Training language models, watch them train, and measure how far past their window they hold up."""

from __future__ import annotations

__version__ = "0.2.0"
