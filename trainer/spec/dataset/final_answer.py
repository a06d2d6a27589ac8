r"""Where a worked solution keeps its final answer: GSM8K's `#### 72`, MATH's `\boxed{72}`."""

import re

_BOX = re.compile(r"\\boxed(?![A-Za-z])\s*")
_OLD_BOX = re.compile(r"\\fbox(?![A-Za-z])\s*")
_UNBRACED = re.compile(r"[^\s$.,;{}]+")
# GSM8K's own scoring keeps digits, points and commas after `#### ` and then drops the commas.
_NUMBER_WITH_COMMAS = re.compile(r"[-+]?\$?[0-9][0-9.,]*")


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` (or `\fbox{...}` if there is none); empty when it is not closed.

    None when `text` has no box at all.
    """
    boxes = list(_BOX.finditer(text)) or list(_OLD_BOX.finditer(text))
    return _box_at(text, boxes[-1].end())[0] if boxes else None


def after_hashes(text: str) -> str | None:
    """What follows `####` on the last line of a GSM8K solution, without thousands commas; None if there is no such
    line. Empty when nothing follows."""
    last_line = text.rstrip().rpartition("\n")[2].strip()
    if not last_line.startswith("####") or last_line.startswith("#####"):
        return None
    answer = last_line[4:].strip()
    return answer.replace(",", "") if _NUMBER_WITH_COMMAS.fullmatch(answer) else answer


def stated_answer(text: str) -> str:
    r"""A ground truth as a data set gives it, without what is only wrapping: the text after `####`, or the content of
    a `\boxed{}` that is the whole text."""
    hashed = after_hashes(text)
    if hashed is not None:
        return hashed
    bare = text.strip()
    boxed = bare.strip("$.").strip()
    opening = _BOX.match(boxed)
    if opening:
        content, end = _box_at(boxed, opening.end())
        if content and end == len(boxed):
            return stated_answer(content)
    return bare


def worked_answer(text: str) -> str:
    r"""The final answer of a worked solution: after `####`, else in the last `\boxed{}`, else the whole text."""
    hashed = after_hashes(text)
    if hashed is not None:
        return hashed
    return last_boxed(text) or text.strip()


def _box_at(text: str, start: int) -> tuple[str, int]:
    """Content and end of the box whose `{` is at `start`; ("", len(text)) when it is not closed."""
    if not text.startswith("{", start):
        unbraced = _UNBRACED.match(text, start)
        return (unbraced[0], unbraced.end()) if unbraced else ("", len(text))
    depth = 0
    position = start
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 1  # the next character is escaped: \{ and \} are set braces, not groups
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : position].strip(), position + 1
        position += 1
    return "", len(text)
