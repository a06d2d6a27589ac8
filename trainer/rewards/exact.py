"""`exact`: the response is the answer, character by character."""

from trainer.rewards.answer_error import BadAnswerError


def score(response: str, answer: str, *, ignore_case: bool = False, normalize_whitespace: bool = True) -> bool:
    """Equal after taking every run of whitespace as one space (none at the ends), and case away if asked."""
    check(answer)

    def normal(text: str) -> str:
        text = " ".join(text.split()) if normalize_whitespace else text
        return text.casefold() if ignore_case else text

    return normal(response) == normal(answer)


def check(answer: str) -> None:
    """BadAnswerError when no response could ever be equal to it."""
    if not answer.strip():
        raise BadAnswerError("the answer is empty")
