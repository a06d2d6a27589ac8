"""`exact`, and what `verify` refuses whatever the kind."""

import pytest

from trainer.rewards import BadAnswerError, check_answer, verify
from trainer.rewards.single import MAX_INPUT_CHARS

RIGHT = [
    ("46", "46"),
    (" 46", "46"),
    ("46\n", "46"),
    ("\t46 ", " 46"),
    ("198", "198"),
    ("-7", "-7"),
    ("yes", "yes"),
    ("New  York", "New York"),
    ("New\nYork", "New York"),
    ("a b c", " a  b\tc "),
    ("Ünïcode", "Ünïcode"),
    ("日本", "日本"),
    ("0", "0"),
    ("046", "046"),
    (r"\frac{1}{2}", r"\frac{1}{2}"),
    ("(A)", "(A)"),
    ("x = 5", "x = 5"),
    ("1,234", "1,234"),
    ("True", "True"),
    ("a\u00a0b", "a b"),
]

WRONG = [
    ("", "46"),
    (" ", "46"),
    ("47", "46"),
    ("46.", "46"),
    ("046", "46"),
    ("4 6", "46"),
    ("46 46", "46"),
    ("12+34=46", "46"),
    ("46.0", "46"),
    ("The answer is 46", "46"),
    (r"\boxed{46}", "46"),
    ("#### 46", "46"),
    ("Yes", "yes"),
    ("YES", "yes"),
    ("1234", "1,234"),
    ("NewYork", "New York"),
    ("4", "46"),
    ("461", "46"),
    ("64", "46"),
    ("-46", "46"),
    ("46%", "46"),
    ("４６", "46"),
]


@pytest.mark.parametrize(("response", "answer"), RIGHT)
def test_right(response, answer):
    assert verify("exact", response, answer) == 1.0


@pytest.mark.parametrize(("response", "answer"), WRONG)
def test_wrong(response, answer):
    assert verify("exact", response, answer) == 0.0


def test_options():
    assert verify("exact", "YES", "yes", ignore_case=True) == 1.0
    assert verify("exact", "STRASSE", "straße", ignore_case=True) == 1.0
    assert verify("exact", "46 ", "46", normalize_whitespace=False) == 0.0
    assert verify("exact", "46", "46", normalize_whitespace=False) == 1.0


def test_the_answer_may_be_held_or_avoided():
    for match, right, wrong in (("contain", "it is 46.", "it is 64."), ("differ", "64", "46")):
        assert verify("exact", right, "46", match=match) == 1.0
        assert verify("exact", wrong, "46", match=match) == 0.0
    assert verify("exact", "It Is Yes", "yes", match="contain") == 0.0
    assert verify("exact", "It Is Yes", "yes", match="contain", ignore_case=True) == 1.0


def test_an_empty_answer_is_reported():
    assert check_answer("exact", " ") == "the answer is empty"
    assert check_answer("exact", "46") is None
    with pytest.raises(BadAnswerError):
        verify("exact", "", "")


@pytest.mark.parametrize("kind", ["math", "numeric", "exact", "regex", "choice"])
def test_options_that_a_kind_does_not_take_are_refused(kind):
    with pytest.raises(ValueError, match="takes no option colour"):
        verify(kind, "1", "1", colour="red")


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="unknown verifier 'sympy'; one of: math, numeric, exact, regex, choice"):
        verify("sympy", "1", "1")
    with pytest.raises(ValueError, match="unknown verifier"):
        check_answer("sympy", "1")


@pytest.mark.parametrize(("response", "answer"), [(None, "1"), ("1", None), (1, "1"), ("1", 1.0)])
def test_what_is_not_text_is_refused(response, answer):
    with pytest.raises(TypeError, match="must be text"):
        verify("exact", response, answer)


@pytest.mark.parametrize("kind", ["math", "numeric", "exact", "regex", "choice"])
def test_texts_without_end_are_worth_nothing(kind):
    endless = "1" * 1_000_000
    assert verify(kind, endless, "1") == 0.0
    assert verify(kind, "1", endless) == 0.0
    assert f"over {MAX_INPUT_CHARS:,} characters" in check_answer(kind, endless)
