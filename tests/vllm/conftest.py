"""Tests of the engine on a real vLLM (its CPU build), in a virtual environment of its own: ./dev test-vllm.

Where vLLM is not installed they are skipped. An engine takes seconds to start, so tests share one per model and dtype;
each gets it with the weights that the model came with.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from trainer.engines.vllm import VllmEngine
from trainer.models import Policy, load_policy
from trainer.spec.job import VllmSpec

MAX_MODEL_LEN = 128


@pytest.fixture(scope="session")
def model_cache(pytestconfig: pytest.Config) -> Path:
    return Path(pytestconfig.cache.mkdir("models"))


@pytest.fixture(scope="session")
def engines(model_cache: Path) -> Iterator[Callable[[str, str], VllmEngine]]:
    started: dict[tuple[str, str], tuple[VllmEngine, dict[str, torch.Tensor]]] = {}

    def engine(model: str, dtype: str) -> VllmEngine:
        """On `model`, with its own weights again, which the next generation hands over."""
        if (model, dtype) not in started:
            policy = load_policy(
                f"builtin/{model}", model_dir=None, cache_dir=model_cache, models_dir=None, device="cpu"
            )
            made = VllmEngine(policy, VllmSpec(), max_model_len=MAX_MODEL_LEN, compute_dtype=getattr(torch, dtype))
            started[model, dtype] = made, copy.deepcopy(policy.model.state_dict())
        found, weights = started[model, dtype]
        found.policy.model.load_state_dict(weights)
        found.weights_changed()
        return found

    yield engine
    for made, _ in started.values():
        made.close()


@pytest.fixture
def engine(engines: Callable[[str, str], VllmEngine]) -> VllmEngine:
    """On builtin/tiny-arith in float32."""
    return engines("tiny-arith", "float32")


@pytest.fixture
def policy(engine: VllmEngine) -> Policy:
    return engine.policy
