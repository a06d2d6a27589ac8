"""Paths that an artifact folder must not follow, beyond the plain ones."""

import pytest

from store.artifacts import Artifacts
from store.errors import UnsafePath


@pytest.fixture
def artifacts(tmp_path):
    root = tmp_path / "artifacts"
    root.mkdir()
    return Artifacts(root)


@pytest.mark.parametrize("path", [".", "./", "./.", "//etc", "\0", "a/./../..", "job/\0"])
def test_the_root_itself_and_odd_spellings_are_refused(artifacts, path):
    with pytest.raises(UnsafePath):
        artifacts.resolve(path)


def test_links_out_of_the_root_and_to_it_are_refused_and_those_within_are_followed(artifacts, tmp_path):
    (tmp_path / "secret").write_text("s")
    (artifacts.root / "jobs").mkdir()
    (artifacts.root / "to_file").symlink_to(tmp_path / "secret")
    (artifacts.root / "self").symlink_to(".")
    (artifacts.root / "within").symlink_to("jobs")
    for path in ("to_file", "self", "self/to_file"):
        with pytest.raises(UnsafePath):
            artifacts.resolve(path)
    assert artifacts.resolve("within/x") == artifacts.root / "jobs" / "x"


def test_a_root_behind_a_link_works(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Artifacts(tmp_path / "link").resolve("jobs/a") == tmp_path.resolve() / "real" / "jobs" / "a"


def test_the_same_content_twice_is_one_file(artifacts):
    for _ in range(2):
        with artifacts.incoming() as incoming:
            incoming.write(b"same")
            incoming.move_to(artifacts.dataset_path(incoming.sha256, "csv"))
    assert len([path for path in artifacts.root.rglob("*") if path.is_file()]) == 1
