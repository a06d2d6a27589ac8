"""`reasoning_gym:TASK` answers as the package itself does, from what a data set can hold of an entry."""

import json
import subprocess
import sys

import pytest
import reasoning_gym
from reasoning_gym.utils import extract_answer

from trainer.rewards import UnusableVerifierError, VerifierPool, VerifyItem
from trainer.spec.dataset import read_problems

TASKS = ("leg_counting", "countdown", "word_ladder", "graph_color", "propositional_logic", "rubiks_cube", "mini_sudoku")


@pytest.mark.timeout(300)
def test_it_scores_as_the_package(tmp_path):
    """Entries as rows of a data set, read back, and judged through the subprocess: the package's own score for each."""
    entries = [(task, entry) for task in TASKS for entry in reasoning_gym.create_dataset(task, size=2, seed=7)]
    rows = [
        {"prompt": e["question"], "answer": str(e["answer"]), "kind": f"reasoning_gym:{t}", "metadata": e["metadata"]}
        for t, e in entries
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, expected = [], []
    for problem, (task, entry) in zip(read_problems(tmp_path / "data.jsonl", "jsonl"), entries, strict=True):
        score = reasoning_gym.get_score_answer_fn(task)
        right = problem.answer
        for response in (right, f"I think <answer>{right}</answer>", "<answer>1</answer>", "no idea", ""):
            stated = extract_answer(response)
            expected.append(float(score(response if stated is None else stated, entry)))
            items.append(VerifyItem(response, right, problem.kind, None, str(problem.prompt), problem.metadata))
    with VerifierPool("math", workers=1, timeout_seconds=60) as pool:
        verdicts = pool.score(items)
        assert len(pool._dispatchers["reasoning_gym"]._slots) == 1  # one for all tasks
    assert [verdict.reward for verdict in verdicts] == expected
    assert not any(verdict.error for verdict in verdicts)
    assert {0.0, 1.0} < set(expected)  # some in between: graded


def test_an_unknown_task_is_said_with_what_is_near_it():
    with VerifierPool("reasoning_gym:leg_countin", workers=1, timeout_seconds=60) as pool:
        with pytest.raises(UnusableVerifierError, match=r"no task 'leg_countin'; near it: leg_counting"):
            pool.require(["reasoning_gym:leg_countin"])
        pool.require(["reasoning_gym:leg_counting"])


def test_a_scorer_that_raises_is_reward_0_and_said():
    with VerifierPool("reasoning_gym:word_ladder", workers=1, timeout_seconds=60) as pool:
        [verdict] = pool.score([VerifyItem("COLD,CORD", "COLD,CORD")])  # its metadata is missing
        assert (verdict.reward, verdict.error) == (0.0, "crashed")
        assert "KeyError" in verdict.message
        assert pool.counts == {"crashed": 1}


def test_the_trainer_does_not_import_it():
    code = (
        "import sys; from trainer.spec import JobSpec; from trainer.rewards import VerifierPool; "
        "VerifierPool('reasoning_gym:leg_counting').close(); sys.exit('reasoning_gym' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
