"""The engine on vLLM, beside the trainer on the same device. It keeps weights of its own, in the compute dtype, which
are replaced in place whenever the policy's have changed; prompts and responses are token ids both ways.
"""

import logging
import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from safetensors.torch import save_file

from trainer.engines.generation import Counters, Generation, check_request
from trainer.engines.vllm.process import ChildProcess
from trainer.engines.vllm.seeds import request_seed
from trainer.errors import RunError
from trainer.models.policy import Policy
from trainer.spec.job import VllmSpec

logger = logging.getLogger(__name__)

CPU_CACHE_BYTES = 2**30
"""Key-value cache on a CPU. Requests that do not fit wait."""


class VllmEngine:
    """Samples from `policy` by vLLM (`trainer.engines.generation.Engine`). A context manager: its process ends with it.

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
    RunError when vLLM does not take the model or the settings; EngineError when its process breaks.
    """

    def __init__(
        self, policy: Policy, spec: VllmSpec, *, max_model_len: int, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        self.policy = policy
        self.compute_dtype = compute_dtype
        self.max_model_len = min(spec.max_model_len or max_model_len, _positions(policy))
        self.counters = Counters()
        self._weights_are_old = True
        on_cpu = policy.device.type == "cpu"
        # Small functions that vLLM compiles however eager it is: on a CPU that needs a C++ compiler and half a minute.
        environment = {"TORCHDYNAMO_DISABLE": "1"} if on_cpu else {}
        room = 2 * policy.parameters * compute_dtype.itemsize
        self._process = ChildProcess(environment, room=room)
        try:
            # Its config is all that vLLM reads of a model; the weights come from the policy, before the first response.
            policy.model.config.save_pretrained(self._process.folder)
            self._process.ask("start", engine_arguments=self._engine_arguments(spec, on_cpu))
        except BaseException:
            self.close()
            raise
        if on_cpu and spec.sleep:
            logger.info("rollout.vllm.sleep has no effect on a CPU")

    def _engine_arguments(self, spec: VllmSpec, on_cpu: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": str(self._process.folder),
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "trust_remote_code": False,
            "generation_config": "vllm",  # Not the model's own, which may bring penalties.
            "logprobs_mode": "processed_logprobs",
            "dtype": str(self.compute_dtype).removeprefix("torch."),
            "max_model_len": self.max_model_len,
            "worker_extension_cls": "trainer.engines.vllm.worker.WeightReceiver",
            "enable_prefix_caching": True,
            "seed": 0,
        }
        if on_cpu:
            # A prompt is shared by its rollouts in whole blocks; 32 is the smallest that is fast there.
            return arguments | {"enforce_eager": True, "kv_cache_memory_bytes": CPU_CACHE_BYTES, "block_size": 32}
        return arguments | {
            "enforce_eager": spec.enforce_eager,
            "gpu_memory_utilization": spec.gpu_memory_utilization,
            "enable_sleep_mode": spec.sleep,
        }

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        samples_per_prompt: int,
        temperature: float,
        max_new_tokens: int,
        seed: tuple[int, ...],
    ) -> list[Generation]:
        """See `Engine.generate`. RunError for a prompt too long for `max_model_len` with its response; ValueError also
        for a temperature that vLLM does not sample at (`trainer.spec.job.VllmSpec`)."""
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
        if self.policy.device.type == "cuda":
            # What the trainer's allocator keeps for later is memory that vLLM waits for.
            torch.cuda.empty_cache()
        if self._weights_are_old:
            self._send_weights()
        answer = self._process.ask(
            "generate",
            prompts=[list(prompt) for prompt in prompts],
            seeds=[
                [request_seed(seed, prompt_index, sample_index) for sample_index in range(samples_per_prompt)]
                for prompt_index in range(len(prompts))
            ],
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            stop_token_ids=sorted(self.policy.eos_ids),
        )
        generations = []
        for place, (token_ids, logprobs, ended) in enumerate(answer["responses"]):
            if not all(map(math.isfinite, logprobs)):
                raise FloatingPointError("the model computes NaN or infinite logits; its weights have diverged")
            prompt_index, sample_index = divmod(place, samples_per_prompt)
            logprobs = logprobs if temperature > 0 else [0.0] * len(token_ids)
            generations.append(Generation(prompt_index, sample_index, token_ids, logprobs, truncated=not ended))
        # A pass computes prompts and next tokens alike; all but those that only begin prompts give tokens.
        self.counters.decode_passes += answer["passes"]
        self.counters.prefill_tokens += sum(map(len, prompts)) * samples_per_prompt - answer["cached_tokens"]
        self.counters.generated_tokens += sum(len(generation.token_ids) for generation in generations)
        return generations

    def weights_changed(self) -> None:
        """The next call of `generate` hands the policy's weights over first."""
        self._weights_are_old = True

    def _send_weights(self) -> None:
        file = self._process.folder / "weights.safetensors"
        try:
            weights = {
                name: tensor.to("cpu", self.compute_dtype).contiguous()
                for name, tensor in self.policy.named_weights().items()
            }
            save_file(weights, file)
            self._process.ask("load_weights", file=str(file))
        finally:
            file.unlink(missing_ok=True)
        self._weights_are_old = False

    def close(self) -> None:
        """End vLLM's process. Does nothing the second time."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _positions(policy: Policy) -> int:
    """How many tokens the model has positions for; vLLM takes no more."""
    positions = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) else 2**31 - 1
