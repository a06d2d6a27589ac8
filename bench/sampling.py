"""./dev bench sampling: tokens from a checkpoint through the API, beside transformers' own generate in one batch.

    cold        from the first request for a model that nobody has loaded to its whole answer
    1 x 1       one client, one sample a request; 8 x 1, 8 x 16: eight clients at once, so many samples a request

A platform of its own, POST /v1/completions over HTTP. The peer is `model.generate` in this process with the same model,
prompts, temperature and number of samples, all of them in one call: no server, no queue, nobody who comes later. Both
take turns; samples end where the model ends them. Exit status 1 when an answer is not what was asked for.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args

import httpx
import torch

from bench.platform import Platform, opened
from trainer.models import Policy, load_policy
from trainer.spec.job import EngineName

LOADS = {"1 x 1": (1, 1), "8 x 1": (8, 1), "8 x 16": (8, 16)}
"""Clients, and samples of each request."""
QUESTIONS = (
    "Tell me about the sea.", "Why is the sky blue?", "How do bees find their way?", "What is a prime number?",
    "Describe a winter morning.", "How is bread made?", "Who built the pyramids?", "What does a lawyer do?",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench sampling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin/smollm2-135m-instruct")
    parser.add_argument("--engine", choices=get_args(EngineName), default="auto", help="ASYM_SAMPLER_ENGINE")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="of each load, on each side")
    parser.add_argument("--requests", type=int, default=2, help="of each client in a round, one after the other")
    parser.add_argument("--models-cache", type=Path, default=Path(".cache/models"), help="where models are unpacked")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    print(f"load before: {', '.join(f'{load:.2f}' for load in os.getloadavg())} on {os.cpu_count()} cores")
    options.models_cache.mkdir(parents=True, exist_ok=True)
    policy = load_policy(options.model, model_dir=None, cache_dir=options.models_cache, models_dir=None, device="cpu")
    figures: dict[str, Any] = {}
    with opened(options.models_cache, ASYM_SAMPLER_ENGINE=options.engine, ASYM_SAMPLER_WAIT_SECONDS="600") as platform:
        with platform.client(timeout=600) as http:
            began = time.monotonic()
            _ask(http, options, 0, 1)
            figures["cold"] = time.monotonic() - began
        print(f"cold: {figures['cold']:.1f} s")
        for name, (clients, samples) in LOADS.items():
            rounds = []
            for _ in range(options.rounds):
                rounds.append(
                    {
                        "ours": through_the_api(platform, options, clients, samples),
                        "theirs": by_generate(policy, options, clients, samples),
                    }
                )
            figures[name] = rounds
            print(_line(name, rounds))
    print(f"load after: {', '.join(f'{load:.2f}' for load in os.getloadavg())}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


def _line(name: str, rounds: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    ours, theirs = ([each[side]["tokens_per_second"] for each in rounds] for side in ("ours", "theirs"))
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    waits = sorted(wait for each in rounds for wait in each["ours"]["seconds"])
    return (
        f"{name:<7} {median(ours):8.1f} tokens/s, generate {median(theirs):8.1f}: {median(ratios):.2f} of it "
        f"({min(ratios):.2f} to {max(ratios):.2f}); a request {median(waits):.2f} s, longest {waits[-1]:.2f}"
    )


def through_the_api(platform: Platform, options: argparse.Namespace, clients: int, samples: int) -> dict[str, Any]:
    tokens: list[int] = []
    seconds: list[float] = []
    errors: list[Exception] = []

    def client(number: int) -> None:
        try:
            with platform.client(timeout=600) as http:
                for _ in range(options.requests):
                    began = time.monotonic()
                    tokens.append(_ask(http, options, number, samples))
                    seconds.append(time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - of a thread; told by the one that waits for it
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    took = time.monotonic() - began
    return {"tokens_per_second": sum(tokens) / took, "seconds": seconds}


def _ask(http: httpx.Client, options: argparse.Namespace, number: int, samples: int) -> int:
    """How many tokens were sampled."""
    response = http.post(
        "/v1/completions",
        json={
            "model": options.model,
            "prompt": QUESTIONS[number],
            "n": samples,
            "max_tokens": options.max_tokens,
            "temperature": 1,
        },
    )
    if response.is_error:
        raise RuntimeError(f"{response.status_code} {response.text}")
    answer = response.json()
    if len(answer["choices"]) != samples:
        raise RuntimeError(f"{len(answer['choices'])} samples instead of {samples}")
    return int(answer["usage"]["completion_tokens"])


def by_generate(policy: Policy, options: argparse.Namespace, clients: int, samples: int) -> dict[str, Any]:
    tokenizer = policy.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token_id = policy.pad_id
    tokens = 0
    began = time.monotonic()
    for _ in range(options.requests):
        given = tokenizer(list(QUESTIONS[:clients]), return_tensors="pt", padding=True)
        with torch.inference_mode():
            found = policy.model.generate(
                **given,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                max_new_tokens=options.max_tokens,
                num_return_sequences=samples,
                eos_token_id=sorted(policy.eos_ids),
                pad_token_id=policy.pad_id,
            )
        tokens += sum(_length(row, policy.eos_ids) for row in found[:, given["input_ids"].shape[1] :].tolist())
    return {"tokens_per_second": tokens / (time.monotonic() - began)}


def _length(row: Sequence[int], ends: frozenset[int]) -> int:
    """Up to the first token that ends a response, which counts."""
    return next((place for place, token in enumerate(row, start=1) if token in ends), len(row))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
