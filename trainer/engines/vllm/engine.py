"""The engine on vLLM, beside the trainer on the same device or on GPUs of its own. It keeps weights of its own, in the
compute dtype, which are replaced in place whenever the policy's have changed; prompts and responses are token ids both
ways.
"""

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from trainer.engines.generation import Counters, Generation, check_request
from trainer.engines.vllm.arguments import engine_arguments, process_environment
from trainer.engines.vllm.places import Places
from trainer.engines.vllm.process import ChildProcess
from trainer.engines.vllm.seeds import request_seed
from trainer.engines.vllm.weights import weights_room, write_weights
from trainer.errors import RunError
from trainer.models.policy import Policy
from trainer.ranks import ALONE, World
from trainer.spec.job import VllmSpec

logger = logging.getLogger(__name__)

HERE = Places((None,), shared=True)
"""One process, on the trainer's device."""


class VllmEngine:
    """Samples from `policy` by vLLM (`trainer.engines.generation.Engine`), in one process or several that divide the
    prompts of a call. A context manager: its processes end with it.

    Log-probs are those of the full vocabulary at the sampling temperature, as vLLM's own kernels compute them: near
    the trainer's, never the same bits (`rollout/logprob_diff_*` say how near; `algorithm.importance_correction` takes
    the difference into account).

    What is deterministic: every rollout draws by a seed of its own, a function of (seed, prompt index, sample index).
    The same calls on the same machine, versions and number of threads give the same bits on a CPU. On a GPU they
    mostly do, but kernels may sum in another order from run to run, and vLLM promises nothing there. What else is in
    the batch changes logits by rounding, so unlike `HfEngine`'s a rollout may become another one when the other
    prompts, the number of samples or the cache's size change.

    max_model_len: the most tokens, prompt and response, of a rollout; the spec's own wins over it.
    compute_dtype: float32 or bfloat16, of weights, cache and computation; softmax is float32 either way.
    places: where this rank's processes are; there may be none. world: the ranks that the policy is spread over. Each
    of them has such an engine and makes the same calls.
    RunError when vLLM does not take the model or the settings; EngineError when a process breaks.
    """

    def __init__(
        self,
        policy: Policy,
        spec: VllmSpec,
        *,
        max_model_len: int,
        compute_dtype: torch.dtype = torch.float32,
        places: Places = HERE,
        world: World = ALONE,
    ) -> None:
        self.policy = policy
        self.compute_dtype = compute_dtype
        self.max_model_len = min(spec.max_model_len or max_model_len, policy.positions)
        self.counters = Counters()
        self._places = places
        self._world = world
        self._weights_are_old = True
        self._processes: list[ChildProcess] = []
        on_cpu = policy.device.type == "cpu"
        # The weights lie in the folder of the first process of all.
        room = weights_room(policy, compute_dtype)
        try:
            for number, gpu in enumerate(places.gpus):
                gpus = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
                process = ChildProcess(
                    process_environment(on_cpu=on_cpu) | gpus, room=room if world.leads and number == 0 else 0
                )
                self._processes.append(process)
                # Its config is all that vLLM reads of a model; the weights come from the policy, before the first
                # response.
                policy.model.config.save_pretrained(process.folder)
                process.send("start", engine_arguments=self._arguments(process.folder, spec, on_cpu=on_cpu))
            self._answers()
        except BaseException:
            self.close()
            raise
        if on_cpu and spec.sleep and places.shared:
            logger.info("rollout.vllm.sleep has no effect on a CPU")

    def _answers(self) -> list[dict[str, Any]]:
        """Of each process to the call it was sent."""
        return [process.receive() for process in self._processes]

    def _arguments(self, folder: Path, spec: VllmSpec, *, on_cpu: bool) -> dict[str, Any]:
        arguments = engine_arguments(
            folder,
            compute_dtype=self.compute_dtype,
            max_model_len=self.max_model_len,
            logprobs_mode="processed_logprobs",
            on_cpu=on_cpu,
        )
        if on_cpu:
            return arguments
        return arguments | {
            "enforce_eager": spec.enforce_eager,
            "gpu_memory_utilization": spec.memory_share,
            # On GPUs of its own nobody waits for the memory.
            "enable_sleep_mode": spec.sleep and self._places.shared,
        }

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        samples_per_prompt: int,
        temperature: float,
        max_new_tokens: int,
        seed: tuple[int, ...],
        only: Sequence[int] | None = None,
    ) -> list[Generation]:
        """See `Engine.generate`; `only`: the prompts to answer, as they would be among all (None: all). RunError for a
        prompt too long for `max_model_len` with its response; ValueError also for a temperature that vLLM does not
        sample at (`trainer.spec.job.VllmSpec`)."""
        check_request(prompts, samples_per_prompt, temperature, max_new_tokens)
        if not VllmSpec.samples_at(temperature):
            raise ValueError(f"{VllmSpec.TEMPERATURES}, got {temperature}")
        longest = max(map(len, prompts), default=0)
        if longest + max_new_tokens > self.max_model_len:
            raise RunError(
                "sequence_too_long",
                f"a prompt of {longest} tokens with up to {max_new_tokens} new ones is more than vLLM was set up for "
                f"({self.max_model_len}); lower the response length, raise rollout.vllm.max_model_len as far as the "
                "model's positions go, or set rollout.engine to hf",
            )
        if not prompts:
            return []
        if self.policy.device.type == "cuda" and self._places.shared:
            # What the trainer's allocator keeps for later is memory that vLLM waits for.
            torch.cuda.empty_cache()
        if self._weights_are_old:
            self._hand_over_weights()
        chosen = range(len(prompts)) if only is None else only
        shares = [chosen[number :: len(self._processes)] for number in range(len(self._processes))]
        for process, share in zip(self._processes, shares, strict=True):
            process.send(
                "generate",
                prompts=[list(prompts[prompt_index]) for prompt_index in share],
                seeds=[
                    [request_seed(seed, prompt_index, sample_index) for sample_index in range(samples_per_prompt)]
                    for prompt_index in share
                ],
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                stop_token_ids=sorted(self.policy.eos_ids),
            )
        generations = []
        for share, answer in zip(shares, self._answers(), strict=True):
            for place, (token_ids, logprobs, ended) in enumerate(answer["responses"]):
                if not all(map(math.isfinite, logprobs)):
                    raise FloatingPointError("the model computes NaN or infinite logits; its weights have diverged")
                prompt, sample_index = divmod(place, samples_per_prompt)
                logprobs = logprobs if temperature > 0 else [0.0] * len(token_ids)
                generations.append(Generation(share[prompt], sample_index, token_ids, logprobs, truncated=not ended))
            self._count(answer, sum(len(prompts[prompt_index]) for prompt_index in share) * samples_per_prompt)
        self.counters.generated_tokens += sum(len(generation.token_ids) for generation in generations)
        return sorted(generations, key=lambda each: (each.prompt_index, each.sample_index))

    def _count(self, answer: dict[str, Any], prompt_tokens: int) -> None:
        # A pass computes prompts and next tokens alike; all but those that only begin prompts give tokens.
        self.counters.decode_passes += answer["passes"]
        self.counters.prefill_tokens += prompt_tokens - answer["cached_tokens"]
        self.counters.memory_bytes = max(self.counters.memory_bytes or 0, answer["memory_bytes"])

    def weights_changed(self) -> None:
        """The next call of `generate` hands the policy's weights over first."""
        self._weights_are_old = True

    def _hand_over_weights(self) -> None:
        """Written once, by the leading rank, for the processes of all."""
        folder = self._processes[0].folder / "weights" if self._world.leads else None
        if folder is not None:
            folder.mkdir()
        try:
            write_weights(self.policy, folder, self.compute_dtype)
            [written, *_] = self._world.gather_json(None if folder is None else str(folder))
            for process in self._processes:
                process.send("load_weights", folder=written)
            self._answers()
            self._world.meet()
        finally:
            if folder is not None:
                shutil.rmtree(folder)
        self._weights_are_old = False

    def close(self) -> None:
        """End vLLM's processes. Does nothing the second time."""
        for process in self._processes:
            process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
