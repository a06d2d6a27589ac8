r"""`math`: Math-Verify decides whether the response's final answer is mathematically the ground truth.

What is compared: the last `\boxed{}` of the response and nothing else if there is one (an earlier box, or a number
in the prose after it, is no answer), else the last `#### number` line, else what Math-Verify finds: what follows
"final answer is" or the like, else the last expression or number.

Runs in the verifier subprocesses only: sympy has inputs on which it takes forever and all memory. Math-Verify's own
time limits are off: they rest on SIGALRM, which cannot interrupt one long multiplication; a kill from outside can.
"""

import logging
import re
from dataclasses import replace

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.span import stated_span

# Says once per process that its time limits are off.
logging.getLogger("math_verify").setLevel(logging.CRITICAL)

_BOXED = LatexExtractionConfig(boxed_match_priority=0)
# Dropping units makes `a +` of `a + b + c`, so what did not parse is tried again with them.
_BOXED_WITH_UNITS = replace(_BOXED, normalization_config=replace(_BOXED.normalization_config, units=False))
_ANYWHERE = (LatexExtractionConfig(), ExprExtractionConfig())

_HAS_MARKUP = re.compile(r"(?<!\\)\$|\\boxed|\\\(|\\\[")
_PERCENT = re.compile(r"(?:\\?%|\\(?:text|mbox|textnormal|mathrm)\{\s*(?:\\?%|percent)\s*\})\s*$")
_TEXT = re.compile(r"\\(?:text|textbf|textnormal|mbox|mathrm)\s?\{([^{}]*)\}")
_SPACE = re.compile(r"\\[,;:! ]|(?<!\d)\s+|\s+(?!\d)")


def score(response: str, answer: str) -> bool:
    """BadAnswerError when there is nothing in the answer to compare with."""
    gold, gold_percent = _without_percent(answer)
    if not _parse_answer(gold):
        raise BadAnswerError(f"no expression in the answer {answer[:60]!r}")
    span = stated_span(response)
    stated, percent = _without_percent(response if span is None else span)
    if not stated:
        return False
    if span is None and _as_text(stated) != _as_text(gold):
        return _equal(_parse_answer(answer.strip()), _parse_anywhere(response))
    # `25\%` answers a question for a percentage as `25` does, and is 0.25.
    if _matches(stated, gold):
        return True
    return percent != gold_percent and (
        _matches(f"\\frac{{{stated}}}{{100}}", gold) if percent else _matches(stated, f"\\frac{{{gold}}}{{100}}")
    )


def check(answer: str) -> None:
    """BadAnswerError when Math-Verify finds nothing in it."""
    if not _parse_answer(_without_percent(answer)[0]):
        raise BadAnswerError(f"no expression in the answer {answer[:60]!r}")


def self_test() -> None:
    """RuntimeError when Math-Verify cannot parse: it hides a missing or mismatched ANTLR runtime by finding nothing,
    and every reward would silently be 0."""
    if not score(r"\boxed{\frac{1}{2}}", "0.5") or score(r"\boxed{\frac{1}{3}}", "0.5"):
        raise RuntimeError("Math-Verify does not work here: is antlr4-python3-runtime of the right version installed?")


def _matches(stated: str, gold: str) -> bool:
    return _as_text(stated) == _as_text(gold) or _equal(_parse_answer(gold), _parse_answer(stated))


def _equal(gold: list[object], found: list[object]) -> bool:
    return bool(gold and found and verify(gold, found, timeout_seconds=None))


def _parse_answer(text: str) -> list[object]:
    """A ground truth or the content of a box: LaTeX without its dollars, unless it has them."""
    if _HAS_MARKUP.search(text):
        return _parse_anywhere(text)
    boxed = f"\\boxed{{{text}}}"
    found = list(parse(boxed, extraction_config=(_BOXED,), parsing_timeout=None))
    if all(isinstance(expression, str) for expression in found):
        found += parse(boxed, extraction_config=(_BOXED_WITH_UNITS,), parsing_timeout=None)
    return found


def _parse_anywhere(text: str) -> list[object]:
    return list(parse(text, extraction_config=_ANYWHERE, parsing_timeout=None))


def _without_percent(text: str) -> tuple[str, bool]:
    """The text without a percent sign and a full stop at its end, and whether it had the sign."""
    text = text.strip().rstrip(".,;").rstrip()
    bare = _PERCENT.sub("", text).rstrip()
    return bare, bare != text


def _as_text(text: str) -> str:
    """The text without what does not show: spaces (but those between digits), dollars, text commands."""
    bare = _SPACE.sub("", _TEXT.sub(r"\1", text)).replace("$", "")
    inside = bare[1:-1]
    return inside if bare.startswith("{") and bare.endswith("}") and not set("{}") & set(inside) else bare
