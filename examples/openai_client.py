"""Reinforcement fine-tuning on Asym with the official OpenAI client: upload, create, follow, fetch the result's name.

    pip install openai
    asym up                                  # in another terminal; writes the address and the key to ASYM_HOME
    python examples/openai_client.py [STEPS]

A 0.9 M-parameter model learns two-digit additions, in about two minutes on a CPU.
"""

import json
import os
import sys
import time
from pathlib import Path

from openai import OpenAI

HERE = Path(__file__).parent


def connect() -> OpenAI:
    """ASYM_API_URL and ASYM_API_KEY, or what `asym up` has written."""
    url, key = os.environ.get("ASYM_API_URL"), os.environ.get("ASYM_API_KEY")
    if url is None or key is None:
        home = Path(os.environ.get("ASYM_HOME", "~/.asym")).expanduser()
        written = json.loads((home / "credentials.json").read_text())
        url, key = url or written["api_url"], key or written["api_key"]
    return OpenAI(base_url=f"{url}/v1", api_key=key)


def as_chat(path: Path) -> bytes:
    """The example's rows as OpenAI's files have them: chat messages, and a field for the grader."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    chats = [{"messages": [{"role": "user", "content": row["prompt"]}], "answer": row["answer"]} for row in rows]
    return "".join(json.dumps(chat) + "\n" for chat in chats).encode()


def main(steps: int = 60) -> None:
    client = connect()
    train = client.files.create(file=("train.jsonl", as_chat(HERE / "additions-train.jsonl")), purpose="fine-tune")
    test = client.files.create(file=("test.jsonl", as_chat(HERE / "additions-eval.jsonl")), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="builtin/tiny-arith",
        training_file=train.id,
        validation_file=test.id,
        suffix="additions",
        method={
            "type": "reinforcement",
            "reinforcement": {
                "grader": {
                    "type": "string_check",
                    "name": "right",
                    "operation": "eq",
                    "input": "{{sample.output_text}}",
                    "reference": "{{item.answer}}",
                },
                "hyperparameters": {"batch_size": 32, "n_epochs": 1, "eval_interval": 20},
            },
        },
        # Beyond OpenAI's shape: any part of a job spec.
        extra_body={"asym": {"rollout": {"max_new_tokens": 6}, "train": {"steps": steps}}},
    )
    print(job.id, job.status)
    seen: set[str] = set()
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
        # Newest first, as OpenAI lists them.
        events = client.fine_tuning.jobs.list_events(job.id, limit=50).data
        for event in reversed(events):
            if event.id not in seen:
                seen.add(event.id)
                print(event.message)
    for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
        print(checkpoint.fine_tuned_model_checkpoint)
    print(job.status, job.fine_tuned_model or job.error)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
