"""`python -m trainer` as its supervisor sees it: events, exit codes, stopping, resuming, failing."""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainer import checkpoint
from trainer.rewards import verify
from trainer.spec.events import EXIT_INFRASTRUCTURE_ERROR, EXIT_STOPPED, EXIT_USER_ERROR, Event, parse_event
from trainer.spec.metric_keys import is_known

TIMED = ("perf/",)


@dataclass
class Run:
    folder: Path
    events: list[Event]
    returncode: int
    stderr: str

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.type == kind]

    def metrics(self) -> dict[int, dict[str, object]]:
        """Step -> its metrics, evaluations merged in, without those that a clock decides."""
        rows: dict[int, dict[str, object]] = {}
        for event in self.events:
            if event.type in ("step", "eval"):
                rows.setdefault(event.step, {}).update(
                    {key: value for key, value in event.metrics.items() if not key.startswith(TIMED)}
                )
        return rows


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def additions(tmp_path: Path) -> Path:
    file = tmp_path / "additions.jsonl"
    pairs = [(a, b) for a in range(10, 60, 7) for b in range(11, 70, 5)]
    file.write_text("".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) + "\n" for a, b in pairs))
    return file


@pytest.fixture
def start(tmp_path: Path, additions: Path, model_cache: Path):
    processes: list[subprocess.Popen[str]] = []

    def start(run: str, *arguments: str, **sections: dict[str, object]) -> subprocess.Popen[str]:
        spec: dict[str, object] = {
            "name": "a run",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": additions.name},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 6},
            "optim": {"lr": 1e-4, "prompts_per_step": 6, "prompts_per_update": 3},
            "train": {"steps": 4},
            "eval": [
                {"name": "held_out", "data": additions.name, "every": 2, "max_problems": 6, "samples": 2, "k": [1, 2]}
            ],
            "checkpoint": {"every": 2, "keep_last": 1},
            "diagnostics": {"every": 2, "rollout_groups": 2},
        }
        for name, section in sections.items():
            merged = {**spec[name], **section} if isinstance(section, dict) and name in spec else section  # type: ignore[dict-item]
            spec[name] = merged
        file = tmp_path / f"{run}.yaml"
        file.write_text(json.dumps(spec))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "trainer", str(file), "--run-dir", str(tmp_path / run)),
                *("--cache-dir", str(model_cache), *arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        process.wait()


def finish(process: subprocess.Popen[str], folder: Path, earlier: str = "") -> Run:
    out, err = process.communicate(timeout=240)
    return Run(folder, [parse_event(line) for line in (earlier + out).splitlines()], process.returncode, err)


def test_a_run_from_end_to_end(start: Start, tmp_path: Path):
    run = finish(start("whole", diagnostics={"token_entropies": True}), tmp_path / "whole")
    assert run.returncode == 0, run.stderr
    assert [event.type for event in run.events if event.type != "log"] == [
        *("started", "eval", "step", "rollouts", "step", "rollouts", "eval", "checkpoint"),
        *("step", "rollouts", "step", "rollouts", "eval", "checkpoint", "done"),
    ]
    metrics = run.metrics()
    unknown = {key for row in metrics.values() for key in row if not is_known(key)}
    assert not unknown
    for key in ("entropy/policy", "group/accuracy", "policy/loss", "policy/grad_norm", "rollout/length_mean"):
        assert all(metrics[step][key] is not None for step in (1, 2, 3, 4)), key
    assert "entropy/realised_spurious" in metrics[2]
    assert "entropy/realised_spurious" not in metrics[1]
    assert set(metrics[0]) == {key for key in metrics[2] if key.startswith("eval/")}
    # The engine and the trainer speak of the same distribution.
    assert all(metrics[step]["rollout/logprob_diff_max"] < 1e-4 for step in (1, 2, 3, 4))
    rollouts = run.of("rollouts")[0].rollouts
    assert [(rollout.group, rollout.sample) for rollout in rollouts] == [(g, s) for g in range(2) for s in range(4)]
    for rollout in rollouts:
        assert rollout.correct == (rollout.completion == rollout.answer) == (rollout.reward == 1.0)
        assert rollout.entropy == pytest.approx(statistics.fmean(rollout.token_entropies), abs=1e-4)
        assert len(rollout.token_ends) == rollout.tokens
        assert rollout.token_ends[-1] == len(rollout.completion)
    # keep_last 1: the checkpoint of step 2 is gone, that of step 4 is whole.
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["4"]
    assert checkpoint.verify(run.folder / "checkpoints" / "4") == 4
    assert len((run.folder / "evals" / "held_out" / "4.jsonl").read_text().splitlines()) == 12


def test_rows_with_verifiers_of_their_own(start: Start, tmp_path: Path):
    """Each row is judged by its own kind with its own options, those of the job beneath."""
    rows = [
        {"prompt": "12+34=", "answer": "46"},
        {"prompt": "12+35=", "answer": "47.0", "kind": "numeric"},
        {"prompt": "12+36=", "answer": "40", "kind": "numeric", "options": {"tolerance": 0.5}},
        {"prompt": "12+37=", "answer": "^4", "kind": "regex", "options": {"full_match": False}},
        {"prompt": "12+38=", "answer": r"\d+", "kind": "regex", "options": {"full_match": True}},
        {"prompt": "12+39=", "answer": r"\frac{102}{2}", "kind": "math"},
        {"prompt": "12+40=", "answer": "52", "options": {"normalize_whitespace": False}},
        {"prompt": "12+41=", "answer": "B", "kind": "choice"},
    ]
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = finish(
        start(
            "mixed",
            data={"train": "mixed.jsonl"},
            eval=[],
            train={"steps": 2},
            # So many that each row is right sometimes, whatever this processor's rounding makes of the samples.
            rollout={"group_size": 32},
            optim={"prompts_per_step": 8, "prompts_per_update": 8},
            diagnostics={"rollout_groups": 8},
        ),
        tmp_path / "mixed",
    )
    assert run.returncode == 0, run.stderr
    rollouts = [rollout for event in run.of("rollouts") for rollout in event.rollouts]
    assert {rollout.row for rollout in rollouts} == set(range(1, 9))
    for rollout in rollouts:
        row = rows[rollout.row - 1]
        expected = verify(row.get("kind", "exact"), rollout.completion, row["answer"], **row.get("options", {}))
        assert rollout.reward == expected, rollout
    # Some of them are really right, each by what its own verifier allows.
    right = {rollout.row for rollout in rollouts if rollout.correct}
    assert right >= {2, 3, 4, 5, 6}
    assert 8 not in right


def test_row_options_that_the_jobs_kind_does_not_take_end_the_run(start: Start, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1=", "answer": "2", "options": {"tolerance": 1}}\n')
    run = finish(start("rows", data={"train": "rows.jsonl"}), tmp_path / "rows")
    assert run.returncode == EXIT_USER_ERROR
    assert run.events[-1].code == "bad_row_options"
    assert "row 1: options.tolerance: unknown option" in run.events[-1].message


def test_answers_that_nothing_could_match_are_said_before_the_first_step(start: Start, tmp_path: Path):
    lines = [{"prompt": "1+1=", "answer": "2"}, {"prompt": "1+2=", "answer": "three"}]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "none.jsonl").write_text(json.dumps(lines[1]) + "\n")
    numeric = {"reward": {"kind": "numeric"}, "eval": [], "train": {"steps": 1}}
    some = finish(start("some", data={"train": "some.jsonl"}, **numeric), tmp_path / "some")
    assert some.returncode == 0, some.stderr
    [warning] = [event for event in some.of("log") if event.code == "answers_unverifiable"]
    assert (warning.level, warning.data) == ("warning", {"count": 1, "rows": [2]})
    none = finish(start("none", data={"train": "none.jsonl"}, **numeric), tmp_path / "none")
    assert none.returncode == EXIT_USER_ERROR
    assert none.events[-1].code == "answers_unverifiable"
    assert "row 1: the answer 'three' is not one number" in none.events[-1].message


def test_a_bonus_shifts_advantages_and_nothing_else_of_the_step(start: Start, tmp_path: Path):
    """The first step's rollouts are those of a run without a bonus: so are its groups, its channels, its pass@k."""
    bonus = [
        {"kind": "length", "weight": 0.5, "start": 2, "end": 6},
        {"kind": "format", "weight": 0.25, "pattern": "^[4-9]"},
    ]
    common = {"eval": [], "train": {"steps": 1}, "diagnostics": {"every": 0, "rollout_groups": 6}}
    plain = finish(start("plain", **common), tmp_path / "plain")
    given = finish(start("given", **common, reward={"kind": "exact", "bonus": bonus}), tmp_path / "given")
    assert (plain.returncode, given.returncode) == (0, 0), given.stderr
    without, with_bonus = plain.metrics()[1], given.metrics()[1]
    same = [key for key in without if key.startswith(("group/", "pass_at_k/", "reward/", "rollout/"))]
    same += ["entropy/informative", "entropy/spurious", "entropy/informative_tokens", "entropy/spurious_tokens"]
    same.remove("reward/bonus_mean")
    assert {key: without[key] for key in same} == {key: with_bonus[key] for key in same}
    assert without["reward/bonus_mean"] is None

    before = plain.of("rollouts")[0].rollouts
    after = given.of("rollouts")[0].rollouts
    bonuses = [-0.5 * min(max((r.tokens - 2) / 4, 0), 1) + 0.25 * (r.completion[:1] in set("456789")) for r in after]
    assert [r.bonus for r in after] == pytest.approx(bonuses)
    assert len(set(bonuses)) > 1
    assert with_bonus["reward/bonus_mean"] == pytest.approx(sum(bonuses) / len(bonuses))
    assert [r.bonus for r in before] == [None] * len(before)
    for first in range(0, len(after), 4):
        mean = sum(bonuses[first : first + 4]) / 4
        for i in range(first, first + 4):
            assert (after[i].reward, after[i].correct) == (before[i].reward, before[i].correct)
            assert after[i].advantage == pytest.approx(before[i].advantage + bonuses[i] - mean)


JUDGE = """
import http.server, json, sys
class Judge(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["items"]
        body = json.dumps({"rewards": [%s for item in items]}).encode()
        self.send_response(%d)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def judge():
    """judge(reward of `item`, status=200): the URL of a server that scores so."""
    servers: list[subprocess.Popen[str]] = []

    def serve(reward: str, status: int = 200) -> str:
        code = JUDGE % (reward, status)
        servers.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        return f"http://127.0.0.1:{servers[-1].stdout.readline().strip()}/score"

    yield serve
    for server in servers:
        server.kill()
        server.wait()
        server.stdout.close()


CANARY = "canary-of-the-endpoint"


def with_password(url: str) -> str:
    return url.replace("://", f"://judge:{CANARY}@")


def assert_nothing_tells_the_password(run: Run, folder: Path) -> None:
    texts = {"stderr": run.stderr, "events": "".join(map(repr, run.events))}
    texts |= {str(file): file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()}
    assert [where for where, text in texts.items() if CANARY in text] == []


def test_an_endpoint_of_the_operators_scores_a_run(start: Start, tmp_path: Path, judge):
    url = judge("len(set(item['response']) & set(item['answer'])) / len(set(item['answer']))")
    process = start(
        "judged",
        "--http-verifier",
        f"judge={with_password(url)}",
        reward={"kind": "http:judge", "options": {"batch_size": 5}},
        algorithm={"preset": "grpo"},
        train={"steps": 1},
    )
    run = finish(process, tmp_path / "judged")
    assert run.returncode == 0, run.stderr
    for rollout in run.of("rollouts")[0].rollouts:
        expected = len(set(rollout.completion) & set(rollout.answer)) / len(set(rollout.answer))
        assert rollout.reward == pytest.approx(expected)
    assert_nothing_tells_the_password(run, tmp_path / "judged")


def test_what_a_verifier_does_wrong_is_said_once(start: Start, tmp_path: Path, judge):
    url = judge("None if len(item['response']) % 2 else 1.0")
    common = {"reward": {"kind": "http:judge"}, "algorithm": {"preset": "grpo"}, "train": {"steps": 2}, "eval": []}
    run = finish(start("told", "--http-verifier", f"judge={with_password(url)}", **common), tmp_path / "told")
    assert_nothing_tells_the_password(run, tmp_path / "told")
    assert run.returncode == 0, run.stderr
    [warning] = [event for event in run.of("log") if event.code == "verifier_failed"]
    assert (
        "(bad_reply), their reward is 0; the first: the endpoint gave None, not a number from 0 to 1" in warning.message
    )
    assert all(row["reward/errors"] > 0 for row in run.metrics().values())


def test_an_endpoint_that_is_away_is_no_fault_of_the_job(start: Start, tmp_path: Path, judge):
    common = {
        "reward": {"kind": "http:judge", "options": {"retries": 0}},
        "algorithm": {"preset": "grpo"},
        "train": {"steps": 1},
    }
    url = judge("1.0", status=503)
    away = finish(start("away", "--http-verifier", f"judge={with_password(url)}", **common), tmp_path / "away")
    assert_nothing_tells_the_password(away, tmp_path / "away")
    assert away.returncode == EXIT_INFRASTRUCTURE_ERROR
    assert (away.events[-1].kind, away.events[-1].code) == ("infrastructure", "verifier_unavailable")
    unknown = finish(start("unknown", "--http-verifier", f"other={url}", **common), tmp_path / "unknown")
    assert unknown.returncode == EXIT_USER_ERROR
    assert unknown.events[-1].code == "verifier_unusable"
    assert "there are: other" in unknown.events[-1].message
    unnamed = finish(start("unnamed", "--http-verifier", url, **common), tmp_path / "unnamed")
    assert "is no NAME=URL" in unnamed.stderr


def test_rewards_that_are_not_binary_end_a_run_that_needs_them_so(start: Start, tmp_path: Path, judge):
    """A row's own verifier may give them where the job's does not: found before the first step."""
    row = {"prompt": "1+1=", "answer": "2", "kind": "reasoning_gym:leg_counting", "metadata": {}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    run = finish(start("graded", data={"train": "rows.jsonl"}, eval=[]), tmp_path / "graded")
    assert run.returncode == EXIT_USER_ERROR
    assert (run.events[-1].kind, run.events[-1].code) == ("user", "reward_not_binary")
    assert "set algorithm.success_threshold" in run.events[-1].message


def test_the_users_code_runs_in_the_sandbox_or_not_at_all(start: Start, tmp_path: Path):
    code = (
        "def score(response, answer, metadata):\n"
        "    return 0.5 * (response[:1] == answer[:1]) + 0.5 * (response == answer)\n"
    )
    common = {
        "reward": {"kind": "python", "options": {"code": code}},
        "algorithm": {"preset": "asymgrpo", "success_threshold": 0.5},
        "train": {"steps": 1},
        "eval": [],
    }
    refused = finish(start("refused", **common), tmp_path / "refused")
    assert refused.returncode == EXIT_USER_ERROR
    assert refused.events[-1].code == "verifier_unusable"
    assert "needs a sandbox" in refused.events[-1].message
    run = finish(start("boxed", "--sandbox", "bubblewrap", **common), tmp_path / "boxed")
    if run.returncode == EXIT_INFRASTRUCTURE_ERROR and "sandbox" in run.events[-1].message:
        pytest.skip(f"no sandbox here: {run.events[-1].message}")
    assert run.returncode == 0, run.stderr
    for rollout in run.of("rollouts")[0].rollouts:
        same_start = rollout.completion[:1] == rollout.answer[:1]
        assert rollout.reward == 0.5 * same_start + 0.5 * (rollout.completion == rollout.answer)
        assert rollout.correct == (rollout.reward >= 0.5)


def test_a_stopped_run_resumed_equals_one_that_never_stopped(start: Start, tmp_path: Path):
    whole = finish(start("whole", train={"steps": 5}), tmp_path / "whole")
    process = start("parts", train={"steps": 5})
    seen = ""
    while '"type":"step"' not in seen:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    first = finish(process, tmp_path / "parts", seen)
    assert first.returncode == EXIT_STOPPED, first.stderr
    stopped = first.events[-1]
    assert stopped.type == "stopped"
    assert stopped.step < 5
    assert first.of("checkpoint")[-1].step == stopped.step
    second = finish(start("parts", "--resume", "latest", train={"steps": 5}), tmp_path / "parts")
    assert second.returncode == 0, second.stderr
    assert second.of("started")[0].resumed_from == stopped.step
    assert {**first.metrics(), **second.metrics()} == whole.metrics()
    for name in ("model/model.safetensors", "optimizer.safetensors"):
        expected = (whole.folder / "checkpoints" / "5" / name).read_bytes()
        assert (second.folder / "checkpoints" / "5" / name).read_bytes() == expected, name


def test_a_resumed_run_prunes_what_is_there_and_not_what_was(start: Start, tmp_path: Path):
    every_step = {"every": 1, "keep_last": 1}
    assert finish(start("longer", train={"steps": 2}, checkpoint=every_step), tmp_path / "longer").returncode == 0
    process = start("longer", "--resume", "latest", train={"steps": 4}, checkpoint=every_step)
    resumed = finish(process, tmp_path / "longer")
    assert resumed.returncode == 0, resumed.stderr
    assert [path.name for path in (resumed.folder / "checkpoints").iterdir()] == ["4"]


def test_a_run_that_diverges_fails_with_its_step_and_keeps_its_checkpoint(start: Start, tmp_path: Path):
    run = finish(start("diverged", optim={"lr": 1e30}, checkpoint={"every": 1, "keep_last": 5}), tmp_path / "diverged")
    assert run.returncode == EXIT_USER_ERROR
    failed = run.events[-1]
    assert (failed.type, failed.kind) == ("failed", "user")
    assert failed.code in ("policy_not_finite", "loss_not_finite", "gradient_not_finite")
    assert failed.step is not None
    assert str(failed.step) in failed.message
    kept = checkpoint.latest(run.folder / "checkpoints")
    assert kept is None or int(kept.name) < failed.step


def test_a_wrong_spec_is_said_field_by_field_before_torch_is_loaded(start: Start, tmp_path: Path):
    run = finish(start("wrong", rollout={"group_size": 1}, optim={"speed": 3}), tmp_path / "wrong")
    assert run.returncode == EXIT_USER_ERROR
    assert [event.type for event in run.events] == ["failed"]
    assert run.events[0].code == "bad_spec"
    assert {line.split(":")[0] for line in run.events[0].evidence} == {"rollout.group_size", "optim.speed"}


def test_missing_data_is_named(start: Start, tmp_path: Path):
    run = finish(start("missing", data={"train": "nowhere.jsonl"}), tmp_path / "missing")
    assert run.returncode == EXIT_USER_ERROR
    assert run.events[-1].code == "data_not_found"
    assert "nowhere.jsonl" in run.events[-1].message


def test_a_run_folder_is_not_overwritten(start: Start, tmp_path: Path):
    assert finish(start("twice", train={"steps": 1}), tmp_path / "twice").returncode == 0
    again = finish(start("twice", train={"steps": 1}), tmp_path / "twice")
    assert again.returncode == EXIT_USER_ERROR
    assert again.events[-1].code == "run_exists"
    assert "--resume latest" in again.events[-1].message


def test_supervised_it_ends_with_its_supervisor_and_keeps_all_checkpoints(start: Start, tmp_path: Path):
    supervised = finish_supervised(start("supervised", "--supervised", train={"steps": 3}, checkpoint={"every": 1}))
    assert supervised == 0
    names = {path.name for path in (tmp_path / "supervised" / "checkpoints").iterdir()}
    assert names == {"1", "2", "3"}
    orphan = start("orphan", "--supervised", train={"steps": 100_000})
    while '"type":"step"' not in orphan.stdout.readline():
        pass
    orphan.stdin.close()
    assert orphan.wait(timeout=20) != 0


def finish_supervised(process: subprocess.Popen[str]) -> int:
    """Read to the end while stdin stays open, as a supervisor does."""
    for _ in process.stdout:
        pass
    return process.wait(timeout=60)
