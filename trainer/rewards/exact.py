"""`exact`: the response is the answer, character by character; or holds it, or is anything but it."""

from typing import Literal

from trainer.rewards.answer_error import BadAnswerError


def score(
    response: str,
    answer: str,
    *,
    match: Literal["equal", "contain", "differ"] = "equal",
    ignore_case: bool = False,
    normalize_whitespace: bool = True,
) -> bool:
    """After taking every run of whitespace as one space (none at the ends), and case away if asked."""
    check(answer)

    def normal(text: str) -> str:
        text = " ".join(text.split()) if normalize_whitespace else text
        return text.casefold() if ignore_case else text

    found, wanted = normal(response), normal(answer)
    if match == "contain":
        return wanted in found
    return (found == wanted) is (match == "equal")


def check(answer: str) -> None:
    """BadAnswerError when no response could ever be equal to it."""
    if not answer.strip():
        raise BadAnswerError("the answer is empty")
