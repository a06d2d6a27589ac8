"""Data sets as the API shows them."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from api.openapi import example
from store.models import Dataset
from trainer.spec.dataset import Problem

DATASET_EXAMPLE = {
    "id": "ds_01jz8x6v5p3q2r1s0t9w8y7zab",
    "name": "gsm8k_train",
    "version": 1,
    "filename": "gsm8k_train.jsonl",
    "format": "jsonl",
    "columns": ["question", "answer"],
    "column_mapping": {},
    "rows": 7473,
    "unanswered_rows": 0,
    "bytes": 4166206,
    "sha256": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    "created_at": "2026-01-15T09:30:00Z",
    "statistics": {
        "prompt_characters": {"min": 42, "median": 219, "p95": 420, "max": 985, "mean": 234.5},
        "answer_characters": {"min": 1, "median": 2, "p95": 4, "max": 9, "mean": 2.2},
        "duplicate_prompts": 0,
        "chats": 0,
        "answer_kinds": {"integer": 7473},
        "row_kinds": {},
    },
}

REJECTED_EXAMPLE = {
    "type": "urn:asym:problem:dataset-rejected",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "3 errors in train.jsonl; nothing was stored",
    "instance": "/datasets",
    "errors": [
        {"line": 3, "field": "answer", "msg": "is missing"},
        {"line": 7, "field": None, "msg": "not valid JSON"},
        {"line": 9, "field": "prompt", "msg": "is empty"},
    ],
    "error_count": 3,
}


class ColumnMapping(BaseModel):
    prompt: str | None = None
    answer: str | None = None


class LengthsOut(BaseModel):
    """Quantiles are values that occur (nearest rank)."""

    min: int
    median: int
    p95: int
    max: int
    mean: float


class StatisticsOut(BaseModel):
    """What the rows are like."""

    prompt_characters: LengthsOut
    """Of a chat, of all its messages together."""
    answer_characters: LengthsOut
    duplicate_prompts: int
    """Rows whose prompt an earlier row has."""
    chats: int
    """Rows whose prompt is chat messages; the others' is text."""
    answer_kinds: dict[str, int]
    """What the answers look like (integer, decimal, fraction, choice, yes_no, expression, text) -> rows."""
    row_kinds: dict[str, int]
    """Verifier -> rows that bring it themselves."""


class TokensOut(BaseModel):
    """How long the prompts are for a model: their own text, without its chat template and the job's prompts around."""

    model_config = example(
        {
            "model": "builtin/smollm2-135m-instruct",
            "rows": 7473,
            "prompt_tokens": {"min": 12, "median": 54, "p95": 102, "max": 239, "mean": 57.3},
            "over_512": 0,
        }
    )

    model: str
    rows: int
    """How many were counted: the first 100,000 at most."""
    prompt_tokens: LengthsOut
    over_512: int
    """Rows longer than 512 tokens, the default of `data.max_prompt_tokens`, which a job would drop."""


class DatasetOut(BaseModel):
    """A stored data set."""

    model_config = example(DATASET_EXAMPLE)

    id: str
    name: str
    version: int
    """Of this name in the team, 1 for the first upload; each upload of the name is the next."""
    filename: str
    format: Literal["jsonl", "csv", "parquet"]
    columns: list[str]
    """The file's columns that hold the prompts and the answers."""
    column_mapping: ColumnMapping
    """What the uploader named as prompt and answer; a job on the data set that names none takes these."""
    rows: int
    """The rows that can be trained on."""
    unanswered_rows: int
    """Rows of a Parquet file that are passed over because their answer is null or empty."""
    bytes: int
    sha256: str
    """Of the file as it was uploaded."""
    created_at: datetime
    statistics: StatisticsOut | None
    """Null for what was uploaded before there were any."""

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        return cls.model_validate(dataset, from_attributes=True)


class MessageOut(BaseModel):
    role: str
    content: str


class RowOut(BaseModel):
    """One row as the trainer reads it."""

    model_config = example({"row": 1, "prompt": "12+34=", "answer": "46", "kind": None})

    row: int
    """1-based; of JSONL the line number."""
    prompt: str | list[MessageOut]
    """Text, or chat messages."""
    answer: str
    kind: str | None
    """The row's own verifier; null: the job's."""

    @classmethod
    def of(cls, problem: Problem) -> Self:
        return cls.model_validate(problem, from_attributes=True)
