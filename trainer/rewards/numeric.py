r"""`numeric`: the last number of the response is the answer's number, compared as exact fractions.

A response that marks its answer (`\boxed{}`, a `#### 72` line) is read there only, and that must be one number with
at most units around it. Understood: thousands commas, currency, percent, decimals, `3/4` and `\frac{3}{4}`, mixed
numbers, powers, scientific notation (`1e3`, `1.2 \times 10^3`). `2\pi` and `\sqrt{2}` are not numbers here.
"""

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.span import stated_span

MAX_DIGITS = 400
"""Of one number, and of a power's value: longer ones are no answer to anything, and cost time."""

# Possessive (++, *+): a million digits are gone through once, not once from every position.
_PLAIN = r"(?:\d{1,3}(?:,\d{3})++(?![\d])|\d++)(?:\.\d++)?|\.\d++"
_ARGUMENT = r"(?:\{\s*+(-?\s*+[\d,]++(?:\.\d++)?)\s*+\}|(\d))"
_EXPONENT = r"(?:\{\s*+(-?\d++)\s*+\}|(-?\d++))"
_NUMBER = re.compile(
    rf"""
    (?<![\w.^])(?<!\^\{{)(?<!_\{{)              # not a piece of a word, an exponent or an index
    (?:
        (?P<whole>\d++)?\s*+\\frac\s*+(?P<upper>{_ARGUMENT})\s*+(?P<lower>{_ARGUMENT})
      | (?P<mixed>\d++)[ ]++(?P<top>\d++)/(?P<bottom>\d++)(?![\d,/]|\.\d)
      | (?P<number>{_PLAIN})
        (?: [eE](?P<exponent>[-+]?\d++)(?!\w)
          | \s*+(?:\\times|\\cdot|\*|x|×)\s*+10\s*+(?:\^\s*+|\*\*)(?P<ten>{_EXPONENT})
          | (?:\s*+\^\s*+|\*\*(?=-?\d))(?P<power>{_EXPONENT})
          | \s*+/\s*+(?P<divisor>{_PLAIN})
        )?
    )
    (?P<percent>\s*+(?:%|percent\b|per[ ]cent\b))?
    (?P<irrational>[ ]*+(?:\\pi\b|π|\\sqrt|√))?
    """,
    re.VERBOSE | re.ASCII,
)
_ARGUMENT_OF_SOMETHING = re.compile(r"(?:\\sqrt\s?\{?|√\s?\(?|\}\s?\{)\s?-?\s?$")
_THOUSANDS_IN_LATEX = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,|\\ )(?=\d{3})")
_DEGREES = re.compile(r"\^\s?(?:\\circ\b|\{\s?\\circ\s?\})|°")
_FRACTIONS = re.compile(r"\\[dtc]frac\b|\\[dtc]frac(?=\d)")
_SPACES = re.compile(r"\s++")
_HARMLESS_COMMANDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|left|right|approx|quad|[,;:! ()\[\]])")
_CURRENCY = "$€£¥₹"


class Number(NamedTuple):
    value: Fraction
    percent: bool


def score(response: str, answer: str, *, tolerance: float = 0.0) -> bool:
    """Whether the response's number is the answer's, or within `tolerance * max(1, |answer|)` of it.

    `25%` equals `25` and `0.25` (a question that asks for a percentage is answered with and without the sign); two
    percentages are compared as they are. BadAnswerError when the answer is not one number.
    """
    truth = answer_number(answer)
    found = response_number(response)
    if found is None:
        return False
    allowed = tolerance_fraction(tolerance) * max(Fraction(1), abs(truth.value))
    readings = {found.value}
    if found.percent and not truth.percent:
        readings.add(found.value / 100)
    if truth.percent and not found.percent:
        readings.add(found.value * 100)
    return any(abs(reading - truth.value) <= allowed for reading in readings)


def check(answer: str) -> None:
    """BadAnswerError when the answer is not one number."""
    answer_number(answer)


def tolerance_fraction(tolerance: float) -> Fraction:
    """ValueError unless it is a finite number of at least 0."""
    if isinstance(tolerance, bool) or not math.isfinite(tolerance) or tolerance < 0:
        raise ValueError(f"tolerance must be a finite number of at least 0, got {tolerance}")
    return Fraction(str(tolerance))


def answer_number(answer: str) -> Number:
    """The one number of a ground truth; units and currency may stand around it."""
    number = _only_number(answer)
    if number is None:
        shown = answer if len(answer) <= 60 else answer[:57] + "..."
        raise BadAnswerError(f"the answer {shown!r} is not one number")
    return number


def response_number(response: str) -> Number | None:
    """The number a response gives as its answer; None when it gives none that can be read."""
    span = stated_span(response)
    if span is not None:
        return _only_number(span)
    last = None
    text = _simplified(response)
    for last in _NUMBER.finditer(text):  # noqa: B007 - the last one is what is wanted
        pass
    return None if last is None else _number(text, last)


def _only_number(span: str) -> Number | None:
    """The number of a span that holds one, at most with a name (`x =`) before it and units around it."""
    text = _simplified(span).rpartition("=")[2]
    matches = list(_first_two(text))
    if len(matches) != 1:
        return None
    start, end = matches[0].span()
    around = _HARMLESS_COMMANDS.sub(" ", text[:start] + " " + text[end:])
    # What is left of a formula that was not understood, say the root in \frac{\sqrt{3}}{2}.
    if "\\" in around or "√" in around or "π" in around:
        return None
    return _number(text, matches[0])


def _first_two(text: str) -> Iterator[re.Match[str]]:
    for count, match in enumerate(_NUMBER.finditer(text)):
        if count == 2:
            return
        yield match


def _simplified(text: str) -> str:
    # One space for many: runs of them would otherwise be gone through from each of their positions.
    text = _SPACES.sub(lambda run: "\n" if "\n" in run[0] else " ", text)
    text = text.replace("−", "-").replace("\\$", "$").replace("\\%", "%")
    text = _FRACTIONS.sub(r"\\frac", text)
    text = _DEGREES.sub(" ", text)
    return _THOUSANDS_IN_LATEX.sub(",", text)


def _number(text: str, match: re.Match[str]) -> Number | None:
    before = text[max(0, match.start() - 16) : match.start()]
    if match["irrational"] or _ARGUMENT_OF_SOMETHING.search(before):
        return None
    if sum(char.isdigit() for char in match[0]) > MAX_DIGITS:
        return None
    value = _value(match)
    if value is None:
        return None
    return Number(-value if _is_negative(text, match.start()) else value, match["percent"] is not None)


def _value(match: re.Match[str]) -> Fraction | None:
    """None for a division by zero and for powers beyond MAX_DIGITS."""
    if match["upper"]:
        value = _quotient(_plain(match["upper"]), _plain(match["lower"]))
        return value if value is None or not match["whole"] else int(match["whole"]) + value
    if match["mixed"]:
        part = _quotient(_plain(match["top"]), _plain(match["bottom"]))
        # `2 6/3` is two numbers, of which the last counts.
        return int(match["mixed"]) + part if part is not None and part < 1 else part
    number = _plain(match["number"])
    if match["divisor"]:
        return _quotient(number, _plain(match["divisor"]))
    if match["power"]:
        return _power(number, _integer(match["power"]))
    shift = match["exponent"] or match["ten"]
    if shift is None:
        return number
    ten = _power(Fraction(10), _integer(shift))
    return None if ten is None else number * ten


def _plain(text: str) -> Fraction:
    return Fraction(re.sub(r"[{},\s]", "", text))


def _integer(text: str) -> int:
    return int(re.sub(r"[{}\s]", "", text))


def _quotient(top: Fraction, bottom: Fraction) -> Fraction | None:
    return top / bottom if bottom else None


def _power(base: Fraction, exponent: int) -> Fraction | None:
    digits = max(len(str(abs(base.numerator))), len(str(base.denominator)))
    if digits * abs(exponent) > MAX_DIGITS or (base == 0 and exponent < 0):
        return None
    return base**exponent


def _is_negative(text: str, start: int) -> bool:
    """Whether a minus before a number is its sign. In `10-5` it is not, nor is the dash of a list item (`- 5`)."""
    position = start
    while position and text[position - 1] in _CURRENCY:
        position -= 1
    spaced = position > 0 and text[position - 1] == " "
    while position and text[position - 1] == " ":
        position -= 1
    if not position or text[position - 1] != "-":
        return False
    before = text[: position - 1].rstrip(" ")[-1:]
    if spaced:
        return before in ("=", "(", "{", "[", ":") and before != ""
    return not (position > 1 and (text[position - 2].isalnum() or text[position - 2] in ")]}%."))
