"""`regex`: RE2 in the calling process. What matches, what is equal, what is refused, and that nothing takes long."""

import time

import pytest

from trainer.rewards import BadAnswerError, VerifierPool, VerifyItem, check_answer, verify
from trainer.rewards.regex import SEARCH_SECONDS, SlowPatternError, score


@pytest.mark.parametrize(
    ("response", "answer", "options", "right"),
    [
        ("it is 46.", r"\b46\b", {}, True),
        ("it is 461.", r"\b46\b", {}, False),
        ("", "46", {}, False),
        ("46", "46", {"full_match": True}, True),
        (" 46\n", "46", {"full_match": True}, True),
        ("it is 46", "46", {"full_match": True}, False),
        ("YES", "yes|no", {}, False),
        ("YES", "yes|no", {"ignore_case": True}, True),
        ("Grüße, 日本", "^Gr.+日", {}, True),
        ("half \ud800 a pair", "pair", {}, True),
        ("a\nb", "a.b", {}, False),
        ("a\nb", "(?s)a.b", {}, True),
        ("#### 7\n#### 72", "72", {"pattern": r"#### (\d+)"}, True),
        ("#### 72\n#### 7", "72", {"pattern": r"#### (\d+)"}, False),
        ("no mark", "72", {"pattern": r"#### (\d+)"}, False),
        ("1 2 3", "3", {"pattern": r"\d"}, True),
        ("x = new   york", "New York", {"pattern": "x = (.*)", "ignore_case": True}, True),
        ("x = new york", "New York", {"pattern": "x = (.*)"}, False),
        ("say no", "yes", {"pattern": "yes|(no)"}, False),
        ("yes", "yes", {"pattern": "yes|(no)"}, False),
        ("7 apples", "7", {"pattern": r"(\d+) apples", "full_match": True}, True),
        ("I have 7 apples", "7", {"pattern": r"(\d+) apples", "full_match": True}, False),
    ],
)
def test_right_and_wrong(response, answer, options, right):
    assert verify("regex", response, answer, **options) == float(right)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (r"(?=46)", "lookaround"),
        (r"(?<!4)6", "lookaround"),
        (r"(a)\1", "backreferences"),
        ("(", "missing )"),
        ("[a", "missing ]"),
        ("a{2000}", "invalid repetition"),
        ("(((a{9}){9}){9}){9}", "not a regular expression"),
        (r"(\pL\w){1,400}", "too large"),
        ("a" * 2001, "2,001 characters; the limit is 2,000"),
    ],
)
def test_what_re2_does_not_take_is_refused_with_its_reason(pattern, says):
    with pytest.raises(ValueError, match=r"options\.pattern") as raised:
        verify("regex", "46", "46", pattern=pattern)
    assert says in str(raised.value)
    assert says in check_answer("regex", pattern)
    with pytest.raises(BadAnswerError):
        verify("regex", "46", pattern)
    # With a pattern of the job's the answer is plain text, which may look like anything.
    assert check_answer("regex", pattern, pattern=".*") is None


def test_an_empty_answer_is_reported():
    assert check_answer("regex", " ") == "the answer is empty"
    assert check_answer("regex", " ", pattern="a") == "the answer is empty"


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*(a*)*b", "(?:a?){300}b", "(.*a){40}b"])
def test_patterns_that_others_never_finish_are_linear(pattern):
    started = time.perf_counter()
    assert verify("regex", "a" * 100_000, pattern) == 0.0
    assert time.perf_counter() - started < 20  # not 2 ** 100,000


def test_a_last_match_that_takes_too_long_is_given_up():
    # Each match looks ahead to the end for a `b`: half a million million characters.
    slow = {"pattern": "a(?:.*b)?"}
    with pytest.raises(SlowPatternError):
        score("a" * 1_000_000, "a", **slow)
    response = "a" * 100_000
    with VerifierPool("regex", options=slow) as pool:
        verdict = pool.score([VerifyItem(response, "b")])[0]
    assert (verdict.reward, verdict.seconds < 20 * SEARCH_SECONDS) == (0.0, True)
