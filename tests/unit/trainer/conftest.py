"""Builtin models are made once and kept between test runs (their makers lock, verify and version the cache)."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_cache(pytestconfig: pytest.Config) -> Path:
    """A models cache shared by all xdist workers and by later runs."""
    return Path(pytestconfig.cache.mkdir("models"))
