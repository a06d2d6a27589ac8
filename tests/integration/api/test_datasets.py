"""Uploading, reading and deleting data sets."""

import errno
import hashlib
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from api.main import create_app
from store.artifacts import Artifacts, Incoming


def jsonl(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


SUMS = jsonl({"question": f"{n}+{n}=", "answer": str(2 * n)} for n in range(1, 21))


def upload(member, data, filename="sums.jsonl", **fields):
    return member.post("/datasets", files={"file": (filename, data)}, data=fields)


def test_an_upload_is_stored_by_its_content_and_can_be_read(member, settings):
    response = upload(member, SUMS, name="my sums")
    assert response.status_code == 201
    dataset = response.json()
    sha256 = hashlib.sha256(SUMS).hexdigest()
    assert (
        dataset
        | {
            "name": "my sums",
            "filename": "sums.jsonl",
            "format": "jsonl",
            "columns": ["question", "answer"],
            "rows": 20,
            "unanswered_rows": 0,
            "bytes": len(SUMS),
            "sha256": sha256,
        }
        == dataset
    )
    assert response.headers["location"] == f"/datasets/{dataset['id']}"
    assert Artifacts(settings.artifacts).dataset_path(sha256, "jsonl").read_bytes() == SUMS
    assert member.get(f"/datasets/{dataset['id']}").json() == dataset
    assert member.get("/datasets").json() == {"data": [dataset], "has_more": False, "next": None}


def test_rows_are_paged(member):
    dataset_id = upload(member, SUMS).json()["id"]
    first = member.get(f"/datasets/{dataset_id}/rows", params={"limit": 15}).json()
    assert first["data"][0] == {"row": 1, "prompt": "1+1=", "answer": "2", "kind": None}
    assert (first["has_more"], first["next"]) == (True, 15)
    second = member.get(f"/datasets/{dataset_id}/rows", params={"limit": 15, "after": first["next"]}).json()
    assert [row["row"] for row in first["data"] + second["data"]] == list(range(1, 21))
    assert (second["has_more"], second["next"]) == (False, None)


def test_a_file_with_bad_lines_3_7_and_9_is_refused_whole_in_one_report(member, stored_files):
    lines = [json.dumps({"question": f"{n}+1=", "answer": str(n + 1)}).encode() for n in range(12)]
    lines[2] = b'{"question": "2+1="}'
    lines[6] = b'{"question": "6+1=", "answer": '
    lines[8] = b'{"question": "", "answer": "9"}'
    response = upload(member, b"\n".join(lines))
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert [error["line"] for error in problem["errors"]] == [3, 7, 9]
    assert all(error.keys() == {"line", "field", "msg"} and error["msg"] for error in problem["errors"])
    assert [error["field"] for error in problem["errors"]] == ["answer", None, "question"]
    assert problem["error_count"] == 3
    assert member.get("/datasets").json()["data"] == []
    assert stored_files() == []


def test_the_first_thousand_errors_are_listed_and_all_are_counted(member, stored_files):
    problem = upload(member, b"{}\n" * 2500 + SUMS).json()
    assert problem["error_count"] >= 2500
    assert len(problem["errors"]) == 1000
    assert stored_files() == []


@pytest.mark.parametrize(
    ("data", "filename"),
    [
        (b"", "empty.jsonl"),
        (b"\n\n", "blank.jsonl"),
        (b"question,answer\n", "header.csv"),
        (b"PAR1 but no more", "broken.parquet"),
        (b"\x1f\x8b\x08\x00", "data.jsonl.gz"),
        (b"just words", "notes.txt"),
        (b"[1, 2]", "list.json"),
    ],
)
def test_what_is_no_data_set_is_refused(member, stored_files, data, filename):
    response = upload(member, data, filename)
    assert response.status_code == 422
    assert response.json()["errors"]
    assert stored_files() == []
    assert member.get("/datasets").json()["data"] == []


def test_csv_and_parquet_are_read_too(member):
    csv = upload(member, b"question,answer\n1+1=,2\n2+2=,4\n", "sums.csv").json()
    assert (csv["format"], csv["rows"]) == ("csv", 2)
    table = io.BytesIO()
    pq.write_table(pa.table({"problem": ["1+1=", "2+2=", "3+3="], "answer": ["2", "4", "6"]}), table)
    parquet = upload(member, table.getvalue(), "sums.parquet").json()
    assert (parquet["format"], parquet["rows"], parquet["columns"]) == ("parquet", 3, ["problem", "answer"])
    rows = member.get(f"/datasets/{parquet['id']}/rows", params={"after": 1}).json()["data"]
    assert [(row["row"], row["answer"]) for row in rows] == [(2, "4"), (3, "6")]


def test_rows_of_parquet_without_an_answer_are_passed_over_and_counted(member):
    table = io.BytesIO()
    pq.write_table(pa.table({"problem": ["1+1=", "2+2=", "3+3="], "answer": ["2", "", "6"]}), table)
    dataset = upload(member, table.getvalue(), "sums.parquet").json()
    assert (dataset["rows"], dataset["unanswered_rows"]) == (2, 1)
    rows = member.get(f"/datasets/{dataset['id']}/rows").json()["data"]
    assert [(row["row"], row["answer"]) for row in rows] == [(1, "2"), (3, "6")]
    lines = upload(member, jsonl([{"problem": "1+1=", "answer": ""}]))
    assert (lines.status_code, lines.json()["errors"][0]["line"]) == (422, 1)


def test_columns_with_other_names_are_named_at_the_upload(member):
    data = jsonl([{"frage": "1+1=", "lösung": "2"}])
    assert upload(member, data).status_code == 422
    columns = {"prompt": "frage", "answer": "lösung"}
    dataset = upload(member, data, columns=json.dumps(columns))
    assert dataset.status_code == 201
    path = f"/datasets/{dataset.json()['id']}/rows"
    assert dataset.json()["column_mapping"] == columns
    assert member.get(path, params=columns).json()["data"][0]["prompt"] == "1+1="
    assert member.get(path).json()["data"][0]["prompt"] == "1+1=", "they are remembered"
    wrong = member.get(path, params={"prompt": "x", "answer": "lösung"})
    assert "frage, lösung" in wrong.json()["errors"][0]["msg"]


def test_a_job_takes_the_columns_that_were_named_at_the_upload(member, make_spec):
    data = jsonl([{"frage": f"{n}+1=", "lösung": str(n + 1), "other": "7"} for n in range(9)])
    named = {"prompt": "frage", "answer": "lösung"}
    dataset = upload(member, data, columns=json.dumps(named)).json()["id"]
    evaluation = {"name": "e", "data": dataset, "every": 10}
    spec = make_spec(dataset, eval=[evaluation]).model_dump(mode="json", exclude_unset=True)
    for path in ("/jobs/validate", "/jobs"):
        resolved = member.post(path, json=spec).json()["spec"]
        assert (resolved["data"]["columns"], resolved["eval"][0]["columns"]) == (named, named)
    other = {"prompt": "frage", "answer": "other"}
    spec["data"]["columns"] = other
    assert member.post("/jobs", json=spec).json()["spec"]["data"]["columns"] == other


def test_uploads_of_one_name_are_its_versions(member, caller):
    first, second = upload(member, SUMS, name="sums").json(), upload(member, SUMS, name="sums").json()
    assert (first["version"], second["version"]) == (1, 2)
    assert upload(member, SUMS, name="other").json()["version"] == 1
    assert upload(caller(), SUMS, name="sums").json()["version"] == 1
    member.delete(f"/datasets/{second['id']}")
    third = upload(member, SUMS, name="sums").json()
    assert third["version"] == 3, "a number never means two things"
    listed = member.get("/datasets", params={"name": "sums"}).json()["data"]
    assert [each["id"] for each in listed] == [third["id"], first["id"]]
    with ThreadPoolExecutor(8) as pool:
        versions = [answer.json()["version"] for answer in pool.map(lambda _: upload(member, SUMS, name="n"), range(8))]
    assert sorted(versions) == list(range(1, 9))


def test_the_statistics_of_an_upload(member):
    rows = [{"prompt": "abc", "answer": "1"}, {"prompt": "abc", "answer": "x^2"}, {"prompt": "abcdef", "answer": "B"}]
    dataset = upload(member, jsonl(rows)).json()
    assert dataset["statistics"] == {
        "prompt_characters": {"min": 3, "median": 3, "p95": 6, "max": 6, "mean": 4.0},
        "answer_characters": {"min": 1, "median": 1, "p95": 3, "max": 3, "mean": 5 / 3},
        "duplicate_prompts": 1,
        "chats": 0,
        "answer_kinds": {"integer": 1, "choice": 1, "expression": 1},
        "row_kinds": {},
    }
    assert member.get(f"/datasets/{dataset['id']}").json() == dataset


def test_the_prompts_length_in_a_models_tokens(member, caller, settings, make_job):
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = settings.models_cache / "tiny-arith-1"
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]
    rows = [{"frage": text, "answer": "7"} for text in ("a", "a b c", chat, "word " * 600)]
    dataset = upload(member, jsonl(rows), columns='{"prompt": "frage"}').json()["id"]
    path = f"/datasets/{dataset}/tokens"
    found = member.get(path, params={"model": "builtin/tiny-arith"})
    assert found.json() == {
        "model": "builtin/tiny-arith",
        "rows": 4,
        "prompt_tokens": {"min": 1, "median": 3, "p95": 600, "max": 600, "mean": 609 / 4},
        "over_512": 1,
    }
    for model, status, words in (
        ("nonsense", 422, "unknown model id"),
        ("builtin/smollm2-135m-instruct", 404, "is not on this machine"),
        ("path/x", 404, "no models folder"),
        ("hf/org/name", 404, "not on this platform's allowlist"),
        ("job/job_0@3", 404, "no model"),
    ):
        refused = member.get(path, params={"model": model})
        assert (refused.status_code, words in refused.text) == (status, True), refused.text
    assert caller().get(path, params={"model": "builtin/tiny-arith"}).status_code == 404


def test_columns_may_come_behind_the_file(member):
    data = jsonl([{"frage": "1+1=", "answer": "2"}])
    parts = {"file": ("q.jsonl", data), "columns": (None, '{"prompt": "frage"}')}
    assert member.post("/datasets", files=parts).json()["rows"] == 1


@pytest.mark.parametrize(
    ("columns", "loc"),
    [
        ("{", ["body", "columns"]),
        ("[]", ["body", "columns"]),
        ('{"prompt": 5}', ["body", "columns", "prompt"]),
        ('{"question": "q"}', ["body", "columns", "question"]),
    ],
)
def test_bad_columns_are_refused(member, columns, loc):
    response = upload(member, SUMS, columns=columns)
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == loc


def test_the_same_bytes_are_stored_once_and_each_team_has_its_own_data_set(member, caller, stored_files):
    other = caller()
    mine, twice, theirs = upload(member, SUMS).json(), upload(member, SUMS).json(), upload(other, SUMS).json()
    assert len({mine["id"], twice["id"], theirs["id"]}) == 3
    assert len(stored_files()) == 1
    assert other.get(f"/datasets/{mine['id']}").status_code == 404

    assert member.delete(f"/datasets/{mine['id']}").status_code == 204
    assert member.delete(f"/datasets/{twice['id']}").status_code == 204
    assert member.get(f"/datasets/{mine['id']}").status_code == 404
    assert member.delete(f"/datasets/{mine['id']}").status_code == 404
    assert len(stored_files()) == 1
    assert other.get(f"/datasets/{theirs['id']}/rows").status_code == 200
    assert other.delete(f"/datasets/{theirs['id']}").status_code == 204
    assert stored_files() == []


def test_uploads_and_deletions_of_the_same_bytes_at_once_never_lose_a_file(member, stored_files):
    def come_and_go(_):
        dataset_id = upload(member, SUMS).json()["id"]
        readable = member.get(f"/datasets/{dataset_id}/rows").status_code
        return readable, member.delete(f"/datasets/{dataset_id}").status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(come_and_go, range(24))) == {(200, 204)}
    assert stored_files() == []


def test_a_data_set_in_use_is_not_deleted(member, make_job):
    job = make_job(member)
    path = f"/datasets/{job['spec']['data']['train']}"
    response = member.delete(path)
    assert response.status_code == 409
    assert job["id"] in response.json()["detail"]
    member.post(f"/jobs/{job['id']}/cancel")
    assert member.delete(path).status_code == 204


def test_an_upload_over_the_limit_is_413_and_leaves_nothing(settings, member, stored_files):
    small = settings.model_copy(update={"max_upload_bytes": len(SUMS)})
    headers = {"Authorization": f"Bearer {member.key.plain}"}
    with TestClient(create_app(small), headers=headers) as client:
        for data, status in [(SUMS, 201), (SUMS + b"\n", 413), (SUMS + b" " * 2**21, 413)]:
            response = client.post("/datasets", files={"file": ("sums.jsonl", data)})
            assert response.status_code == status
    assert len(stored_files()) == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {"file": "x"}}, 415),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 415),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422),
        ({"files": {"data": ("sums.jsonl", SUMS)}}, 422),
        ({"files": [("file", ("a.jsonl", SUMS)), ("file", ("b.jsonl", SUMS))]}, 422),
        ({"files": {"file": ("a.jsonl", SUMS)}, "data": {"name": "x" * 201}}, 422),
        ({"files": {"file": ("a.jsonl", SUMS)}, "data": {"name": "x" * 70_000}}, 413),
        ({"files": {"file": ("a.jsonl", SUMS)}, "data": {"name": "nul\0"}}, 422),
    ],
)
def test_a_malformed_upload_is_refused_and_leaves_nothing(member, stored_files, request_, status):
    response = member.post("/datasets", **request_)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert stored_files() == []


def test_a_file_name_is_a_name_and_no_path(member, settings):
    dataset = upload(member, SUMS, "../../etc/sums.jsonl").json()
    assert (dataset["filename"], dataset["name"]) == ("sums.jsonl", "sums.jsonl")


def test_a_storage_that_takes_no_more_says_so_and_keeps_nothing(member, stored_files, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Incoming, "write", full)
        refused = upload(member, b'{"question": "1+1=", "answer": "2"}\n')
    assert refused.status_code == 507
    assert refused.json()["type"].endswith("storage-full")
    assert stored_files() == []
    assert upload(member, b'{"question": "1+1=", "answer": "2"}\n').status_code == 201
