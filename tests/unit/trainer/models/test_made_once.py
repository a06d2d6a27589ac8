"""Made-in-place folders: made once whoever asks, whole or not there, and made again when damaged."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.models.made_once import made_once


def _make(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 1000)
    (folder / "sub").mkdir()
    (folder / "sub" / "config").write_text("{}")


def _refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} need not be made")


def test_it_is_made_once_and_then_reused(tmp_path: Path) -> None:
    folder = made_once(tmp_path / "cache" / "model", _make)
    assert folder == tmp_path / "cache" / "model"
    assert (folder / "sub" / "config").read_text() == "{}"
    assert made_once(folder, _refuse) == folder
    assert {path.name for path in folder.parent.iterdir()} == {"model", ".model.lock"}


def test_concurrent_askers_make_it_once(tmp_path: Path) -> None:
    # The lock belongs to the open file, so threads exclude one another by it just as processes do.
    made = []
    together = threading.Barrier(3)

    def make(folder: Path) -> None:
        made.append(folder)
        _make(folder)

    def ask() -> bytes:
        together.wait(60)
        return (made_once(tmp_path / "model", make) / "weights").read_bytes()

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        assert [asker.result(60) for asker in asked] == [b"w" * 1000] * 3
    assert len(made) == 1


@pytest.mark.parametrize("damage", ["changed", "removed", "manifest"])
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = made_once(tmp_path / "model", _make)
    match damage:
        case "changed":
            (folder / "weights").write_bytes(b"w" * 999 + b"v")
        case "removed":
            (folder / "sub" / "config").unlink()
        case "manifest":
            (folder / "manifest.json").write_text('{"weights":')
    made_once(folder, _make)
    assert (folder / "weights").read_bytes() == b"w" * 1000
    assert made_once(folder, _refuse) == folder
    assert "damaged" in caplog.text


def test_a_failed_maker_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        made_once(tmp_path / "model", fail)
    assert {path.name for path in tmp_path.iterdir()} == {".model.lock"}
    assert made_once(tmp_path / "model", _make).is_dir()


def test_leftovers_of_a_killed_maker_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".model.making-abc" / "folder"
    leftover.mkdir(parents=True)
    (leftover / "weights").write_text("half")
    made_once(tmp_path / "model", _make)
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.lock"}
