"""Which engine a spec asks for, made ready and ended with its context."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.engines.divided import DividedEngine
from trainer.engines.generation import Engine
from trainer.engines.hf import HfEngine
from trainer.engines.vllm import VllmEngine, package_for, places, serves, visible_gpus
from trainer.errors import EngineError, RunError
from trainer.event_stream import EventStream
from trainer.models import Policy
from trainer.ranks import ALONE, World
from trainer.spec import JobSpec


@contextmanager
def open_engine(
    spec: JobSpec, policy: Policy, compute_dtype: torch.dtype, events: EventStream, world: World = ALONE
) -> Iterator[Engine]:
    """`rollout.engine`: hf; vllm; or auto, which is vLLM on a GPU where it is installed and takes the model, else hf.
    Several ranks divide the work among them, and all have the same engine.

    RunError when the spec says vllm and it is not installed, does not take the model, or there are too few GPUs.
    """
    vllm = _vllm(spec, policy, compute_dtype, events, world)
    if vllm is None:
        yield _divided(HfEngine(policy, compute_dtype=compute_dtype), world, world.size)
        return
    with vllm:
        # GPUs of their own are the business of the leading rank.
        yield _divided(vllm, world, 1 if spec.rollout.vllm.gpus else world.size)


def _divided(engine: HfEngine | VllmEngine, world: World, answering: int) -> Engine:
    return engine if world.size == 1 else DividedEngine(engine, world, answering=answering)


def _vllm(
    spec: JobSpec, policy: Policy, compute_dtype: torch.dtype, events: EventStream, world: World
) -> VllmEngine | None:
    wanted, device = spec.rollout.engine, policy.device.type
    if wanted == "hf" or (wanted == "auto" and not (device != "cpu" and serves(device) and spec.vllm_samples_it)):
        return None
    if not serves(device):
        raise RunError(
            "engine_missing",
            f"rollout.engine is vllm, but no vLLM for this device ({device}) is installed: pip install "
            f"{package_for(device)}, or set rollout.engine to hf",
        )
    own = places(spec.rollout.vllm.gpus, world, visible_gpus() if device == "cuda" else [])
    engine, refusal = None, None
    try:
        engine = VllmEngine(
            policy,
            spec.rollout.vllm,
            max_model_len=longest_sequence(spec),
            compute_dtype=compute_dtype,
            places=own,
            world=world,
        )
    except (RunError, EngineError) as error:
        if wanted == "vllm":
            raise
        refusal = str(error)
    refusals = [each for each in world.gather_json(refusal) if each is not None]
    if not refusals:
        return engine
    if engine is not None:
        engine.close()
    events.log("warning", "engine_fallback", f"rollout.engine auto goes on with hf: {refusals[0]}")
    return None


def longest_sequence(spec: JobSpec) -> int:
    """The most tokens, prompt and response, that the spec can ask an engine for."""
    responses = [spec.rollout.max_new_tokens, *(benchmark.max_new_tokens or 0 for benchmark in spec.eval)]
    return spec.data.max_prompt_tokens + max(responses)
