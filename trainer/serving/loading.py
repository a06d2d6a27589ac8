"""A model loaded, and what draws from it: the engine that was asked for, made ready and ended with its context."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import torch

from trainer.engines.vllm import package_for, serves
from trainer.errors import EngineError, RunError
from trainer.event_stream import EventStream
from trainer.models import Policy
from trainer.serving.batch import Batch
from trainer.serving.drawing import Drawing
from trainer.serving.vllm_batch import VllmBatch
from trainer.spec.job import EngineName


@contextmanager
def load(
    engine: EngineName, load_policy: Callable[[torch.device], Policy], device: torch.device, events: EventStream
) -> Iterator[tuple[Policy, Drawing]]:
    """engine: hf; vllm; or auto, which is vLLM on a GPU where it is installed and takes the model, else hf.

    load_policy: loads the model onto a device. RunError when vllm is asked for and is not installed for this device,
    or does not take the model; EngineError when it breaks.
    """
    on_cpu = device.type == "cpu"
    compute_dtype = torch.float32 if on_cpu else torch.bfloat16
    if engine == "vllm" and not serves(device.type):
        raise RunError(
            "engine_missing",
            f"ASYM_SAMPLER_ENGINE of the worker is vllm, but no vLLM for its device ({device.type}) is installed: "
            f"pip install {package_for(device.type)}, or set it to hf",
        )
    if engine == "vllm" or (engine == "auto" and not on_cpu and serves(device.type)):
        # The weights go to vLLM's process, which has the device.
        policy = load_policy(torch.device("cpu"))
        try:
            batch = VllmBatch(policy, compute_dtype=compute_dtype, on_cpu=on_cpu)
        except (RunError, EngineError) as error:
            if engine == "vllm":
                raise
            events.log("warning", "engine_fallback", f"ASYM_SAMPLER_ENGINE auto goes on with hf: {error}")
        else:
            with closing(batch):
                yield policy, batch
            return
    policy = load_policy(device)
    yield policy, Batch(policy, compute_dtype=compute_dtype)
