import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def models_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """builtin/tiny-arith is made once for all homes of this test process."""
    return tmp_path_factory.mktemp("models-cache")


@pytest.fixture
def without_service(tmp_path: Path, models_cache: Path) -> dict[str, str]:
    """For commands without a service: a home of their own with the builtin models in it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models-cache").symlink_to(models_cache)
    rest = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    return {**rest, "ASYM_HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """write_spec(steps=2): the spec file of a small job, its data in a folder beside it."""

    def write(steps: int = 2) -> Path:
        (tmp_path / "sub").mkdir()
        for name in ("additions-train.jsonl", "additions-eval.jsonl"):
            (tmp_path / "sub" / name).write_bytes((EXAMPLES / name).read_bytes())
        spec = {
            "name": "short",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "sub/additions-train.jsonl"},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "optim": {"lr": 1e-3, "prompts_per_step": 8},
            "train": {"steps": steps},
            "eval": [{"name": "held-out", "data": "sub/additions-eval.jsonl", "every": 1000, "max_problems": 16}],
            "checkpoint": {"every": 1},
        }
        path = tmp_path / "spec.yaml"
        path.write_text(json.dumps(spec))
        return path

    return write
