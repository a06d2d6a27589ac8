"""The driver of `./dev bench step`: its protocol with two sides that only pretend, its statistics, its checks."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main as bench
from bench.step.driver import Side, SideError, measure, measure_in_blocks, report
from bench.step.problems import make_problems, read_problems, write_problems
from bench.step.protocol import Ready, StepReport
from bench.step.results import Round, SideStep, Spread, differences, row, seconds, summary, tokens_per_second
from bench.step.reward import parity_reward
from bench.step.workload import Workload

READY = Ready("asym", "cpu", 100, 2 * 2**20, {"torch": "2"})

PRETENDER = """
import sys
from pathlib import Path
from bench.step.protocol import Channel, Ready, StepReport

name, journal, breaks_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
channel = Channel()
print("a library says something on stdout")
channel.send(Ready(name, "cpu", 100, 2**20, {}))
updates = 0
while channel.step_wanted():
    updates += 1
    if updates == breaks_at:
        raise RuntimeError("no more")
    with journal.open("a") as file:
        file.write(f"{name}{updates} ")
    channel.send(StepReport(1.0 * updates, 64, 32, 2**20, updates, 0.0, 1.0, 0.5, True))
with journal.open("a") as file:
    file.write(f"{name} ends ")
"""


def step(seconds: float = 1.0, **changed: object) -> SideStep:
    honest = StepReport(
        seconds, 64, 32, 8 * 2**20, 2, 0.0, 1.0, 0.5, weights_changed=True, phases={"rollout": 0.5, "update": 0.25}
    )
    return SideStep(replace(honest, **changed), cpu_seconds=2 * seconds, others_share=0.0)


@pytest.fixture
def pretend(tmp_path):
    """Opens a pretending side; `pretend.journal` is what the sides did, in order."""
    script = tmp_path / "pretender.py"
    script.write_text(PRETENDER)

    def open_side(name: str, breaks_at: int = 0) -> Side:
        command = [sys.executable, str(script), name, str(tmp_path / "journal"), str(breaks_at)]
        return Side(name, command, tmp_path / f"{name}.log", threads=1)

    open_side.journal = lambda: (tmp_path / "journal").read_text().split()
    return open_side


def test_the_sides_alternate_and_so_does_which_goes_first(pretend):
    with pretend("A") as a, pretend("T") as t:
        assert (a.ready.side, t.ready.side) == ("A", "T")
        rounds = list(measure(a, t, warmup=1, rounds=3))
    assert pretend.journal()[:8] == ["A1", "T1", "A2", "T2", "T3", "A3", "A4", "T4"]
    assert [(each.asym.report.updates, each.trl.report.updates) for each in rounds] == [(2, 2), (3, 3), (4, 4)]
    assert all(each.asym.cpu_seconds >= 0 and 0 <= each.trl.others_share <= 1 for each in rounds)


def test_a_side_ends_when_the_driver_wants_no_more(pretend):
    with pretend("A"):
        pass
    assert pretend.journal() == ["A", "ends"]


def test_in_blocks_one_side_has_ended_before_the_other_begins(pretend):
    rounds = measure_in_blocks(lambda: pretend("A"), lambda: pretend("T"), warmup=1, rounds=2)
    assert pretend.journal() == ["A1", "A2", "A3", "A", "ends", "T1", "T2", "T3", "T", "ends"]
    assert [(each.asym.report.updates, each.trl.report.updates) for each in rounds] == [(2, 2), (3, 3)]


def test_a_side_that_breaks_is_reported_with_the_end_of_its_log(pretend):
    with pretend("T", breaks_at=2) as side:
        side.step()
        with pytest.raises(SideError, match=r"T has ended(.|\n)*RuntimeError: no more"):
            side.step()


def test_an_answer_that_is_none_is_an_error(tmp_path):
    with pytest.raises(SideError, match="answers 'hello'"):
        Side("asym", [sys.executable, "-c", "print('hello')"], tmp_path / "log", threads=1)


def test_ratios_are_taken_within_a_round_and_then_the_median():
    # The second round met a busy machine: both sides took three times as long, their ratio did not change.
    rounds = [Round(step(1.0), step(2.0)), Round(step(3.0), step(6.0)), Round(step(1.0), step(4.0))]
    times = row("wall seconds", rounds, seconds)
    assert (times.asym, times.trl, times.ratio) == (1.0, 4.0, Spread(0.5, 0.25, 0.5))
    rates = row("tokens", rounds, tokens_per_second)
    assert (rates.asym, rates.trl, rates.ratio) == (64.0, 16.0, Spread(2.0, 2.0, 4.0))


def test_the_summary_takes_the_last_peak_and_the_steps_own_share_of_it():
    rounds = [Round(step(peak_memory_bytes=peak), step(peak_memory_bytes=2 * peak)) for peak in (4 * 2**20, 6 * 2**20)]
    rows = {each.name: each for each in summary(rounds, READY, replace(READY, memory_bytes=4 * 2**20))}
    assert (rows["peak memory"].asym, rows["peak memory"].trl, rows["peak memory"].ratio.median) == (
        6291456,
        12582912,
        0.5,
    )
    assert (rows["the steps' own memory"].asym, rows["the steps' own memory"].trl) == (4 * 2**20, 8 * 2**20)
    assert rows["rollout seconds"].asym == 0.5
    assert rows["CPU seconds"].ratio.median == 1.0


def test_no_rounds_are_no_result():
    with pytest.raises(ValueError, match="no rounds"):
        summary([], READY, READY)


def test_sides_that_did_the_same_work_differ_in_nothing():
    rounds = [Round(step(updates=2), step(updates=2)), Round(step(updates=3), step(updates=3))]
    assert differences(rounds, READY, READY, warmup=1, same_lengths=True) == []


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"generated_tokens": 60}, "asym sampled 64 tokens, trl 60"),
        ({"prompt_tokens": 30}, "asym had 32 prompt tokens, trl 30"),
        ({"updates": 1}, "trl has made 1 updates, not 2"),
        ({"loss": float("nan")}, "trl's loss or gradient is not finite"),
        ({"grad_norm": 0.0}, "trl had no gradient"),
        ({"weights_changed": False}, "trl's weights did not change"),
    ],
)
def test_whatever_a_side_leaves_out_is_found(changed, found):
    assert differences([Round(step(), step(**changed))], READY, READY, warmup=1, same_lengths=True) == [
        f"round 1: {found}"
    ]


def test_other_lengths_are_no_difference_when_responses_end_by_themselves():
    rounds = [Round(step(), step(generated_tokens=50))]
    assert differences(rounds, READY, READY, warmup=1, same_lengths=False) == []


def test_another_model_or_device_is_a_difference():
    found = differences([], READY, replace(READY, parameters=99, device="cuda:0"), warmup=1, same_lengths=True)
    assert found == ["asym trains 100 parameters, trl 99", "asym runs on cpu, trl on cuda:0"]


def test_the_report_says_what_was_not_alike():
    rounds = [Round(step(), step(2.0))]
    workload = Workload("/models/m", "/a", "/t", steps=2)
    machine = {"cpu": "a CPU", "cores": 2, "instructions": "avx2"}
    sides = {"asym": READY, "trl": replace(READY, side="trl")}
    rows = summary(rounds, READY, READY)
    good = report(workload, machine, sides, rows, [])
    assert "wall seconds" in good
    assert "0.50" in good
    assert "checked: the same" in good
    assert "THE SIDES DID NOT DO THE SAME WORK:\n  x" in report(workload, machine, sides, rows, ["x"])


def test_a_workload_survives_its_file(tmp_path):
    workload = Workload("/m", "/a", "/t", steps=6, micro_batch=16, system_prompt=None)
    workload.write(tmp_path / "workload.json")
    assert Workload.read(tmp_path / "workload.json") == workload


def test_micro_batches_must_divide_the_step():
    with pytest.raises(ValueError, match="must divide the step's 32 rollouts"):
        Workload("/m", "/a", "/t", steps=1, micro_batch=5)


def test_problems_are_the_same_every_time_and_survive_their_file(tmp_path):
    problems = make_problems(20, seed=1)
    assert problems == make_problems(20, seed=1) != make_problems(20, seed=2)
    write_problems(tmp_path / "p.jsonl", problems)
    assert read_problems(tmp_path / "p.jsonl", 20) == problems
    assert all("####" in json.loads(line)["answer"] for line in (tmp_path / "p.jsonl").read_text().splitlines())
    with pytest.raises(ValueError, match="has 20 problems, 21 are needed"):
        read_problems(tmp_path / "p.jsonl", 21)


def test_the_reward_tells_responses_apart():
    assert [parity_reward(text) for text in ("", "a", "ab")] == [1.0, 0.0, 1.0]


def test_an_unknown_instrument_is_answered_with_the_known_ones(capsys):
    assert bench(["nothing"]) == 2
    assert "step | profile | machine | claims" in capsys.readouterr().err


def test_every_instrument_says_how_it_is_used(capsys):
    for name in ("step", "profile", "machine", "claims"):
        with pytest.raises(SystemExit) as ended:
            bench([name, "--help"])
        assert ended.value.code == 0
        assert f"./dev bench {name}" in capsys.readouterr().out


def test_trl_s_side_imports_nothing_of_the_trainer_s():
    """It runs where the trainer's packages are not."""
    folder = Path(__file__).parents[2] / "bench" / "step"
    names = {"trl_side", "workload", "protocol", "reward", "memory", "weights"}
    for name in names:
        imports = list(ast.walk(ast.parse((folder / f"{name}.py").read_text())))
        modules = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        assert not {module for module in modules if module.partition(".")[0] == "trainer"}, name
        assert {module.rpartition(".")[2] for module in modules if module.startswith("bench.")} <= names, name
