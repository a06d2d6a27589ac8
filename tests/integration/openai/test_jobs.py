"""Files, jobs, events, checkpoints and models through the official client."""

import subprocess
import sys

import httpx

from tests.integration.openai.conftest import GRADER, ROOT, jsonl, method, sums


def test_a_run_from_upload_to_checkpoints(client, create, worker, wait_until, url, key):
    worker()
    validation = client.files.create(file=("held-out.jsonl", sums()), purpose="fine-tune")
    assert client.files.wait_for_processing(validation.id).status == "processed"
    job = create(
        method=method(batch_size=32, n_epochs=2, eval_interval=2, eval_samples=1),
        validation_file=validation.id,
        suffix="sums",
        seed=3,
        metadata={"team": "reasoning"},
    )
    assert (job.object, job.status, job.model) == ("fine_tuning.job", "queued", "builtin/tiny-arith")
    assert (job.seed, job.metadata, job.validation_file) == (3, {"team": "reasoning"}, validation.id)
    assert job.method.reinforcement.grader.operation == "eq"
    assert job.method.reinforcement.hyperparameters.n_epochs == 2

    seen = {}

    def ended():
        for event in client.fine_tuning.jobs.list_events(job.id, limit=50):
            seen.setdefault(event.id, event)
        return client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed", "cancelled")

    wait_until(ended, seconds=200, poll=0.5)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model == f"job/{job.id}@4"
    assert done.finished_at >= done.created_at
    ended()
    events = sorted(seen.values(), key=lambda event: int(event.id.removeprefix("ftevent-")))
    steps = [event.data["step"] for event in events if event.type == "metrics" and event.message.startswith("step")]
    assert steps == [1, 2, 3, 4]
    assert events[-1].data["status"] == "succeeded"

    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert [each.step_number for each in checkpoints] == [4, 2]
    assert checkpoints.data[0].fine_tuned_model_checkpoint == done.fine_tuned_model
    assert client.models.retrieve(done.fine_tuned_model).owned_by == "job"
    following = create(model=done.fine_tuned_model)
    assert following.model == done.fine_tuned_model

    # The same row, seen from the other side.
    native = httpx.get(f"{url}/jobs/{job.id}", headers={"Authorization": f"Bearer {key.plain}"}).json()
    assert (native["name"], native["status"], native["progress"]["step"]) == ("sums", "succeeded", 4)
    assert native["spec"]["reward"]["options"]["normalize_whitespace"] is False
    assert native["spec"]["data"]["columns"] == {"prompt": "messages", "answer": "answer"}
    assert [each["name"] for each in native["spec"]["eval"]] == ["validation"]


def test_files_are_listed_read_and_deleted(client, upload):
    first, second = upload(), upload(sums("solution"))
    assert [file.id for file in client.files.list()] == [second, first]
    assert [file.id for file in client.files.list(limit=1)] == [second, first]  # the client reads page by page
    assert client.files.list(purpose="batch").data == []
    file = client.files.retrieve(first)
    assert (file.filename, file.bytes, file.purpose) == ("train.jsonl", len(sums()), "fine-tune")
    assert client.files.content(first).read() == sums()
    assert client.files.delete(first).deleted
    assert [file.id for file in client.files.list()] == [second]


def test_any_field_of_the_rows_can_be_the_reference(client, create, upload, database):
    for field, reference in (("answer", "answer"), ("gold_label", "gold_label"), ("answer", "nested.value")):
        rows = [
            {"messages": [{"role": "user", "content": "1+1="}], field: "2", "nested": {"value": "2"}} for _ in range(4)
        ]
        file_id = upload(jsonl(rows))
        job = create(
            training_file=file_id, method=method({**GRADER, "reference": "{{ item." + reference + " }}"}, batch_size=2)
        )
        assert job.method.reinforcement.grader.reference == "{{ item." + reference + " }}"


def test_graders_become_verifiers(create, upload, url, key):
    characters = {"normalize_whitespace": False}
    file_id = upload()
    for grader, kind, options in (
        ({"operation": "ne"}, "exact", {"match": "differ", "ignore_case": False, **characters}),
        ({"operation": "like"}, "exact", {"match": "contain", "ignore_case": False, **characters}),
        ({"operation": "ilike"}, "exact", {"match": "contain", "ignore_case": True, **characters}),
        (
            {"type": "text_similarity", "evaluation_metric": "rouge_1", "pass_threshold": 0.5, "operation": None},
            "similarity",
            {"metric": "rouge_1", "threshold": 0.5},
        ),
    ):
        given = {name: value for name, value in (GRADER | grader).items() if value is not None}
        job = create(training_file=file_id, method=method(given))
        shown = httpx.get(f"{url}/jobs/{job.id}", headers={"Authorization": f"Bearer {key.plain}"}).json()
        assert (shown["spec"]["reward"]["kind"], shown["spec"]["reward"]["options"]) == (kind, options)


def test_jobs_are_steered_and_listed_however_they_were_made(client, create, url, key, make_spec):
    job = create(metadata={"run": "a"}, suffix="first")
    other = create(metadata={"run": "b"}, training_file=job.training_file)
    spec = make_spec(job.training_file).model_dump(mode="json")
    native = httpx.post(f"{url}/jobs", json=spec, headers={"Authorization": f"Bearer {key.plain}"}).json()
    assert [each.id for each in client.fine_tuning.jobs.list(limit=2)] == [native["id"], other.id, job.id]
    assert [each.id for each in client.fine_tuning.jobs.list(metadata={"run": "a"})] == [job.id]
    shown = client.fine_tuning.jobs.retrieve(native["id"])
    assert (shown.method.reinforcement.grader.operation, shown.metadata) == ("eq", {})
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert messages == ["cancelled", "resumed", "paused", "queued"]


def test_models_are_listed(client):
    models = {model.id: model.owned_by for model in client.models.list()}
    assert models["builtin/tiny-arith"] == "builtin"
    assert client.models.retrieve("builtin/tiny-arith").id == "builtin/tiny-arith"


def test_the_example_runs(client, worker, url, key, environment):
    worker()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "openai_client.py"), "2"],
        env=environment | {"ASYM_API_URL": url, "ASYM_API_KEY": key.plain},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = client.fine_tuning.jobs.list()
    assert done.stdout.splitlines()[-1] == f"succeeded job/{job.id}@2"
    assert "step 2 of 2" in done.stdout
