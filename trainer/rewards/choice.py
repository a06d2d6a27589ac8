r"""`choice`: multiple choice. The one letter that the response states, against the answer's.

Where a response states it, the first of these that is there decides:

    \boxed{B}            the last box; also \boxed{\text{(B)}}, \boxed{B. 42}
    the answer is (B)    the last such phrase: `Answer: **B**`, `the correct option is B`, `option B is correct`
    **B**                when all letters that stand in bold are the same
    B                    the last line, when it is the letter alone: `(B)`, `#### B`, `<answer>B</answer>`

Never guessed: two letters (`A or B`), a letter that begins a sentence (`the answer is A triangle`).
"""

import re

from trainer.rewards.answer_error import BadAnswerError
from trainer.spec.dataset.final_answer import last_boxed

_MARKUP = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|bf|rm)\b\s?|\\[()\[\]]|\\left|\\right|[*_${}`]")
_SPACE = re.compile(r"\\[ ,;:!]|~")
_TAG = re.compile(r"</?(?:answer|choice)>", re.IGNORECASE)

# A letter as it is written where it is named: `B`, `(B)`, `[B]`.
_LETTER = r"[(\[]?(?P<letter>[A-Za-z])(?![A-Za-z0-9'’])[)\]]?"
# Not `A triangle`, nor `A or B`: what follows ends the statement or begins its reason.
_ENDS = (
    r"(?=[ \t]*(?:$|[.;:!)\]\n—–-]|,(?![ \t]*(?:or|and)?[ \t]*[(\[]?[A-Z][)\],.]?(?:\s|$))"
    r"|(?:because|since|as|for|so|which|where|when|with|if|by|is|in this)\b))"
)
_SAID = re.compile(
    r"\b(?:answer|choice|option)\b[ \t]*(?:choice|option)?[ \t]*(?:\((?:letter)\)[ \t]*)?"
    r"(?::|=|\bis\b|\bwould be\b|\bshould be\b|\bmust be\b)[ \t]*:?\s{0,3}"
    r"(?:(?:option|choice|answer|letter)[ \t]+)?" + _LETTER + _ENDS,
    re.IGNORECASE,
)
_IS_CORRECT = re.compile(
    r"(?:\b(?:option|choice|answer)[ \t]+(?=[(\[]?[A-Za-z]\b)|(?=[(\[][A-Za-z][)\]]))" + _LETTER +
    r"[ \t]+is[ \t]+(?:the[ \t]+)?(?:correct|right|best)\b",
    re.IGNORECASE,
)  # fmt: skip
_SEVERAL = re.compile(
    r"\b(?:answers?|choices?|options?)\b[ \t]*(?::|\bis\b|\bare\b)[ \t]*[(\[]?[A-Za-z][)\]]?"
    r"[ \t]*(?:,|/|&|\band\b|\bor\b)[ \t]*(?:and|or)?[ \t]*[(\[]?[A-Z](?![A-Za-z0-9'’])",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*\s?[(\[]?([A-Z])[)\].:]{0,2}\s?\*\*")
_ALONE = re.compile(r"(?:(?:option|choice|answer)[ \t]*:?[ \t]*)?[(\[]?([A-Za-z])[)\]]?[.:]?", re.IGNORECASE)
_LABELLED = re.compile(r"[(\[]?([A-Z])(?:[)\]][.:]?|[.:])(?:\s.*)?", re.DOTALL)


def score(response: str, answer: str, *, choices: str = "ABCDE") -> bool:
    """BadAnswerError when the answer is none of the choices."""
    return stated_choice(response, choices) == answer_choice(answer, choices)


def check(answer: str, *, choices: str = "ABCDE") -> None:
    """BadAnswerError when the answer is none of the choices."""
    answer_choice(answer, choices)


def answer_choice(answer: str, choices: str = "ABCDE") -> str:
    """The letter of a ground truth: `B`, `(B)`, `b`. BadAnswerError for anything else."""
    alone = _ALONE.fullmatch(_plain(answer))
    if alone is None or alone[1].upper() not in choices:
        raise BadAnswerError(f"the answer {answer[:60]!r} is none of the choices {', '.join(choices)}")
    return alone[1].upper()


def stated_choice(response: str, choices: str = "ABCDE") -> str | None:
    """The choice that a response states; None when it states none, or several."""
    boxed = last_boxed(response)
    if boxed is not None:
        return _of(_ALONE.fullmatch(_plain(boxed)) or _LABELLED.fullmatch(_plain(boxed)), choices)
    plain = "\n".join(_plain(line) for line in response.splitlines())
    said = [match for match in (*_SAID.finditer(plain), *_IS_CORRECT.finditer(plain)) if _is_named(match, plain)]
    last = max(said, key=lambda match: match.start("letter"), default=None)
    several = [match.start() for match in _SEVERAL.finditer(plain)]
    if several and (last is None or last.start("letter") <= several[-1] or last.start() <= several[-1]):
        return None
    if last is not None:
        letter = last["letter"].upper()
        return letter if letter in choices else None
    bold = set(_BOLD.findall(response))
    if len(bold) == 1:
        letter = bold.pop()
        return letter if letter in choices else None
    lines = [line for line in plain.splitlines() if line]
    return _of(_ALONE.fullmatch(lines[-1].lstrip("# ")), choices) if lines else None


def _plain(text: str) -> str:
    return _TAG.sub("", _MARKUP.sub("", _SPACE.sub(" ", text))).strip().rstrip(",")


def _is_named(match: re.Match[str], text: str) -> bool:
    """A small letter is a word (`the answer is a prime`) unless it is in brackets or ends its line after a colon."""
    letter = match["letter"]
    if letter.isupper() or text[match.start("letter") - 1] in "([":
        return True
    rest = text[match.end() :].partition("\n")[0]
    return not rest.strip(" \t.") and (letter not in "ai" or ":" in match[0])


def _of(match: re.Match[str] | None, choices: str) -> str | None:
    letter = match[1].upper() if match else ""
    return letter if letter and letter in choices else None
