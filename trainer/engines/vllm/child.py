"""The process that vLLM lives in:  python child.py FOLDER    (a program, not a module: it loads nothing of ours)

Reads one JSON object a line on stdin, answers each with one on stdout: {"call": ..., its arguments} is answered by
{"result": ...} or {"error": ..., "kind": ...}. The first call is "start". Nothing is pickled. It ends when its stdin
does, in the middle of a generation too, and takes FOLDER with it: however the trainer ends, nothing stays behind.
"""

import json
import os
import queue
import resource
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, TextIO


class Server:
    """The calls. Every argument is JSON, every result an object of it."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._sleeps = False

    def start(self, engine_arguments: dict[str, Any]) -> dict[str, Any]:
        from vllm import EngineArgs, LLMEngine
        from vllm.usage.usage_lib import UsageContext

        self._sleeps = bool(engine_arguments.get("enable_sleep_mode"))
        # The context decides how many requests are batched: here many at once, not a server's few at low latency.
        self._engine = LLMEngine.from_engine_args(EngineArgs(**engine_arguments), UsageContext.LLM_CLASS)
        self._sleep()
        return {"max_model_len": self._engine.model_config.max_model_len}

    def load_weights(self, folder: str) -> dict[str, Any]:
        self._wake_up()
        self._engine.collective_rpc("asym_load_weights", args=(folder,))
        return {}

    def generate(
        self,
        prompts: list[list[int]],
        seeds: list[list[int]],
        temperature: float,
        max_new_tokens: int,
        stop_token_ids: list[int],
    ) -> dict[str, Any]:
        """One response per seed, in their order: [token ids, log-probs, whether a stop token ended it]."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        self._wake_up()
        engine = self._engine
        # It holds what earlier weights computed, and would let a call depend on the ones before it.
        engine.reset_prefix_cache()
        places = [(prompt, seed) for prompt, its_seeds in zip(prompts, seeds, strict=True) for seed in its_seeds]
        for number, (prompt, seed) in enumerate(places):
            parameters = SamplingParams(
                temperature=temperature,
                top_p=1.0,
                top_k=0,
                min_p=0.0,
                seed=seed,
                max_tokens=max_new_tokens,
                # The policy's own are given; vLLM would know of those in the model's config only.
                ignore_eos=True,
                stop_token_ids=stop_token_ids,
                logprobs=0,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            engine.add_request(str(number), TokensPrompt(prompt_token_ids=prompt), parameters)
        responses: list[Any] = [None] * len(places)
        passes = cached_tokens = 0
        while engine.has_unfinished_requests():
            passes += 1
            for output in engine.step():
                [response] = output.outputs
                token_ids = list(response.token_ids)
                logprobs = [at[token].logprob for token, at in zip(token_ids, response.logprobs, strict=True)]
                responses[int(output.request_id)] = [token_ids, logprobs, response.finish_reason == "stop"]
                cached_tokens += output.num_cached_tokens or 0
        self._sleep()
        return {
            "responses": responses,
            "passes": passes,
            "cached_tokens": cached_tokens,
            "memory_bytes": _peak_memory_bytes(),
        }

    def step(self, add: list[dict[str, Any]], drop: list[str]) -> dict[str, Any]:
        """Let go of some requests, take others in, and draw on: a token of each that has its prompt computed.

        A request is {"id", "prompt", "seed", "temperature", "top_p", "max_tokens", "logprobs", "stop_token_ids"}. The
        result has, of each that was drawn for, its id, its new tokens, and whether it has ended; of each token its id,
        its log-prob, and the likeliest tokens with theirs.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        engine = self._engine
        if drop:
            engine.abort_request(drop)
        for request in add:
            parameters = SamplingParams(
                temperature=request["temperature"],
                top_p=request["top_p"],
                top_k=0,
                min_p=0.0,
                seed=request["seed"],
                max_tokens=request["max_tokens"],
                ignore_eos=True,  # as in `generate`
                stop_token_ids=request["stop_token_ids"],
                logprobs=request["logprobs"],
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
            engine.add_request(request["id"], TokensPrompt(prompt_token_ids=request["prompt"]), parameters)
        drawn = []
        for output in engine.step() if engine.has_unfinished_requests() else []:
            [response] = output.outputs
            tokens = [
                [
                    token,
                    at[token].logprob,
                    sorted(((other, each.logprob) for other, each in at.items()), key=_likelihood),
                ]
                for token, at in zip(response.token_ids, response.logprobs, strict=True)
            ]
            drawn.append([output.request_id, tokens, response.finish_reason is not None])
        return {"drawn": drawn}

    def _sleep(self) -> None:
        if self._sleeps:
            self._engine.sleep(level=1)

    def _wake_up(self) -> None:
        if self._sleeps and self._engine.is_sleeping():
            self._engine.wake_up()


def _likelihood(token: tuple[int, float]) -> float:
    return -token[1]


def _peak_memory_bytes() -> int:
    """The most this process has held: of the GPU's memory, what torch reserved, or on the CPU its resident set."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    answers = _claim_stdout()
    # Ctrl-C and the supervisor's SIGTERM reach the whole process group; the trainer decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(calls, sys.argv[1]), daemon=True).start()
    server = Server()
    while True:
        _answer(answers, server, json.loads(calls.get()))


def _read(calls: "queue.SimpleQueue[bytes]", folder: str) -> None:
    for line in sys.stdin.buffer:
        calls.put(line)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _answer(answers: TextIO, server: Server, call: dict[str, Any]) -> None:
    method: Callable[..., Any] = getattr(server, call.pop("call"))
    try:
        answer: dict[str, Any] = {"result": method(**call)}
    except Exception as error:  # noqa: BLE001 - the process's boundary: whatever it was, the trainer hears it
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {error}", "kind": "refused" if _refuses(error) else "broken"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _refuses(error: Exception) -> bool:
    """Whether vLLM says that the model or the settings will not do, and not that something broke."""
    if isinstance(error, (ValueError, NotImplementedError)):
        return True
    try:
        from vllm.exceptions import VLLMValidationError
    except ImportError:
        return False
    return isinstance(error, VLLMValidationError)


def _claim_stdout() -> TextIO:
    """Keep the real stdout for answers alone: whatever vLLM prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    sys.exit(main())
