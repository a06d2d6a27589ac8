"""Each error class that the official client has, raised by what it stands for."""

import openai
import pytest

from store.access import Role
from tests.integration.openai.conftest import GRADER, jsonl, method, sums


def test_a_key_that_is_none_is_an_authentication_error(client_of):
    with pytest.raises(openai.AuthenticationError) as raised:
        client_of("asym_wrong").models.list()
    assert raised.value.code == "invalid_api_key"
    assert raised.value.type == "authentication_error"


def test_what_is_not_there_or_another_teams_is_a_not_found_error(client, client_of, make_key, create, upload):
    file_id, job = upload(), create()
    stranger = client_of(make_key().plain)
    for ask in (
        lambda: client.fine_tuning.jobs.retrieve("job_none"),
        lambda: client.files.retrieve("ds_none"),
        lambda: client.models.retrieve("builtin/none"),
        lambda: client.models.retrieve(f"job/{job.id}@3"),
        lambda: stranger.fine_tuning.jobs.retrieve(job.id),
        lambda: stranger.fine_tuning.jobs.cancel(job.id),
        lambda: stranger.fine_tuning.jobs.list_events(job.id),
        lambda: stranger.fine_tuning.jobs.checkpoints.list(job.id),
        lambda: stranger.files.content(file_id),
        lambda: stranger.files.delete(file_id),
        lambda: create(training_file="ds_none"),
        lambda: stranger.fine_tuning.jobs.create(model="builtin/tiny-arith", training_file=file_id, method=method()),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()


REFUSED = {
    "python": ({"type": "python", "source": "def grade(): ...", "name": "g"}, "type", "reward.kind python"),
    "score_model": ({"type": "score_model", "model": "m", "name": "g", "input": []}, "type", "http:NAME"),
    "multi": ({"type": "multi", "graders": {}, "calculate_output": "", "name": "g"}, "type", "AsymGRPO"),
    "unknown": ({**GRADER, "type": "vibes"}, "type", "string_check"),
    "input": ({**GRADER, "input": "It says {{sample.output_text}}"}, "input", "whole response"),
    "reference": ({**GRADER, "reference": "The answer"}, "reference", "{{item.answer}}"),
    "two": ({**GRADER, "reference": "{{item.a}} {{item.b}}"}, "reference", "{{item.answer}}"),
    "operation": ({**GRADER, "operation": None}, "operation", "eq, ne, like, ilike"),
    "extra": ({**GRADER, "strict": True}, "strict", "unknown key"),
    "no such field": ({**GRADER, "reference": "{{item.nowhere}}"}, "reference", "64 rows"),
    "bleu": ({**GRADER, "type": "text_similarity", "evaluation_metric": "bleu"}, "evaluation_metric", "fuzzy_match"),
    "no threshold": (
        {**GRADER, "type": "text_similarity", "operation": None, "evaluation_metric": "rouge_l"},
        "pass_threshold",
        "right or wrong",
    ),
}


def test_a_grader_that_cannot_be_had_is_a_bad_request_that_says_why(create, upload):
    file_id = upload()
    for name, (grader, field, words) in REFUSED.items():
        given = {key: value for key, value in grader.items() if value is not None}
        with pytest.raises(openai.BadRequestError) as raised:
            create(training_file=file_id, method=method(given))
        assert raised.value.param == f"method.reinforcement.grader.{field}", name
        assert words in raised.value.message, name


def test_other_wrong_requests_are_bad_requests_that_name_their_field(client, create):
    for arguments, param in (
        ({"model": "gpt-5"}, "model"),
        ({"method": {"type": "supervised"}}, "method.type"),
        ({"method": method(batch_size=0)}, "method.reinforcement.hyperparameters.batch_size"),
        ({"method": method(reasoning_effort="high")}, "method.reinforcement.hyperparameters.reasoning_effort"),
        ({"seed": -1}, "seed"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"extra_body": {"asym": {"optim": {"lr": -1}}}}, "optim.lr"),
        ({"extra_body": {"asym": {"nonsense": 1}}}, "nonsense"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            create(**arguments)
        assert raised.value.param == param, arguments
    for ask in (
        lambda: client.fine_tuning.jobs.list(limit=0),
        lambda: client.files.create(file=("a.jsonl", sums()), purpose="batch"),
    ):
        with pytest.raises(openai.BadRequestError):
            ask()


def test_a_file_with_bad_lines_is_an_unprocessable_entity_and_stores_nothing(client):
    bad = sums() + b'{"messages": []}\nnot json\n'
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.files.create(file=("bad.jsonl", bad), purpose="fine-tune")
    assert {error["line"] for error in raised.value.body["errors"]} == {65, 66}
    assert client.files.list().data == []


def test_what_contradicts_a_jobs_state_is_a_conflict(client, create, upload):
    job = create()
    client.fine_tuning.jobs.cancel(job.id)
    for ask in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.ConflictError):
            ask(job.id)
    used = create()
    with pytest.raises(openai.ConflictError):
        client.files.delete(used.training_file)
    key = {"Idempotency-Key": "once"}
    file_id = upload()
    first = create(training_file=file_id, extra_headers=key)
    assert create(training_file=file_id, extra_headers=key).id == first.id
    with pytest.raises(openai.ConflictError):
        create(training_file=file_id, extra_headers=key, seed=1)


def test_a_viewer_is_denied_permission(client_of, key, make_key, create):
    job = create()
    viewer = client_of(make_key(Role.VIEWER, key.identity.team_id).plain)
    assert viewer.fine_tuning.jobs.retrieve(job.id).id == job.id
    for ask in (
        lambda: viewer.files.create(file=("a.jsonl", sums()), purpose="fine-tune"),
        lambda: viewer.fine_tuning.jobs.cancel(job.id),
        lambda: viewer.files.delete(job.training_file),
    ):
        with pytest.raises(openai.PermissionDeniedError):
            ask()


def test_a_full_queue_is_a_rate_limit_error(client, create, database, key):
    from sqlalchemy import text

    with database.transaction() as session:
        session.execute(text("UPDATE teams SET max_queued_jobs = 1"))
    create()
    with pytest.raises(openai.RateLimitError) as raised:
        create()
    assert raised.value.code == "queue_limit"


def test_a_row_without_the_reference_is_told_with_the_job(client, create, upload):
    rows = [{"messages": [{"role": "user", "content": "1+1="}], "answer": "2", "other": "2"}] * 3
    file_id = upload(jsonl([*rows, {**rows[0], "other": ""}]))
    with pytest.raises(openai.BadRequestError) as raised:
        create(training_file=file_id, method=method({**GRADER, "reference": "{{item.other}}"}))
    assert "1 rows" in raised.value.message
    assert "lines 4" in raised.value.message
