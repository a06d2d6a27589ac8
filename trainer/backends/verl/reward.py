"""Our verifiers as verl's custom reward function, called by its reward workers once for each response.

A worker has one pool of killable subprocesses, made with its first response; further calls wait for it, so verl's
`reward.num_workers` is how many responses are verified at once. Imports neither torch nor verl.
"""

import atexit
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.rewards import VerifierPool, VerifyItem
from trainer.spec.job import JobSpec


class _Judge(NamedTuple):
    pool: VerifierPool
    threshold: float


_judges: dict[str, _Judge] = {}
_lock = threading.Lock()


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any], *, spec_file: str
) -> dict[str, float | str]:
    """What verl's reward manager asks for: `score` is the reward, and `acc` whether it counts as correct.

    The rest are texts, which verl's validation metrics leave alone and its sample files hold: the benchmark, the row
    and the verifier's error. extra_info as `trainer.backends.verl.data` writes it. spec_file: the job's spec, JSON.
    """
    judge = _judge(spec_file)
    item = VerifyItem(
        response=solution_str,
        answer=ground_truth,
        kind=extra_info["kind"],
        options=_parsed(extra_info["options"]),
        prompt=extra_info["question"],
        metadata=_parsed(extra_info["metadata"]),
    )
    (verdict,) = judge.pool.score([item])
    return {
        "score": verdict.reward,
        "acc": float(verdict.reward >= judge.threshold),
        "benchmark": data_source,
        "row": str(extra_info["index"]),
        "error": verdict.error or "",
    }


def _judge(spec_file: str) -> _Judge:
    with _lock:
        if spec_file not in _judges:
            spec = JobSpec.model_validate_json(Path(spec_file).read_text())
            reward, threshold = spec.reward, spec.algorithm.success_threshold
            pool = VerifierPool(reward.kind, workers=1, timeout_seconds=reward.timeout_seconds, options=reward.options)
            atexit.register(pool.close)
            _judges[spec_file] = _Judge(pool, 1.0 if threshold is None else threshold)
        return _judges[spec_file]


def _parsed(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)
