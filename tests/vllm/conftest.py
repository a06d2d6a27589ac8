"""Tests of the engine on a real vLLM (its CPU build), in a virtual environment of its own: ./dev test-vllm.

Where vLLM is not installed they are skipped. An engine takes seconds to start, so tests that want the same model and
dtype one after another share it; each gets it with the weights that the model came with.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainer.engines.vllm import VllmEngine
from trainer.models import load_policy
from trainer.spec.job import VllmSpec

MAX_MODEL_LEN = 128


@pytest.fixture(scope="session")
def model_cache(pytestconfig: pytest.Config) -> Path:
    return Path(pytestconfig.cache.mkdir("models"))


class Started:
    """One engine at a time: a model and vLLM's process are gigabytes."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._at: tuple[str, str] | None = None
        self._engine: VllmEngine | None = None
        self._weights: dict[str, torch.Tensor] = {}

    def __call__(self, model: str, dtype: str) -> VllmEngine:
        """On `model`, with its own weights again, which the next generation hands over."""
        if self._engine is None or self._at != (model, dtype):
            self.close()
            policy = load_policy(
                f"builtin/{model}", model_dir=None, cache_dir=self._cache, models_dir=None, device="cpu"
            )
            self._weights = copy.deepcopy(policy.model.state_dict())
            self._engine = VllmEngine(
                policy, VllmSpec(), max_model_len=MAX_MODEL_LEN, compute_dtype=getattr(torch, dtype)
            )
            self._at = model, dtype
        self._engine.policy.model.load_state_dict(self._weights)
        self._engine.weights_changed()
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@pytest.fixture(scope="session")
def engines(model_cache: Path) -> Iterator[Started]:
    started = Started(model_cache)
    yield started
    started.close()


@pytest.fixture
def engine(engines: Started) -> VllmEngine:
    """On builtin/tiny-arith in float32."""
    return engines("tiny-arith", "float32")
