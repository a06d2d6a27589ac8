"""Prompts and answers as the Parquet that verl's RLHFDataset reads.

    prompt        list of {role, content}: the chat as `trainer.prompts` builds it, template and system prompt within
    data_source   `train`, or the benchmark's name
    reward_model  {ground_truth}
    extra_info    {index, question, kind, options, metadata}: the row, and what its verifier is told; the last two as
                  JSON, since Arrow wants one type for all rows

verl applies the model's chat template itself, to the same effect as `trainer.prompts.build_prompts`: the template
writes the special tokens, and nothing is added.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.prompts import chat_messages
from trainer.spec.dataset import Problem, apply_template, last_user_text
from trainer.spec.job import DataSpec

SCHEMA = pa.schema([
    ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ("data_source", pa.string()),
    ("reward_model", pa.struct([("ground_truth", pa.string())])),
    ("extra_info", pa.struct([
        ("index", pa.int64()),
        ("question", pa.string()),
        ("kind", pa.string()),
        ("options", pa.string()),
        ("metadata", pa.string()),
    ])),
])  # fmt: skip

_ROWS_AT_ONCE = 10_000


def write_parquet(path: Path, problems: Iterable[Problem], source: str, data: DataSpec) -> int:
    """Write the problems in their order; how many there were. OSError when the disk does not take them."""
    count = 0
    with pq.ParquetWriter(path, SCHEMA) as writer:
        batch: list[dict[str, object]] = []
        for problem in problems:
            batch.append(_row(problem, source, data))
            if len(batch) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
                count += len(batch)
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
        return count + len(batch)


def _row(problem: Problem, source: str, data: DataSpec) -> dict[str, object]:
    question = last_user_text(problem.prompt)
    text = apply_template(data.prompt_template, question)
    return {
        "prompt": chat_messages(problem.prompt, text, data.system_prompt),
        "data_source": source,
        "reward_model": {"ground_truth": problem.answer},
        "extra_info": {
            "index": problem.row,
            "question": question,
            "kind": problem.kind,
            "options": None if problem.options is None else json.dumps(dict(problem.options)),
            "metadata": None if problem.metadata is None else json.dumps(dict(problem.metadata)),
        },
    }
