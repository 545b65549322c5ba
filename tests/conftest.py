"""Fixtures for the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder beside the checkout with real corpora and tokenizers; tests that need it skip where it is not there."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the corpora in {SHARED.name}/ beside the checkout")
    return SHARED
