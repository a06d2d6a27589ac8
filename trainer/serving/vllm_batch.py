"""The samples through vLLM, in a process of its own: paged attention, and prompts begun while others are drawn on.

vLLM keeps the weights. Of the policy only the tokenizer, the config and the special ids are left here.
"""

import itertools
import math
import shutil
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from trainer.engines.vllm import (
    ChildProcess,
    engine_arguments,
    process_environment,
    request_seed,
    weights_room,
    write_weights,
)
from trainer.models import Policy
from trainer.serving.drawing import Drawn, Sample
from trainer.spec.job import EngineName

MEMORY_SHARE = 0.9
"""Of a GPU's memory, for weights and cache: a sampler has its GPU to itself."""


class VllmBatch:
    """See `trainer.serving.drawing.Drawing`. vLLM's process ends with `close`.

    policy: on the CPU. Its weights are handed over, and gone from it then.
    on_cpu: where vLLM computes. compute_dtype: float32 or bfloat16; logits and softmax are float32 either way.
    RunError when vLLM does not take the model; EngineError when its process breaks.

    A temperature above 0 and below 0.01 is taken for 0.01, vLLM's lowest. A sample draws by a seed of its own, which
    its request's seed and its place in the request decide: other numbers than `trainer.serving.batch.Batch` draws.
    """

    engine: ClassVar[EngineName] = "vllm"

    def __init__(self, policy: Policy, *, compute_dtype: torch.dtype, on_cpu: bool) -> None:
        self._eos = sorted(policy.eos_ids)
        self._ids = map(str, itertools.count())
        self._new: list[str] = []
        self._dropped: list[str] = []
        self._samples: dict[str, Sample] = {}
        """Those that are on their way, by vLLM's ids for them."""
        self._process = ChildProcess(process_environment(on_cpu=on_cpu), room=weights_room(policy, compute_dtype))
        try:
            self.positions = self._start(policy, compute_dtype, on_cpu=on_cpu)
        except BaseException:
            self.close()
            raise
        policy.model.to("meta")

    def _start(self, policy: Policy, compute_dtype: torch.dtype, *, on_cpu: bool) -> int:
        """Make it ready to draw: how many tokens it takes."""
        folder = self._process.folder
        policy.model.config.save_pretrained(folder)
        arguments = engine_arguments(
            folder, compute_dtype=compute_dtype, max_model_len=-1, logprobs_mode="raw_logprobs", on_cpu=on_cpu
        )
        if not on_cpu:
            arguments["gpu_memory_utilization"] = MEMORY_SHARE
        positions: int = self._call("start", engine_arguments=arguments)["max_model_len"]
        weights = folder / "weights"
        weights.mkdir()
        write_weights(policy, weights, compute_dtype)
        self._call("load_weights", folder=str(weights))
        shutil.rmtree(weights)
        return min(positions, policy.positions)

    def _call(self, call: str, **arguments: object) -> dict[str, Any]:
        self._process.send(call, **arguments)
        return self._process.receive()

    @property
    def idle(self) -> bool:
        return not self._samples

    def add(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            number = next(self._ids)
            self._samples[number] = sample
            self._new.append(number)

    def drop(self, request: str, index: int | None = None) -> None:
        self._forget(
            [
                number
                for number, sample in self._samples.items()
                if sample.request == request and index in (None, sample.index)
            ]
        )

    def clear(self) -> None:
        self._forget(list(self._samples))

    def _forget(self, numbers: Sequence[str]) -> None:
        new = set(self._new)
        for number in numbers:
            del self._samples[number]
        self._new = [number for number in self._new if number in self._samples]
        self._dropped += [number for number in numbers if number not in new]

    def step(self) -> list[Drawn]:
        add = [self._order(number, self._samples[number]) for number in self._new]
        drop = self._dropped
        self._new, self._dropped = [], []
        drawn: list[Drawn] = []
        for number, tokens, is_over in self._call("step", add=add, drop=drop)["drawn"]:
            sample = self._samples.pop(number) if is_over else self._samples[number]
            for at, (token_id, logprob, likely) in enumerate(tokens, start=1):
                if not math.isfinite(logprob):
                    raise FloatingPointError("the model computes NaN or infinite logits; its weights have diverged")
                drawn.append(
                    Drawn(
                        sample,
                        token_id,
                        logprob=None if sample.logprobs is None else logprob,
                        likely=[(other, value) for other, value in likely[: sample.logprobs or 0]],
                        ended=token_id in self._eos,
                        last=is_over and at == len(tokens),
                    )
                )
        return drawn

    def _order(self, number: str, sample: Sample) -> dict[str, object]:
        return {
            "id": number,
            "prompt": sample.prompt,
            "seed": request_seed((sample.seed,), *sample.place),
            "temperature": sample.temperature,
            "top_p": sample.top_p,
            "max_tokens": sample.max_tokens,
            # Asked for in any case: they show a model whose weights have diverged.
            "logprobs": sample.logprobs or 0,
            "stop_token_ids": self._eos,
        }

    def close(self) -> None:
        """End vLLM's process."""
        self._process.close()
