"""What a job's spec may not be: each refusal names the field, and nothing is stored."""

import json
import math

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from api.main import create_app
from store.models import Job, JobEvent

DELETE = object()


@pytest.fixture
def spec(member, make_dataset, make_spec):
    return make_spec(make_dataset(member.key.identity).id).model_dump(mode="json", exclude_unset=True)


@pytest.fixture
def refused(member, database):
    """refused(spec) -> (status, errors), the same of POST /jobs and of its dry run; and nothing is stored."""

    def send(body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answers = []
        for path in ("/jobs", "/jobs/validate"):
            response = member.post(path, content=content, headers={"Content-Type": "application/json"})
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["status"] == response.status_code
            assert problem["instance"] == path
            assert {"type", "title", "detail"} <= problem.keys()
            answers.append((response.status_code, problem["errors"]))
        with database.transaction() as session:
            assert session.scalar(select(func.count()).select_from(Job)) == 0
            assert session.scalar(select(func.count()).select_from(JobEvent)) == 0
        assert answers[0] == answers[1]
        return answers[0]

    return send


def changed(spec, path, value):
    """The spec with the value at a dotted path replaced, or deleted."""
    copy = json.loads(json.dumps(spec))
    *folders, last = path.split(".")
    here = copy
    for name in folders:
        here = here.setdefault(name, {})
    if value is DELETE:
        del here[last]
    else:
        here[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("algorithm.betapos", 0.5, "unknown key"),
        ("colour", "red", "unknown key"),
        ("algorithm.beta_pos", math.inf, "finite"),
        ("algorithm.beta_pos", math.nan, "finite"),
        ("algorithm.beta_neg", "1e999", "finite"),
        ("algorithm.beta_pos", "much", "valid number"),
        ("algorithm.preset", "asymgrpoo", "unknown preset"),
        ("rollout.group_size", 1, "greater than or equal to 2"),
        ("rollout.group_size", 8.5, "integer"),
        ("rollout.group_size", "8", "integer"),
        ("train.steps", True, "integer"),
        ("train.steps", 0, "greater than or equal to 1"),
        ("resources.gpus", "all", "'auto' or "),
        ("model.id", "gpt-5", "unknown model id"),
        ("model.id", "path/../../etc", "unknown model id"),
        ("reward.kind", "vibes", "one of: math, numeric"),
        ("seed", -1, "greater than or equal to 0"),
        ("name", "", "at least 1 character"),
        ("name", "nul\0", "U+0000"),
        ("name", DELETE, "is missing"),
        ("data.train", DELETE, "is missing"),
        ("data.train", 7, "valid string"),
        ("data.prompt_template", "no slot", "must contain {prompt}"),
    ],
)
def test_a_bad_field_is_named(refused, spec, path, value, says):
    status, errors = refused(changed(spec, path, value))
    assert status == 422
    [error] = [error for error in errors if says in error["msg"]]
    # A check over a whole section is placed at the section.
    assert error["loc"] == ["body", *path.split(".")] or error["loc"] == ["body", *path.split(".")[:-1]]


def test_a_field_of_a_schedule_is_named_without_the_union_behind_it(refused, spec):
    beta = {"kind": "linear", "start": 0.9, "end": math.inf}
    _, errors = refused(changed(spec, "algorithm.beta_pos", beta))
    assert {tuple(error["loc"]) for error in errors} == {
        ("body", "algorithm", "beta_pos", "end"),
        ("body", "algorithm", "beta_pos", "steps"),
    }


def test_every_bad_field_is_named_at_once(refused, spec):
    bad = changed(changed(spec, "rollout.group_size", 1), "optim.lr", -1)
    _, errors = refused(bad)
    assert [error["loc"] for error in errors] == [["body", "rollout", "group_size"], ["body", "optim", "lr"]]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"spec"', b'{"name": "\xff"}', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(member, body):
    response = member.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_body_without_its_media_type_is_refused(member, spec):
    response = member.post("/jobs", content=json.dumps(spec).encode(), headers={"Content-Type": "text/plain"})
    assert response.status_code == 422


def test_a_body_over_a_mebibyte_is_refused_with_413(member, spec):
    response = member.post("/jobs", json=spec | {"name": "x" * 2**21})
    assert response.status_code == 413
    assert response.json()["status"] == 413


def test_a_data_set_that_is_missing_or_another_teams_is_404_and_named(refused, caller, spec, make_dataset):
    theirs = make_dataset(caller().key.identity).id
    for dataset_id in (theirs, "ds_00000000000000000000000000", "train.jsonl"):
        status, errors = refused(changed(spec, "data.train", dataset_id))
        assert status == 404
        assert errors == [{"loc": ["body", "data", "train"], "msg": f"no data set {dataset_id!r}"}]
    evals = [{"name": "mine", "data": spec["data"]["train"]}, {"name": "theirs", "data": theirs}]
    status, errors = refused(spec | {"eval": evals})
    assert status == 404
    assert [error["loc"] for error in errors] == [["body", "eval", 1, "data"]]


def test_an_empty_data_set_is_refused(refused, member, spec, make_dataset):
    empty = make_dataset(member.key.identity, rows=[]).id
    status, errors = refused(changed(spec, "data.train", empty))
    assert status == 422
    assert errors == [{"loc": ["body", "data", "train"], "msg": f"the data set {empty} is empty"}]


@pytest.mark.parametrize("model_id", ["path/nowhere", "hf/org/name", "job/job_00000000000000000000000000@5"])
def test_a_model_that_is_not_here_is_404_and_named(refused, spec, model_id):
    status, errors = refused(changed(spec, "model.id", model_id))
    assert status == 404
    assert [error["loc"] for error in errors] == [["body", "model", "id"]]


def test_columns_that_the_data_set_has_not_are_named(refused, spec):
    spec = changed(spec, "model.id", "builtin/smollm2-135m-instruct")
    status, errors = refused(changed(spec, "data.columns", {"prompt": "frage"}))
    assert status == 422
    assert errors[0]["loc"] == ["body", "data", "columns"]
    assert "frage" in errors[0]["msg"]


def test_prompts_that_tiny_arith_cannot_read_are_refused_with_their_rows(refused, member, spec, make_dataset):
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(30)]
    for row in (3, 7, 9):
        rows[row - 1]["prompt"] = "three plus one"
    bad = make_dataset(member.key.identity, rows=rows).id
    status, [error] = refused(changed(spec, "data.train", bad))
    assert status == 422
    assert error["loc"] == ["body", "data", "train"]
    assert error["rows"] == [3, 7, 9]
    assert "3, 7, 9" in error["msg"]

    status, [error] = refused(spec | {"eval": [{"name": "bad", "data": bad}]})
    assert (status, error["loc"], error["rows"]) == (422, ["body", "eval", 0, "data"], [3, 7, 9])


def test_a_template_counts_among_what_tiny_arith_reads(refused, spec):
    status, [error] = refused(changed(spec, "data.prompt_template", "Q: {prompt}"))
    assert status == 422
    assert len(error["rows"]) == 64


def test_chat_messages_are_read_by_their_last_user_text(member, spec, make_dataset):
    chat = [{"role": "system", "content": "You add."}, {"role": "user", "content": "1+2="}]
    dataset = make_dataset(member.key.identity, rows=[{"prompt": chat, "answer": "3"}])
    assert member.post("/jobs", json=changed(spec, "data.train", dataset.id)).status_code == 201


def test_models_of_the_operator_are_found(settings, member, spec, tmp_path, make_key):
    folder = tmp_path / "models"
    for name, files in {
        "good": ["config.json", "model.safetensors"],
        "pickled": ["config.json", "pytorch_model.bin"],
        "bare": ["model.safetensors"],
    }.items():
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / name / file).touch()
    ours = settings.model_copy(update={"models_dir": folder, "hf_allowlist": ["Qwen/Qwen2.5-0.5B"]})
    headers = {"Authorization": f"Bearer {member.key.plain}"}
    with TestClient(create_app(ours), headers=headers) as client:
        ids = [model["id"] for model in client.get("/models").json()["data"]]
        assert ids == ["builtin/tiny-arith", "builtin/smollm2-135m-instruct", "path/good", "hf/Qwen/Qwen2.5-0.5B"]
        for model_id, status in {
            "path/good": 201,
            "path/pickled": 404,
            "path/bare": 404,
            "hf/Qwen/Qwen2.5-0.5B": 201,
            "hf/Qwen/Qwen3-4B": 404,
        }.items():
            assert client.post("/jobs", json=changed(spec, "model.id", model_id)).status_code == status, model_id


def test_a_checkpoint_of_a_job_is_a_model_for_its_team_only(member, caller, make_job, start_run, make_dataset, spec):
    from trainer.spec.events import Checkpoint, Started

    job_id = make_job(member)["id"]
    run = start_run(job_id)
    run.record(
        Started(time=0, resumed_from=0, steps=5, device="cpu", parameters=1, prompts=64, prompts_dropped=0),
        Checkpoint(time=0, step=2, path="checkpoints/2", manifest_sha256="0" * 64, bytes=1, score=None),
    )
    run.finish()
    mine = changed(spec, "model.id", f"job/{job_id}@2")
    assert member.post("/jobs", json=mine).status_code == 201
    assert member.post("/jobs", json=changed(spec, "model.id", f"job/{job_id}@4")).status_code == 404
    stranger = caller()
    theirs = changed(mine, "data.train", make_dataset(stranger.key.identity).id)
    response = stranger.post("/jobs", json=theirs)
    assert response.status_code == 404
    assert response.json()["errors"][0]["loc"] == ["body", "model", "id"]


def test_what_verl_cannot_do_is_named_field_by_field(spec, refused):
    asked = changed(
        changed(changed(spec, "backend", "verl"), "optim.warmup_steps", 3), "algorithm.mask_truncated", True
    )
    status, errors = refused(asked)
    said = {".".join(map(str, error["loc"][1:])): error["msg"] for error in errors}
    assert status == 422
    assert {"optim.warmup_steps", "algorithm.mask_truncated"} <= said.keys()
    assert said["optim.warmup_steps"].startswith("backend verl: ")
    status, errors = refused(changed(spec, "backend", "slurm"))
    assert status == 422
    assert [error["loc"] for error in errors] == [["body", "backend"]]
