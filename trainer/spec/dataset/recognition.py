"""Which columns hold the prompt and the answer: the layouts that are understood without a conversion.

    GSM8K           {question, answer}: the answer is what follows `####`
    verl            {prompt: chat messages, reward_model: {ground_truth: text | {target: text}}, ...}
    TRL             {prompt: text or messages, answer | solution | ground_truth | completion}
    problem sets    {problem | question | instruction, answer | solution | ...}; an `input` is added to `instruction`
    benchmarks      MATH-500, AIME, AMC23, OlympiadBench (`final_answer`, a list of one), capitalised columns too
    chat            {messages: [...], answer}; without an answer column the last message, if it is the assistant's

Where a row offers several, the first of `PROMPT_COLUMNS` that is not null is the prompt. An answer column that states
the answer (`STATED_ANSWERS`) goes before one that works it out (`WORKED_ANSWERS`); stated answers that differ within
a row are an error, since one of them is wrong. `Columns` of the job spec names them outright.

A `kind` column gives the row's own verifier, an `options` object the options of its verifier, a `metadata` object what
else the verifier is told. `options` and `metadata` that are no objects are somebody else's columns and left alone.
"""

import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from pydantic import JsonValue, ValidationError

from trainer.spec.dataset.final_answer import stated_answer, worked_answer
from trainer.spec.dataset.problem import MAX_ANSWER_CHARS, Message, Problem, Record
from trainer.spec.job import Columns
from trainer.spec.pattern import compile_pattern
from trainer.spec.reward import ROW_FAMILIES, ROW_OPTION_NAMES, option_problems, parse_kind, resolve_options

PROMPT_COLUMNS = ("prompt", "problem", "question", "instruction", "messages", "Problem", "Question")
STATED_ANSWERS = ("answer", "reward_model.ground_truth", "ground_truth", "final_answer", "Answer")
WORKED_ANSWERS = ("solution", "completion", "output", "Solution")
KIND_COLUMN = "kind"
OPTIONS_COLUMN = "options"
METADATA_COLUMN = "metadata"
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class FieldError(ValueError):
    """One field of a row cannot be used."""

    def __init__(self, field: str | None, msg: str) -> None:
        super().__init__(msg)
        self.field = field
        self.msg = msg


class NoAnswerError(FieldError):
    """The answer's column is there, and in this row it is null or empty."""


class RecordError(ValueError):
    """All that is wrong with one row: never empty."""

    def __init__(self, problems: list[FieldError]) -> None:
        super().__init__("; ".join(problem.msg for problem in problems))
        self.problems = problems

    @property
    def only_unanswered(self) -> bool:
        return all(isinstance(problem, NoAnswerError) for problem in self.problems)


def columns_needed(columns: Columns) -> frozenset[str]:
    """Names of the top-level columns that can matter: a Parquet reader loads no others."""
    named = {name for name in (columns.prompt, columns.answer) if name is not None}
    known = {
        *PROMPT_COLUMNS,
        *STATED_ANSWERS,
        *WORKED_ANSWERS,
        *named,
        KIND_COLUMN,
        OPTIONS_COLUMN,
        METADATA_COLUMN,
        "input",
    }
    return frozenset(known | {name.split(".")[0] for name in known})


def header_problem(found: Iterable[str], columns: Columns) -> FieldError | None:
    """What is wrong with the column names of a file that has the same ones in every row; None if they will do."""
    names = list(found)
    for wanted, role, known in (
        (columns.prompt, "prompt", PROMPT_COLUMNS),
        (columns.answer, "answer", (*STATED_ANSWERS, *WORKED_ANSWERS)),
    ):
        candidates = known if wanted is None else (wanted,)
        present = any(name in names or name.split(".")[0] in names for name in candidates)
        if not present and not (role == "answer" and wanted is None and "messages" in names):
            return _no_column(role, names, candidates)
    return None


def problem_of(record: Record, columns: Columns) -> tuple[Problem, str, str]:
    """The row as a Problem, the column its prompt came from and the column its answer came from.

    RecordError with everything that is wrong with the row.
    """
    problems: list[FieldError] = []
    prompt: str | list[Message] = ""
    prompt_column = answer_column = answer = ""
    demonstration: str | None = None
    kind: str | None = None
    options: dict[str, JsonValue] | None = None
    metadata: dict[str, JsonValue] | None = None
    try:
        prompt_column, prompt, demonstration = _prompt(record.fields, columns.prompt)
    except FieldError as problem:
        problems.append(problem)
    try:
        answer_column, answer = _answer(record.fields, columns.answer, prompt_column, demonstration)
    except FieldError as problem:
        problems.append(problem)
    try:
        kind = _kind(record.fields)
        options = _options(record.fields, kind)
        _check_pattern(answer_column, answer, kind, options)
    except FieldError as problem:
        problems.append(problem)
    try:
        metadata = _object(record.fields, METADATA_COLUMN)
    except FieldError as problem:
        problems.append(problem)
    if problems:
        raise RecordError(problems)
    return Problem(record.row, prompt, answer, kind, options, metadata), prompt_column, answer_column


def _prompt(fields: Mapping[str, object], wanted: str | None) -> tuple[str, str | list[Message], str | None]:
    """Column, prompt, and the assistant's answer that followed it in a chat, which is no part of the prompt."""
    column, value = _choose(fields, "prompt", (wanted,) if wanted else PROMPT_COLUMNS)
    if isinstance(value, str) and column == "messages":
        value = _json_in_text(column, value)
    if isinstance(value, list):
        messages = _messages(column, value)
        demonstration = None
        if messages[-1].role == "assistant":
            demonstration = messages.pop().content
        if not messages or messages[-1].role != "user":
            raise FieldError(column, "the last message, but for an assistant's answer, must be from the user")
        if not messages[-1].content.strip():
            raise FieldError(column, "the last user message is empty")
        return column, messages, demonstration
    if not isinstance(value, str):
        raise FieldError(column, f"must be text or a list of chat messages, not {_type_name(value)}")
    text = _checked_text(column, value)
    added = fields.get("input") if column == "instruction" else None
    if isinstance(added, str) and added.strip():
        text = f"{text}\n\n{_checked_text('input', added)}"
    return column, text, None


def _answer(
    fields: Mapping[str, object], wanted: str | None, prompt_column: str, demonstration: str | None
) -> tuple[str, str]:
    if wanted is not None:
        column, value = _choose(fields, "answer", (wanted,))
        unwrap = worked_answer if column in WORKED_ANSWERS else stated_answer
        return column, _final(column, unwrap(_answer_text(column, value)))
    stated = {
        column: _final(column, stated_answer(_answer_text(column, value)))
        for column in STATED_ANSWERS
        if (value := _look_up(fields, column)) is not None
    }
    if len(set(stated.values())) > 1:
        listed = ", ".join(f"{column} {_shortened(answer)}" for column, answer in stated.items())
        raise FieldError("answer", f"ambiguous: {listed}; name the right one in columns.answer")
    if stated:
        return next(iter(stated.items()))
    for column in WORKED_ANSWERS:
        value = _look_up(fields, column)
        if value is not None:
            return column, _final(column, worked_answer(_answer_text(column, value)))
    if demonstration is not None:
        return prompt_column, _final(prompt_column, worked_answer(_checked_text(prompt_column, demonstration)))
    raise _missing(fields, "answer", (*STATED_ANSWERS, *WORKED_ANSWERS))


def _kind(fields: Mapping[str, object]) -> str | None:
    value = fields.get(KIND_COLUMN)
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str):
            raise ValueError(f"{_type_name(value)} is no verifier")
        parse_kind(value, ROW_FAMILIES)
    except ValueError as error:
        raise FieldError(
            KIND_COLUMN, f"{error}; null for the job's own (rename the column if it means something else)"
        ) from None
    return value


def _options(fields: Mapping[str, object], kind: str | None) -> dict[str, JsonValue] | None:
    """The row's options as it gives them: checked against its kind where it names one, else by their names."""
    given = _object(fields, OPTIONS_COLUMN)
    if given is None:
        return None
    given = {name: value for name, value in given.items() if value is not None}  # Parquet's objects have every key
    hint = "(rename the column if it means something else)"
    if kind is None:
        unknown = sorted(given.keys() - ROW_OPTION_NAMES)
        if unknown:
            listed = ", ".join(sorted(ROW_OPTION_NAMES))
            raise FieldError(
                OPTIONS_COLUMN,
                f"no verifier has an option {', '.join(map(_shortened, unknown))}; there are: {listed} {hint}",
            )
        return given
    try:
        resolve_options(kind, given)
    except ValidationError as error:
        raise FieldError(OPTIONS_COLUMN, f"{'; '.join(option_problems(error))} (of {kind}) {hint}") from None
    return given


def _check_pattern(column: str, answer: str, kind: str | None, options: Mapping[str, object] | None) -> None:
    """The answer of a row that says it is a regular expression must be one."""
    if kind == "regex" and answer and not (options or {}).get("pattern"):
        try:
            compile_pattern(answer)
        except ValueError as error:
            raise FieldError(column, str(error)) from None


def _object(fields: Mapping[str, object], column: str) -> dict[str, JsonValue] | None:
    """A column's object as plain JSON values; None when it holds none."""
    value = fields.get(column)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json_in_text(column, value)
    if not isinstance(value, Mapping):
        return None
    return {_storable(column, str(name)): _plain(column, inner) for name, inner in value.items()}


def _plain(column: str, value: object) -> JsonValue:
    if isinstance(value, Mapping):
        return {_storable(column, str(name)): _plain(column, inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(column, inner) for inner in value]
    if isinstance(value, str):
        return _storable(column, value)
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(column, "holds a number that is not finite")
    if value is None or isinstance(value, bool | int | float):
        return value
    raise FieldError(column, f"holds {_type_name(value)}, which JSON has not")


def _choose(fields: Mapping[str, object], role: str, candidates: tuple[str, ...]) -> tuple[str, object]:
    """The first candidate that holds something. FieldError when none does."""
    for column in candidates:
        value = _look_up(fields, column)
        if value is not None:
            return column, value
    raise _missing(fields, role, candidates)


def _missing(fields: Mapping[str, object], role: str, candidates: tuple[str, ...]) -> FieldError:
    kind = NoAnswerError if role == "answer" else FieldError
    for column in candidates:
        if column in fields:
            return kind(column, "missing: it is null")
        if column.split(".")[0] in fields:
            return kind(column, "missing")
    return _no_column(role, fields, candidates)


def _no_column(role: str, found: Iterable[str], candidates: tuple[str, ...]) -> FieldError:
    names = ", ".join(_shortened(name) for name in list(found)[:20]) or "none"
    understood = ", ".join(candidates)
    return FieldError(
        role, f"no column with the {role}; found: {names}; understood: {understood} (or name it in columns.{role})"
    )


def _look_up(fields: Mapping[str, object], path: str) -> object:
    """The value at a dotted path, None if it is not there. A column may have the dots in its own name."""
    if path in fields:
        return fields[path]
    value: object = fields
    for name in path.split("."):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _json_in_text(path, value)  # CSV and some Parquet files hold nested objects as JSON text
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _json_in_text(column: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise FieldError(column, "must be a list or an object, but is text that is not JSON either") from None


def _messages(column: str, value: list[object]) -> list[Message]:
    if not value:
        raise FieldError(column, "has no message")
    return [_message(column, number, item) for number, item in enumerate(value, start=1)]


def _message(column: str, number: int, item: object) -> Message:
    if not isinstance(item, Mapping):
        raise FieldError(column, f"message {number} must be an object with role and content, not {_type_name(item)}")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise FieldError(
            column, f"message {number} has role {_shortened(str(role))}; one of {', '.join(sorted(_ROLES))}"
        )
    if isinstance(content, list):
        content = "".join(_text_part(column, number, part) for part in content)
    if not isinstance(content, str):
        raise FieldError(column, f"message {number}: content must be text, not {_type_name(content)}")
    return Message(str(role), _storable(column, content))


def _text_part(column: str, number: int, part: object) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
    if not isinstance(text, str):
        raise FieldError(column, f"message {number}: only text content is understood")
    return text


def _answer_text(column: str, value: object) -> str:
    if isinstance(value, Mapping):
        if "target" not in value:
            raise FieldError(column, f"is an object without `target`; found: {', '.join(map(str, value))}")
        value = value["target"]
    if isinstance(value, list):
        if len(value) != 1:
            raise FieldError(column, f"must be one answer, not a list of {len(value)}")
        value = value[0]
    if isinstance(value, Mapping) and value.get("role") == "assistant":
        value = _message(column, 1, value).content  # TRL's conversational completion
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _number_text(column, value)
    if not isinstance(value, str):
        error = NoAnswerError if value is None else FieldError
        raise error(column, f"must be text or a number, not {_type_name(value)}")
    if not value.strip():
        raise NoAnswerError(column, "is empty")
    return _storable(column, value)


def _number_text(column: str, value: float | Decimal) -> str:
    """As it would be written by hand: 42.0 (what pandas makes of a column with gaps) is 42."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise FieldError(column, f"must be a finite number, not {value}")
    if abs(number.adjusted()) > 1000:
        raise FieldError(column, f"the number {_shortened(str(number))} is out of range")
    return str(int(number)) if number == number.to_integral_value() else str(number)


def _checked_text(column: str, text: str) -> str:
    if not text.strip():
        raise FieldError(column, "is empty")
    return _storable(column, text)


def _storable(column: str, text: str) -> str:
    """JSON can smuggle in characters that neither UTF-8 nor Postgres can hold."""
    if "\0" in text:
        raise FieldError(column, "has a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FieldError(column, f"has half a surrogate pair at character {error.start + 1}") from None
    return text


def _final(column: str, answer: str) -> str:
    if not answer:
        raise NoAnswerError(column, "has no final answer: nothing follows ####")
    if len(answer) > MAX_ANSWER_CHARS:
        raise FieldError(column, f"the answer has {len(answer):,} characters; the limit is {MAX_ANSWER_CHARS:,}")
    return answer


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _type_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", bytes: "bytes", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float | Decimal) else type(value).__name__)
