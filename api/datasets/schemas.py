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
    "filename": "gsm8k_train.jsonl",
    "format": "jsonl",
    "columns": ["question", "answer"],
    "rows": 7473,
    "unanswered_rows": 0,
    "bytes": 4166206,
    "sha256": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    "created_at": "2026-01-15T09:30:00Z",
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


class DatasetOut(BaseModel):
    """A stored data set."""

    model_config = example(DATASET_EXAMPLE)

    id: str
    name: str
    filename: str
    format: Literal["jsonl", "csv", "parquet"]
    columns: list[str]
    """The file's columns that hold the prompts and the answers."""
    rows: int
    """The rows that can be trained on."""
    unanswered_rows: int
    """Rows of a Parquet file that are passed over because their answer is null or empty."""
    bytes: int
    sha256: str
    """Of the file as it was uploaded."""
    created_at: datetime

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
