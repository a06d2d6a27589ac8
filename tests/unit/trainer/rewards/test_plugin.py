"""`plugin:NAME`: a real distribution with an entry point, found by the verifier's subprocess on its own path."""

from pathlib import Path

import pytest

from trainer.rewards import UnusableVerifierError, VerifierPool, VerifyItem

MODULE = '''
"""A verifier as another package would bring it."""

import os


def check(answer):
    if answer == "unanswerable":
        raise ValueError("nobody knows")


def score(response, answer, *, metadata=None, weight=1.0):
    match response:
        case "nothing":
            return None
        case "true":
            return True
        case "text":
            return "1.0"
        case "nan" | "inf" | "2.0" | "-1":
            return float(response)
        case "raise":
            raise KeyError("a plugin's bug")
        case "leave":
            raise SystemExit(3)
        case "die":
            os._exit(0)
        case "hang":
            while True:
                pass
        case "print":
            print("x" * 100_000)
        case "metadata":
            return weight if metadata == {"n": [1, 2]} else 0.0
    return weight if response == answer else 0.0


class Judge:
    def score(self, response, answer, *, metadata=None):
        return 0.25


judge = Judge()
'''


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_verifiers.py").write_text(MODULE)
    (tmp_path / "broken_verifier.py").write_text("import nowhere_to_be_found")
    info = tmp_path / "my_verifiers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-verifiers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[asym.verifiers]\nmine = my_verifiers\njudge = my_verifiers:judge\nbroken = broken_verifier\n"
        "hollow = my_verifiers:MODULE_WITHOUT\nnumber = my_verifiers:os\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


def pool(name: str = "mine", seconds: float = 60.0, **options: object) -> VerifierPool:
    return VerifierPool(f"plugin:{name}", workers=1, timeout_seconds=seconds, options=options)


def test_a_plugin_scores_with_its_options_and_the_rows_metadata():
    items = [VerifyItem("5", "5"), VerifyItem("6", "5"), VerifyItem("metadata", "", metadata={"n": [1, 2]})]
    with pool(weight=0.5) as mine, pool("judge") as judge:
        mine.require(["plugin:mine"])
        assert [verdict.reward for verdict in mine.score(items)] == [0.5, 0.0, 0.5]
        assert [verdict.reward for verdict in judge.score(items)] == [0.25] * 3
        assert mine.check_answers(["5", "unanswerable"]) == [None, "ValueError: nobody knows"]


@pytest.mark.parametrize(
    ("response", "error", "says"),
    [
        ("nothing", "bad_reply", "gave None"),
        ("true", "bad_reply", "gave True"),
        ("text", "bad_reply", "gave '1.0'"),
        ("nan", "bad_reply", "gave nan"),
        ("inf", "bad_reply", "gave inf"),
        ("2.0", "bad_reply", "gave 2.0"),
        ("-1", "bad_reply", "gave -1"),
        ("raise", "crashed", 'KeyError: "a plugin\'s bug"'),
        ("leave", "crashed", "SystemExit: 3"),
        ("die", "crashed", ""),
        ("hang", "timeout", ""),
    ],
)
def test_what_a_plugin_does_wrong_is_reward_0_counted_and_said(response, error, says):
    with pool(seconds=2.0 if error == "timeout" else 60.0) as mine:
        bad, good = mine.score([VerifyItem(response, "5"), VerifyItem("5", "5")])
        assert (bad.reward, bad.error) == (0.0, error)
        assert says in bad.message
        assert (good.reward, good.error) == (1.0, None)
        assert mine.counts == {error: 1}


def test_a_talkative_plugin_reaches_no_limit():
    with pool() as mine:
        verdicts = mine.score([VerifyItem("print", "print")] * 30)  # 3 MB of words
    assert [verdict.error for verdict in verdicts] == [None] * 30


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yours", r"no verifier plugin 'yours' is installed here; there are: .*broken, hollow, judge, mine, number"),
        ("broken", "broken does not load: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("hollow", "hollow does not load: AttributeError"),
        ("number", r"number \(my_verifiers:os\) has no function score"),
    ],
)
def test_a_plugin_that_cannot_be_had_is_said(name, says):
    with pool(name) as missing, pytest.raises(UnusableVerifierError, match=says):
        missing.require([f"plugin:{name}"])


def test_an_option_that_is_no_argument_is_refused():
    with pytest.raises(ValueError, match="cannot be an argument of a plugin: metadata"):
        pool(metadata={})
