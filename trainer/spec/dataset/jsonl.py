"""JSONL: one JSON object a line, read strictly. What Python's reader lets pass (NaN, a key twice) is an error here."""

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import BinaryIO, NoReturn

from trainer.spec.dataset.lines import bounded_lines, decode
from trainer.spec.dataset.problem import Limits, Record, RowError


def records(stream: BinaryIO, limits: Limits, after: int = 0) -> Iterator[Record | RowError]:
    """Every line that is not blank, as a record or as what is wrong with it. Lines up to `after` are not read."""
    decoder = _decoder(limits)
    rows = 0
    for number, line in enumerate(bounded_lines(stream, limits.max_line_bytes), start=1):
        if number <= after or (line is not None and not line.strip()):
            continue
        rows += 1
        if rows > limits.max_rows:
            yield RowError(number, None, f"more than {limits.max_rows:,} rows; the rest was not read")
            return
        if line is None:
            yield RowError(number, None, f"longer than {limits.max_line_bytes:,} bytes")
            continue
        try:
            fields = _parse(line, decoder, limits)
        except ValueError as error:
            yield RowError(number, None, str(error))
        else:
            yield Record(number, number, fields)


def _parse(line: bytes, decoder: json.JSONDecoder, limits: Limits) -> dict[str, object]:
    text = decode(line).strip()
    if text.count("{") + text.count("[") > limits.max_depth and _depth(text) > limits.max_depth:
        raise ValueError(f"nested deeper than {limits.max_depth} levels")
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(value, dict):
        hint = "; a file of JSON lines has one object on each line" if isinstance(value, list) else ""
        raise ValueError(f"must be a JSON object, is {_json_type(value)}{hint}")
    return value


def _decoder(limits: Limits) -> json.JSONDecoder:
    def digits(literal: str) -> str:
        if len(literal) > limits.max_digits:
            raise ValueError(f"a number of {len(literal):,} characters; the limit is {limits.max_digits:,}")
        return literal

    def decimal(literal: str) -> Decimal:
        # Decimal keeps 2.50 as it was written, which an exact comparison needs.
        try:
            return Decimal(digits(literal))
        except InvalidOperation:
            raise ValueError(f"the number {literal[:60]} is out of range") from None

    def constant(literal: str) -> NoReturn:
        raise ValueError(f"{literal} is not JSON")

    return json.JSONDecoder(
        object_pairs_hook=_object,
        parse_float=decimal,
        parse_int=lambda literal: int(digits(literal)),
        parse_constant=constant,
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:60]!r} is given twice")
    return fields


def _depth(text: str) -> int:
    """How deep objects and lists lie within one another, brackets in strings not counted."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
