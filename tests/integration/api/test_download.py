"""A checkpoint as an archive: the files of the model folder, whole and nothing else, for those whose it is."""

import hashlib
import io
import json
import tarfile
import tracemalloc

import pytest

from api.history import archive
from trainer.spec import events as trainer_events

FILES = {
    "model/config.json": b'{"a": 1}',
    "model/model.safetensors": bytes(range(256)) * 4096 + b"x",
    "model/base/" + "n" * 120 + ".json": b"{}",
    "model/empty.txt": b"",
    "optimizer.safetensors": b"not for download",
    "state.json": b"{}",
}


@pytest.fixture
def job(member, make_job, start_run):
    found = make_job(member)
    found["run"] = start_run(found["id"])
    return found


@pytest.fixture
def checkpoint(job, settings):
    """checkpoint(step=2, files=FILES, manifest=None): written and recorded; its folder."""

    def write(step=2, files=FILES, names=None):
        run = job["run"]
        folder = settings.artifacts / "jobs" / job["id"] / "attempts" / str(run.attempt) / "checkpoints" / str(step)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        entries = {name: {"bytes": len(files.get(name, b"")), "sha256": ""} for name in names or files}
        manifest = json.dumps({"format": 1, "step": step, "files": entries}).encode()
        (folder / "manifest.json").write_bytes(manifest)
        run.record(
            trainer_events.Checkpoint(
                time=0.0,
                step=step,
                path=f"checkpoints/{step}",
                bytes=sum(map(len, files.values())),
                manifest_sha256=hashlib.sha256(manifest).hexdigest(),
                score=None,
            )
        )
        return folder

    return write


def test_the_archive_is_the_model_folder(member, job, checkpoint):
    checkpoint()
    response = member.get(f"/jobs/{job['id']}/checkpoints/2/download")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="{job["id"]}-step2.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    assert len(response.content) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    folder = f"{job['id']}-step2/"
    assert found == {
        folder + name.removeprefix("model/"): content for name, content in FILES.items() if name.startswith("model/")
    }
    again = {"If-None-Match": response.headers["etag"]}
    assert member.get(f"/jobs/{job['id']}/checkpoints/2/download", headers=again).status_code == 304


def test_only_usable_checkpoints_of_ones_own_are_given(member, caller, job, checkpoint, database):
    checkpoint()
    path = f"/jobs/{job['id']}/checkpoints/2/download"
    assert caller().get(path).status_code == 404
    assert member.get(f"/jobs/{job['id']}/checkpoints/3/download").status_code == 404
    assert member.get(f"/jobs/{job['id']}/checkpoints/-1/download").status_code == 422
    from sqlalchemy import text

    for column in ("superseded_at", "deleted_at"):
        with database.transaction() as session:
            session.execute(text(f"UPDATE checkpoints SET {column} = clock_timestamp()"))  # noqa: S608
        assert member.get(path).status_code == 404
        with database.transaction() as session:
            session.execute(text(f"UPDATE checkpoints SET {column} = NULL"))  # noqa: S608
    assert member.get(path).status_code == 200


@pytest.mark.parametrize(
    "names",
    [["model/../../../../../../etc/passwd"], ["model//etc/passwd", "model/../x"], ["config.json"], ["model/\0"]],
)
def test_a_manifest_that_leads_elsewhere_opens_nothing(anonymous, member, job, checkpoint, names):
    checkpoint(names=names)
    response = member.get(f"/jobs/{job['id']}/checkpoints/2/download")
    assert response.status_code in (404, 500)
    assert b"root:" not in response.content


def test_a_link_out_of_the_store_is_not_followed(member, job, checkpoint, tmp_path):
    folder = checkpoint()
    outside = tmp_path / "outside"
    outside.write_bytes(FILES["model/config.json"])
    (folder / "model/config.json").unlink()
    (folder / "model/config.json").symlink_to(outside)
    response = member.get(f"/jobs/{job['id']}/checkpoints/2/download")
    assert response.status_code == 500
    assert response.json()["type"] == "urn:asym:problem:damaged"


def test_files_that_are_gone_or_changed_are_a_404_before_the_first_byte(member, job, checkpoint):
    folder = checkpoint()
    path = f"/jobs/{job['id']}/checkpoints/2/download"
    (folder / "model/config.json").write_bytes(b"longer than it was")
    assert member.get(path).status_code == 404
    (folder / "model/config.json").unlink()
    assert member.get(path).status_code == 404
    (folder / "manifest.json").write_bytes(b"{}")
    assert member.get(path).status_code == 404


def test_a_checkpoint_deleted_while_it_is_sent_is_sent_whole(settings, artifacts, database, job, checkpoint):
    folder = checkpoint()
    from store.models import Checkpoint

    with database.transaction() as session:
        row = session.get(Checkpoint, (job["id"], 2))
    opened = archive.model_archive(artifacts, row, "m")
    try:
        for path in folder.rglob("*"):
            if path.is_file():
                path.unlink()
        content = b"".join(opened.chunks())
    finally:
        opened.close()
    assert len(content) == opened.bytes
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.extractfile("m/model.safetensors").read() == FILES["model/model.safetensors"]


def test_memory_stays_within_some_chunks_whatever_the_size(settings, artifacts, database, job, checkpoint):
    from store.models import Checkpoint

    checkpoint(files={"model/model.safetensors": bytes(64 * 2**20)})
    with database.transaction() as session:
        row = session.get(Checkpoint, (job["id"], 2))
    opened = archive.model_archive(artifacts, row, "m")
    tracemalloc.start()
    try:
        assert sum(len(chunk) for chunk in opened.chunks()) == opened.bytes
        assert tracemalloc.get_traced_memory()[1] < 4 * archive.CHUNK_BYTES
    finally:
        tracemalloc.stop()
        opened.close()
