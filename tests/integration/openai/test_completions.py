"""Sampling through the official client: from the API through the database to a real worker's sampler, and back."""

import json
import threading
from pathlib import Path

import httpx
import openai
import pytest
from sqlalchemy import text

from store.access import Role
from tests.integration.openai.conftest import method

pytestmark = pytest.mark.timeout(900)
TINY = "builtin/tiny-arith"
PATIENCE = 300
"""A busy machine takes its time to load a model."""
SUM = [{"role": "user", "content": "12+34="}]


@pytest.fixture
def environment(environment, tmp_path):
    """A lost worker is noticed soon, a model that takes its time is waited for, and tests can hold a sampler."""
    return environment | {
        "ASYM_LEASE_SECONDS": "3",
        "ASYM_SWEEP_SECONDS": "0.5",
        "ASYM_SAMPLER_WAIT_SECONDS": "240",
        "ASYM_TEAM_SAMPLER_REQUESTS": "2",
        "ASYM_FAILPOINTS": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture
def statuses(database):
    """statuses(): how many requests there are in each status."""

    def count():
        with database.transaction() as session:
            return dict(session.execute(text("SELECT status, count(*) FROM samplings GROUP BY 1")).all())

    return count


@pytest.fixture
def samplers(database):
    """samplers(): the status of each sampler there has been, oldest first."""

    def find():
        with database.transaction() as session:
            return list(session.scalars(text("SELECT status FROM jobs WHERE kind = 'serve' ORDER BY id")))

    return find


@pytest.fixture
def hold(tmp_path):
    """hold(point): the next process that comes there waits until the function that is returned is called."""

    def arm(point):
        name = f"{point}#{len(list(Path(tmp_path).rglob('*.json')))}.json"
        (tmp_path / name).write_text(json.dumps({"action": "hold"}))
        (tmp_path / "released").mkdir(exist_ok=True)
        return lambda: (tmp_path / "released" / name).touch()

    return arm


def chat(client, **given):
    # A busy machine takes its time to load a model.
    return client.with_options(timeout=120).chat.completions.create(
        **{"model": TINY, "messages": SUM, "max_tokens": 8} | given
    )


def complete(client, **given):
    return client.with_options(timeout=120).completions.create(
        **{"model": TINY, "prompt": "12+34=", "max_tokens": 8} | given
    )


def judged(kind, answer, **options):
    return {"asym": {"verify": {"kind": kind, "answer": answer, "options": options}}}


def begin(client, hold, **given):
    """A stream that has begun and surely does not end, and what lets it end: it waits for a verdict, which is held.

    Without that a short answer may be whole in its first part.
    """
    release = hold("sampler.judge")
    stream = chat(client, stream=True, n=8, extra_body=judged("exact", "46"), **given)
    next(stream)
    return stream, release


def test_what_is_asked_is_answered(client, worker, url, key, samplers, statuses, hold, wait_until):
    worker()
    # Greedy: this model mostly adds right. One token per character, and one that ends it.
    answer = chat(client, temperature=0, logprobs=True, top_logprobs=3, extra_body=judged("exact", "46"))
    [choice] = answer.choices
    assert (answer.object, answer.model, choice.message.role) == ("chat.completion", TINY, "assistant")
    assert choice.finish_reason == "stop"
    said = choice.message.content
    assert said.isdecimal()
    assert answer.usage.prompt_tokens == 6
    assert answer.usage.completion_tokens == len(said) + 1
    assert answer.usage.total_tokens == 6 + len(said) + 1
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == said
    for token in tokens:
        likely = [each.logprob for each in token.top_logprobs]
        assert len(likely) == 3
        assert likely == sorted(likely, reverse=True)
        assert token.logprob == pytest.approx(likely[0])  # the likeliest was taken
        assert token.logprob <= 0
    assert choice.asym == {"reward": float(said == "46"), "error": None}

    # The same seed is the same text, whoever else is in the batch; another seed is another one.
    several = [chat(client, n=8, seed=seed, temperature=1.5) for seed in (7, 8)]
    texts = [[choice.message.content for choice in answer.choices] for answer in several]
    assert [choice.index for choice in several[0].choices] == list(range(8))
    assert len(set(texts[0])) > 1
    assert texts[0] != texts[1]
    again: list[list[str]] = [[], []]

    def repeat(place, seed):
        again[place] = [each.message.content for each in chat(client, n=8, seed=seed, temperature=1.5).choices]

    threads = [threading.Thread(target=repeat, args=(place, seed)) for place, seed in enumerate((7, 8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert again == texts

    # Streamed, it is the same.
    streamed = [""] * 8
    ends = {}
    usage = None
    for chunk in chat(client, n=8, seed=7, temperature=1.5, stream=True, stream_options={"include_usage": True}):
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for part in chunk.choices:
            streamed[part.index] += part.delta.content or ""
            if part.finish_reason:
                ends[part.index] = part.finish_reason
    assert streamed == texts[0]
    assert sorted(ends) == list(range(8))
    assert usage == several[0].usage

    # Texts: several prompts, text or tokens; the place of a sample is its prompt's and then its own.
    of_texts = complete(client, prompt=["12+34=", "1+1="], n=2, seed=7, logprobs=1)
    assert [choice.index for choice in of_texts.choices] == [0, 1, 2, 3]
    assert of_texts.usage.prompt_tokens == 10
    first = of_texts.choices[0]
    assert "".join(first.logprobs.tokens) == first.text
    assert first.logprobs.text_offset == list(range(len(first.text)))
    one_by_one = [complete(client, prompt=prompt, n=2, seed=7).choices[0].text for prompt in ("12+34=",)]
    assert one_by_one == [first.text]
    ids = [3 + "0123456789+-*= ".index(character) for character in "12+34="]
    assert complete(client, prompt=ids, seed=7).choices[0].text == first.text
    text_stream = "".join(chunk.choices[0].text for chunk in complete(client, seed=7, stream=True))
    assert text_stream == first.text

    # Ends: the most tokens; a stop string, of which nothing is given out; top_p of next to nothing is greedy.
    cut = chat(client, temperature=0, max_completion_tokens=1).choices[0]
    assert (cut.message.content, cut.finish_reason) == (said[:1], "length")
    stopped = chat(client, temperature=0, stop=[said[1], "x"], logprobs=True, stream=True)
    pieces = [part for chunk in stopped for part in chunk.choices]
    assert "".join(part.delta.content or "" for part in pieces) == said[:1].replace(said[1], "")
    assert pieces[-1].finish_reason == "stop"
    assert chat(client, top_p=1e-6, temperature=2).choices[0].message.content == said

    # What this model cannot be asked, it says itself.
    for wrong, code in (
        ({"messages": [{"role": "user", "content": "What is 1+1?"}]}, "unreadable"),
        ({"messages": [{"role": "user", "content": "1" * 200}]}, "context_length_exceeded"),
        ({"max_tokens": 1000}, "context_length_exceeded"),
    ):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as raised:
                chat(client, stream=stream, **wrong)
            assert (raised.value.code, raised.value.param) == (code, "messages")
    with pytest.raises(openai.BadRequestError) as raised:
        complete(client, prompt=[999])
    assert (raised.value.code, raised.value.param) == ("unknown_token", "prompt")

    # Whoever goes away is no longer sampled for, and in nobody's way.
    stream, release = begin(client, hold)
    stream.close()
    wait_until(lambda: statuses().get("cancelled") == 1)
    release()
    assert chat(client, temperature=0).choices[0].message.content == said

    # All of it was one sampler, which no list shows.
    headers = {"Authorization": f"Bearer {key.plain}"}
    assert samplers() == ["running"]
    assert httpx.get(f"{url}/jobs", headers=headers).json()["data"] == []
    [shown] = httpx.get(f"{url}/workers", headers=headers).json()["data"]
    assert (shown["busy_cpu_slots"], shown["jobs"][0]["name"]) == (1, f"samples from {TINY}")


WRONG = {
    "temperature": {"temperature": 3},
    "top_p": {"top_p": 0},
    "n": {"n": 500},
    "max_tokens": {"max_tokens": 100_000},
    "stop": {"stop": ["a", "b", "c", "d", "e"]},
    "messages": {"messages": []},
    "messages.0.role": {"messages": [{"role": "tool", "content": "x"}]},
    "frequency_penalty": {"frequency_penalty": 1},
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "top_logprobs": {"top_logprobs": 2},
    "asym.verify.kind": {"extra_body": judged("http:judge", "1")},
    "asym.verify": {"extra_body": judged("numeric", "1", tolerance="much")},
    "unknown": {"extra_body": {"unknown": 1}},
}


def test_what_cannot_be_asked_is_refused_by_field(client, client_of, make_key, key, samplers):
    for field, given in WRONG.items():
        with pytest.raises(openai.BadRequestError) as raised:
            chat(client, **given)
        assert (raised.value.param or "").startswith(field), (field, raised.value.body)
        assert raised.value.type == "invalid_request_error"
    for model in ("gpt-5", "builtin/none", "path/none", "hf/some/model", "job/job_none@3"):
        with pytest.raises(openai.NotFoundError) as missed:
            chat(client, model=model)
        assert missed.value.param == "model"
    with pytest.raises(openai.PermissionDeniedError):
        chat(client_of(make_key(Role.VIEWER, key.identity.team_id).plain))
    with pytest.raises(openai.AuthenticationError):
        chat(client_of("asym_wrong"))
    assert samplers() == []


class TestWithoutWorkers:
    @pytest.fixture
    def environment(self, environment):
        return environment | {"ASYM_SAMPLER_WAIT_SECONDS": "1"}

    def test_a_request_is_told_why_and_the_team_may_not_pile_them_up(self, client, statuses, samplers, wait_until):
        refusals = []

        def ask(stream):
            with pytest.raises(openai.InternalServerError) as raised:
                chat(client, stream=stream)
            refusals.append(raised.value)

        threads = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
        for thread in threads:
            thread.start()
        wait_until(lambda: statuses().get("waiting") == 2)
        with pytest.raises(openai.RateLimitError) as limited:
            chat(client)
        assert limited.value.code == "sampling_limit"
        for thread in threads:
            thread.join()
        for refusal in refusals:
            assert (refusal.status_code, refusal.code) == (503, "no_sampler")
            assert "no worker is connected" in refusal.message
            assert refusal.response.headers["Retry-After"]
        assert statuses() == {"cancelled": 2}
        # Nobody waits for it any more, so no worker is to load the model.
        assert samplers() == ["cancelled"]


def test_a_checkpoint_is_sampled_from_until_its_job_is_deleted(
    client, client_of, make_key, create, worker, wait_until, url, key, samplers, hold
):
    worker()
    job = create(method=method(batch_size=32, n_epochs=1))

    def ended():
        return client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"

    wait_until(ended, seconds=120, poll=0.2)
    model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert chat(client, model=model, temperature=0).choices[0].message.content
    with pytest.raises(openai.NotFoundError):
        chat(client_of(make_key().plain), model=model)

    stream, _ = begin(client, hold, model=model)
    # What is loaded keeps nobody from deleting the job; what is being answered from it ends with an error.
    assert httpx.delete(f"{url}/jobs/{job.id}", headers={"Authorization": f"Bearer {key.plain}"}).status_code == 204
    with pytest.raises(openai.NotFoundError):
        chat(client, model=model)
    wait_until(lambda: samplers() in (["cancelled"], []), seconds=90)
    with pytest.raises(openai.APIError) as raised:
        list(stream)
    assert "checkpoint is being deleted" in str(raised.value)
    # The slot is free for another model; so it would be if the sampler were only idle.
    assert chat(client, temperature=0).choices[0].message.content


def test_a_stream_ends_with_an_error_when_its_worker_is_killed_and_the_next_request_is_served(
    client, worker, hold, wait_until, statuses, samplers
):
    lost = worker()
    stream, _ = begin(client, hold)
    lost.kill()
    lost.wait()
    with pytest.raises(openai.APIError) as raised:
        list(stream)
    assert "send the request again" in str(raised.value)
    assert statuses() == {"failed": 1}
    worker()
    assert chat(client, temperature=0).choices[0].finish_reason == "stop"
    assert samplers() == ["running"]  # the same one, in its second attempt
