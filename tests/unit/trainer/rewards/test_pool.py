"""The verifier pool against verifiers that hang, die, lie and eat memory: real processes, really killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until
from trainer.rewards import Verdict, VerifierPool, VerifierUnavailableError, VerifyItem
from trainer.rewards.process import VerifierProcess

HOSTILE = (sys.executable, "-P", str(Path(__file__).with_name("hostile_worker.py")))
ROOT = Path(__file__).parents[4]


def hostile_pool(**options) -> VerifierPool:
    return VerifierPool("math", **({"workers": 2, "timeout_seconds": 4, "command": HOSTILE} | options))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids(pool: VerifierPool) -> set[int]:
    return {slot.process.pid for dispatcher in pool._dispatchers.values() for slot in dispatcher._slots}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ("hang", "timeout"),
        ("deaf", "timeout"),
        ("multiply", "timeout"),
        ("exit", "crashed"),
        ("segfault", "crashed"),
        ("raise", "crashed"),
        ("give nothing", "bad_reply"),
        ("give text", "bad_reply"),
        ("give true", "bad_reply"),
        ("give nan", "bad_reply"),
        ("give inf", "bad_reply"),
        ("give -inf", "bad_reply"),
        ("give 2", "bad_reply"),
        ("give -1", "bad_reply"),
        ("hog", "memory"),
        ("forge", "bad_reply"),
        ("forge the reward", "bad_reply"),
        ("flood", "bad_reply"),
        ("x" * 1_000_000, "too_long"),
    ],
    ids=lambda value: value[:20],
)
def test_a_failed_verification_is_reward_0_and_counted(response, error):
    # Only what is to run out of time has little of it: the others must not be taken for it on a busy machine.
    seconds = 2.0 if error == "timeout" else 60.0
    with hostile_pool(workers=1, timeout_seconds=seconds, memory_bytes=2**29) as pool:
        bad, good = pool.score([VerifyItem(response, "5"), VerifyItem("5", "5")])
        assert (bad.reward, bad.error) == (0.0, error)
        assert (good.reward, good.error) == (1.0, None)
        assert pool.counts == {error: 1}
        if error == "timeout":
            assert 2.0 <= bad.seconds < 20.0


def test_200_items_after_several_kills_are_all_answered_in_order():
    items = [VerifyItem(str(number), str(number - number % 3)) for number in range(200)]
    for position, response in ((0, "exit"), (0, "hang"), (50, "segfault"), (51, "hang"), (120, "exit"), (203, "raise")):
        items.insert(position, VerifyItem(response, "5"))
    with hostile_pool() as pool:
        verdicts = pool.score(items)
        expected = {"exit": "crashed", "hang": "timeout", "segfault": "crashed", "raise": "crashed"}
        assert [verdict.error for verdict in verdicts] == [expected.get(item.response) for item in items]
        assert [verdict.reward for verdict in verdicts] == [float(item.response == item.answer) for item in items]
        assert pool.counts == {"crashed": 4, "timeout": 2}
        assert len(pids(pool)) == 2
        again = pool.score([VerifyItem("a", "a")] * 200)
    assert again == [Verdict(1.0, None, verdict.seconds) for verdict in again]


def test_all_slots_killed_at_once_come_back():
    with hostile_pool(workers=3) as pool:
        verdicts = pool.score([VerifyItem("hang", "5")] * 6 + [VerifyItem("5", "5")] * 20)
    assert [verdict.error for verdict in verdicts] == ["timeout"] * 6 + [None] * 20


def test_one_killed_by_the_last_item_is_replaced_before_the_next_is_asked():
    with hostile_pool() as pool:
        pool.score([VerifyItem("5", "5"), VerifyItem("exit", "5")])
        assert len(pids(pool)) == 2


def test_work_overlaps(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with hostile_pool(timeout_seconds=60) as pool:
        verdicts = pool.score(
            [VerifyItem("meet", f"{first}|{second}"), VerifyItem("meet", f"{second}|{first}")]
        )  # each waits for the other, so neither would end if they ran in turn
    assert [verdict.reward for verdict in verdicts] == [1.0, 1.0]


def test_what_a_verifier_prints_is_no_reply():
    with hostile_pool(timeout_seconds=60) as pool:
        assert [verdict.reward for verdict in pool.score([VerifyItem("chatter", "")] * 3)] == [1.0] * 3


def test_a_request_larger_than_the_pipe_gets_through():
    text = "\0" * 99_999  # six bytes each in JSON
    with hostile_pool(timeout_seconds=60) as pool:
        assert [v.reward for v in pool.score([VerifyItem(text, text), VerifyItem(text, text + "x")])] == [1.0, 0.0]


def test_the_whole_process_group_is_killed(tmp_path):
    note = tmp_path / "child"
    with hostile_pool(workers=1, timeout_seconds=5) as pool:
        assert pool.score([VerifyItem("child", str(note))])[0].error == "timeout"
    # Killed is not yet gone on a busy machine.
    wait_until(lambda: not is_running(int(note.read_text())))


def test_closing_leaves_no_process_behind():
    pool = hostile_pool(workers=3)
    started = pids(pool)
    assert len(started) == 3
    pool.close()
    pool.close()
    assert not any(is_running(pid) for pid in started)
    with pytest.raises(ValueError, match="closed"):
        pool.score([VerifyItem("5", "5")])


def test_verifiers_that_were_killed_while_idle_cost_no_reward():
    with hostile_pool(timeout_seconds=60) as pool:
        pool.score([VerifyItem("5", "5")] * 10)
        killed = pids(pool)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(is_running(pid) for pid in killed))
        assert [verdict.reward for verdict in pool.score([VerifyItem("5", "5")] * 10)] == [1.0] * 10
        assert not pool.counts


def test_verifiers_outlive_the_thread_that_asked_for_them():
    pools = []
    thread = threading.Thread(target=lambda: pools.append(hostile_pool(timeout_seconds=60)))
    thread.start()
    thread.join()
    with pools[0] as pool:
        started = pids(pool)
        assert pool.score([VerifyItem("5", "5")])[0].reward == 1.0
        assert pids(pool) == started


def test_verifiers_die_with_a_killed_trainer():
    # The trainer's stand-in has one verifier in an endless loop and one idle when it is killed.
    program = (
        "import sys, threading, json\n"
        "from trainer.rewards import VerifierPool, VerifyItem\n"
        "pool = VerifierPool('math', workers=2, timeout_seconds=600, command=tuple(json.loads(sys.argv[1])))\n"
        "pool.score([VerifyItem('5', '5')] * 2)\n"
        "print(json.dumps([slot.process.pid for slot in pool._dispatchers['math']._slots]), flush=True)\n"
        "pool.score([VerifyItem('hang', '5')])\n"
    )
    trainer = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(HOSTILE)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    try:
        started = json.loads(trainer.stdout.readline())
        assert len(started) == 2
        wait_until(lambda: any(sum(psutil.Process(pid).cpu_times()[:2]) > 1 for pid in started))
        assert all(is_running(pid) for pid in started)
    finally:
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()
    wait_until(lambda: not any(is_running(pid) for pid in started))


def test_the_kernel_keeps_the_limit_on_processor_time_when_the_parent_does_not():
    process = VerifierProcess(HOSTILE, 2**30)
    try:
        process.send({"kind": "math", "options": {}})
        wait_until(lambda: process.receive() == [{"ready": True}])
        request = {"kind": "math", "response": "hang", "answer": "", "prompt": "", "metadata": None, "options": {}}
        process.send({"id": 1, "op": "score", **request, "cpu_seconds": 0})
        wait_until(process.has_ended)
        assert process.over_its_cpu_limit()
    finally:
        process.kill()


def test_a_verifier_that_cannot_start_is_an_error_and_says_why():
    command = (sys.executable, "-c", "import sys; sys.exit('there is no sympy here')")
    with (
        hostile_pool(command=command) as pool,
        pytest.raises(VerifierUnavailableError, match="there is no sympy here"),
    ):
        pool.score([VerifyItem("5", "5")])


def test_answers_are_checked_under_the_same_limits():
    with hostile_pool() as pool:
        problems = pool.check_answers(["5", "", "hang", "exit", "x" * 200_000])
    assert problems == [
        None,
        "the answer is empty",
        "reading the answer fails: timeout",
        "reading the answer fails: crashed",
        "the answer is over 100,000 characters",
    ]
    assert not pool.counts


def test_rows_may_have_kinds_of_their_own():
    items = [VerifyItem("5.0", "5"), VerifyItem("5.0", "5", "numeric"), VerifyItem(r"\boxed{5.0}", "5", "math")]
    with VerifierPool("exact", workers=1, timeout_seconds=30) as pool:
        assert not pids(pool)
        assert [verdict.reward for verdict in pool.score(items)] == [0.0, 1.0, 1.0]
        assert len(pids(pool)) == 1


def test_options_are_those_of_the_pools_own_kind():
    with VerifierPool("numeric", options={"tolerance": 0.1}) as pool:
        assert [v.reward for v in pool.score([VerifyItem("10.5", "10"), VerifyItem("a", "a", "exact")])] == [1.0, 1.0]
    with pytest.raises(ValueError, match="takes no option"):
        VerifierPool("exact", options={"tolerance": 0.1})


def test_a_rows_options_are_laid_over_the_jobs_where_the_kind_is_the_jobs():
    job = {"ignore_case": True, "normalize_whitespace": False}
    items = [
        VerifyItem("A b", "a b"),
        VerifyItem("A  b", "a b"),
        VerifyItem("A  b", "a b", None, {"normalize_whitespace": True}),
        VerifyItem("A  b", "a b", "exact", {"normalize_whitespace": True}),
        VerifyItem("A b", "a b", None, {"ignore_case": False}),
        # Another kind's stand alone: the job's ignore_case is not regex's.
        VerifyItem("A b", "a b", "regex"),
        VerifyItem("A b", "a b", "regex", {"ignore_case": True}),
        VerifyItem("10.5", "10", "numeric", {"tolerance": 0.1}),
        VerifyItem("10.5", "10", "numeric"),
    ]
    with VerifierPool("exact", options=job) as pool:
        assert [verdict.reward for verdict in pool.score(items)] == [1, 0, 1, 1, 0, 0, 1, 1, 0]
        with pytest.raises(ValueError, match=r"options\.tolerance: unknown option"):
            pool.score([VerifyItem("1", "1", None, {"tolerance": 0.1})])


def test_items_are_checked_with_their_options():
    items = [VerifyItem("", "H"), VerifyItem("", "H", None, {"choices": "GH"}), VerifyItem("", "(", "regex")]
    with VerifierPool("choice") as pool:
        problems = pool.check_items(items)
    assert problems[1] is None
    assert "none of the choices A, B, C, D, E" in problems[0]
    assert "not a regular expression" in problems[2]


@pytest.mark.parametrize("kind", ["math", "numeric", "exact", "regex", "choice"])
@pytest.mark.parametrize("number", ["$99999999!$", "9^{9^{9^9}}", "1" * 5000])
def test_numbers_without_end_cost_their_reward_and_nothing_else(kind, number):
    items = [VerifyItem(number, "5"), VerifyItem("", "5"), VerifyItem("5", number), VerifyItem("5", "5")]
    with VerifierPool(kind, workers=1, timeout_seconds=4) as pool:
        verdicts = pool.score(items)
    assert [verdict.reward for verdict in verdicts[:3]] == [0.0] * 3
    assert verdicts[3].reward == float(kind != "choice")  # 5 is no letter


@pytest.mark.parametrize("kind", ["math", "numeric", "exact", "regex", "choice"])
def test_a_megabyte_is_not_read(kind):
    endless = "A" * 2**20
    with VerifierPool(kind, workers=1) as pool:
        verdicts = pool.score([VerifyItem(endless, "A"), VerifyItem("A", endless)])
        assert [(verdict.reward, verdict.error) for verdict in verdicts] == [(0.0, "too_long")] * 2
        assert pool.counts == {"too_long": 2}
        assert pool.check_answers([endless]) == ["the answer is over 100,000 characters"]


@pytest.mark.parametrize("kind", ["exact", "numeric"])
def test_a_bad_answer_is_reward_0_and_counted(kind):
    with VerifierPool(kind) as pool:
        assert pool.score([VerifyItem("5", " ")])[0].error == "bad_answer"
        assert pool.counts == {"bad_answer": 1}


def test_no_items_no_verdicts():
    with VerifierPool("exact") as pool:
        assert pool.score([]) == []
        assert pool.check_answers([]) == []


@pytest.mark.parametrize("option", ["workers", "timeout_seconds", "memory_bytes", "max_input_chars"])
def test_limits_must_be_above_0(option):
    with pytest.raises(ValueError, match="above 0"):
        VerifierPool("exact", **{option: 0})


def test_neither_torch_nor_sympy_is_imported():
    program = (
        "import sys, trainer.rewards\n"
        "trainer.rewards.verify('numeric', '5', '5')\n"
        "print([name for name in ('torch', 'sympy', 'math_verify') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
