"""Names are never paths: whatever somebody calls a file, a job, a model or a checkpoint, nothing is reached by it."""

import json

import pytest

from api.main import create_app

HOSTILE = [
    "../../../etc/passwd", "/etc/passwd", "..\\..\\windows\\win.ini", "C:\\Windows\\win.ini", "\\\\host\\share", "CON",
    "NUL.jsonl", "aux", "a/../../b", ".", "..", "...", "~root", "$HOME", "a\nb", "%2e%2e%2fetc",
    "\u2025/\uff0e\uff0e/etc", "a" * 199, "file:///etc/passwd", "|id", "-rf", "sha256:abc", "a\u202ejsonl",
]  # fmt: skip
LINE = b'{"prompt": "1+1=", "answer": "2"}\n'


@pytest.fixture
def untouched(settings, tmp_path):
    """untouched(): nothing lies outside of where contents go, by their hash."""

    def check():
        strange = [
            path
            for path in tmp_path.rglob("*")
            if path.is_file()
            and path.parent != settings.artifacts / "locks"
            and path != settings.secret_file
            and not (path.parent.parent == settings.artifacts / "datasets" and len(path.stem) == 64)
        ]
        assert strange == []

    return check


@pytest.mark.parametrize("name", HOSTILE)
def test_a_data_sets_name_is_only_told(member, untouched, name):
    answer = member.post("/datasets", files={"file": (name, LINE)}, data={"name": name})
    assert answer.status_code == 201, answer.text
    stored = answer.json()
    assert stored["name"] == name
    assert "/" not in stored["filename"]
    assert len(member.get(f"/datasets/{stored['id']}/rows").json()["data"]) == 1
    untouched()


def test_nul_in_a_name_is_refused_and_nothing_is_kept(member, stored_files):
    answer = member.post("/datasets", files={"file": ("a.jsonl", LINE)}, data={"name": "a\0b"})
    assert answer.status_code == 422
    assert stored_files() == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_jobs_name_is_only_told(member, make_job, untouched, name):
    assert make_job(member, name=name)["name"] == name
    untouched()


@pytest.mark.parametrize("id", [*HOSTILE, "x/../y", "a\0b", "link", "config.json", ""])
def test_a_models_name_stays_in_its_folder(settings, caller, tmp_path, make_dataset, make_spec, id):
    from fastapi.testclient import TestClient

    outside = tmp_path / "outside"
    outside.mkdir()
    for file in ("config.json", "model.safetensors"):
        (outside / file).write_text("{}")
    models = tmp_path / "models"
    models.mkdir()
    (models / "link").symlink_to(outside)
    admin = caller()
    spec = make_spec(make_dataset(admin.key.identity).id).model_dump(mode="json")
    spec["model"]["id"] = f"path/{id}"
    app = create_app(settings.model_copy(update={"models_dir": models}))
    with TestClient(app) as http:
        headers = {"Authorization": f"Bearer {admin.key.plain}"}
        answer = http.post("/jobs", content=json.dumps(spec), headers=headers | {"Content-Type": "application/json"})
        assert answer.status_code in (404, 422), answer.text
        assert str(tmp_path) not in answer.text
        listed = [model["id"] for model in http.get("/models", headers=headers).json()["data"]]
        assert not [model for model in listed if model.startswith("path/")]


@pytest.mark.parametrize("step", ["../1", "1/../../x", "-1", "0x1", "1e3", "\u0661", "99999999999999999999"])
@pytest.mark.parametrize("job", ["job_1", "../job_1"])
def test_a_checkpoints_name_is_a_number(member, make_dataset, make_spec, job, step):
    spec = make_spec(make_dataset(member.key.identity).id).model_dump(mode="json")
    spec["model"]["id"] = f"job/{job}@{step}"
    assert member.post("/jobs", json=spec).status_code == 422
