"""Data sets and their rows."""

from typing import Literal, TypedDict


class Lengths(TypedDict):
    """Quantiles are values that occur (nearest rank)."""

    min: int
    median: int
    p95: int
    max: int
    mean: float


class DatasetStatistics(TypedDict):
    """What the rows of a data set are like."""

    prompt_characters: Lengths
    answer_characters: Lengths
    duplicate_prompts: int
    """Rows whose prompt an earlier row has."""
    chats: int
    answer_kinds: dict[str, int]
    row_kinds: dict[str, int]


class PromptTokens(TypedDict):
    model: str
    rows: int
    prompt_tokens: Lengths
    over_512: int


class Dataset(TypedDict):
    id: str
    name: str
    version: int
    """Of this name, 1 for its first upload."""
    filename: str
    format: Literal["jsonl", "csv", "parquet"]
    columns: list[str]
    """The columns that hold the prompts and the answers."""
    column_mapping: dict[str, str | None]
    """What the uploader named as prompt and answer."""
    rows: int
    bytes: int
    sha256: str
    created_at: str
    statistics: DatasetStatistics | None


class DatasetRow(TypedDict):
    row: int
    prompt: str | list[dict[str, str]]
    answer: str
    kind: str | None
