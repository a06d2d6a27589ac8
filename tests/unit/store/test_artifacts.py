import hashlib
import os
import time
from pathlib import Path

import pytest

from store.artifacts import Artifacts, attempt_path
from store.errors import UnsafePath


def test_a_file_appears_complete_and_only_when_moved(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    with artifacts.incoming() as incoming:
        incoming.write(b"one\n")
        incoming.write(b"two\n")
        assert incoming.sha256 == hashlib.sha256(b"one\ntwo\n").hexdigest()
        assert incoming.bytes == 8
        destination = artifacts.dataset_path(incoming.sha256, "jsonl")
        assert not destination.exists()
        incoming.move_to(destination)
    assert destination.read_bytes() == b"one\ntwo\n"
    assert destination.parent.name == incoming.sha256[:2]
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_file_that_is_not_moved_is_gone(tmp_path: Path) -> None:
    def fail() -> None:
        with Artifacts(tmp_path).incoming() as incoming:
            incoming.write(b"half")
            raise RuntimeError("the connection broke")

    with pytest.raises(RuntimeError, match="broke"):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_process_had_received_is_cleared_and_what_a_living_one_receives_is_not(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.clear_incoming()
    long_ago = time.time() - 3600
    with artifacts.incoming() as incoming:
        for name in ("left", "young"):
            (tmp_path / "incoming" / name).write_bytes(b"half a data set")
        for path in (incoming.path, tmp_path / "incoming" / "left"):
            os.utime(path, (long_ago, long_ago))
        artifacts.clear_incoming()
        assert {path.name for path in (tmp_path / "incoming").iterdir()} == {incoming.path.name, "young"}


def test_readable_by_its_path_after_a_flush(tmp_path: Path) -> None:
    with Artifacts(tmp_path).incoming() as incoming:
        incoming.write(b"rows")
        incoming.flush()
        assert incoming.path.read_bytes() == b"rows"


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "..", "../x", "jobs/../../x", "jobs/a/../../../x", "a\0b", "jobs/.."]
)
def test_a_path_that_climbs_out_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsafePath):
        Artifacts(tmp_path / "root").resolve(path)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        Artifacts(root).resolve("link/secret")


def test_a_path_inside_is_resolved(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    relative = f"{attempt_path('job_0abc', 2)}/checkpoints/10"
    assert artifacts.resolve(relative) == tmp_path / "jobs/job_0abc/attempts/2/checkpoints/10"
    assert artifacts.attempt_dir("job_0abc", 2) == tmp_path / "jobs/job_0abc/attempts/2"


@pytest.mark.parametrize(("job_id", "attempt"), [("job_../x", 1), ("x", 1), ("job_a/b", 1), ("job_a", 0)])
def test_an_attempt_folder_needs_a_job_and_a_number(job_id: str, attempt: int) -> None:
    with pytest.raises(UnsafePath):
        attempt_path(job_id, attempt)


@pytest.mark.parametrize(("sha256", "format"), [("../../x", "jsonl"), ("A" * 64, "jsonl"), ("a" * 64, "../x")])
def test_a_data_set_path_needs_a_hash_and_a_format(tmp_path: Path, sha256: str, format: str) -> None:
    with pytest.raises(UnsafePath):
        Artifacts(tmp_path).dataset_path(sha256, format)
