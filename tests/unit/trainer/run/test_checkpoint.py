"""Checkpoints are whole or absent, and a byte that changed on disk is noticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer import checkpoint
from trainer.errors import CheckpointError


def save_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")


def write(folder: Path, step: int = 3) -> checkpoint.Written:
    return checkpoint.write(
        folder,
        step,
        save_model=save_model,
        optimizer={"w|exp_avg": torch.arange(4.0)},
        state={"order": {"cursor": 7}},
    )


def test_what_was_written_is_read_back(tmp_path: Path):
    written = write(tmp_path)
    loaded = checkpoint.load(written.path)
    assert written.path == tmp_path / "3"
    assert loaded.step == 3
    assert (loaded.model_dir / "model.safetensors").read_bytes() == b"weights"
    assert torch.equal(loaded.optimizer["w|exp_avg"], torch.arange(4.0))
    assert loaded.state == {"order": {"cursor": 7}}
    assert written.bytes == sum(path.stat().st_size for path in written.path.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["model/model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_changed_byte_is_found_and_named(tmp_path: Path, name: str):
    file = write(tmp_path).path / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(tmp_path / "3")


@pytest.mark.parametrize("name", ["model/model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_short_or_missing_file_is_found_and_named(tmp_path: Path, name: str):
    file = write(tmp_path).path / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=name if name != "manifest.json" else "readable"):
        checkpoint.verify(tmp_path / "3")
    file.unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint.verify(tmp_path / "3")


def test_a_failed_write_leaves_the_earlier_checkpoint_and_nothing_else(tmp_path: Path):
    write(tmp_path)

    def disk_full(folder: Path) -> None:
        save_model(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(tmp_path, 3, save_model=disk_full, optimizer={"w": torch.zeros(1)}, state={})
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
    assert checkpoint.verify(tmp_path / "3") == 3


FULL_DISK = """
import errno, resource, sys
from pathlib import Path
import torch
from trainer import checkpoint
folder = Path(sys.argv[1])
def save_model(model):
    model.mkdir()
    (model / "config.json").write_text("{}")
checkpoint.write(folder, 1, save_model=save_model, optimizer={"w": torch.zeros(9)}, state={})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoint.write(folder, 2, save_model=save_model, optimizer={"w": torch.zeros(99_999)}, state={})
except OSError as error:
    print(errno.errorcode[error.errno], sorted(path.name for path in folder.iterdir()), checkpoint.verify(folder / "1"))
"""


def test_a_disk_that_takes_no_more_is_an_os_error_and_leaves_the_earlier_one(tmp_path: Path):
    """The kernel refuses, for root and for anybody else; safetensors tells it as text."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "EFBIG ['1'] 1"


def test_what_was_cut_before_it_was_hashed_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A manifest that is right about a wrong file: reading finds out."""

    with monkeypatch.context() as patched:
        whole = checkpoint.save_file
        patched.setattr(checkpoint, "save_file", lambda tensors, path: (whole(tensors, path), _halve(path)))
        written = write(tmp_path)
    assert checkpoint.verify(written.path) == 3
    with pytest.raises(CheckpointError, match="readable"):
        checkpoint.load(written.path)


def _halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_step_written_again_replaces_the_earlier_one(tmp_path: Path):
    first = write(tmp_path)
    second = checkpoint.write(
        tmp_path, 3, save_model=save_model, optimizer={"w|exp_avg": torch.zeros(4)}, state={"order": None}
    )
    assert second.manifest_sha256 != first.manifest_sha256
    assert checkpoint.load(tmp_path / "3").state == {"order": None}
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_latest_passes_over_a_damaged_one(tmp_path: Path):
    assert checkpoint.latest(tmp_path) is None
    write(tmp_path, 2)
    write(tmp_path, 10)
    assert checkpoint.latest(tmp_path) == tmp_path / "10"
    (tmp_path / "10" / "state.json").unlink()
    assert checkpoint.latest(tmp_path) == tmp_path / "2"


def test_deleting_removes_the_folder(tmp_path: Path):
    write(tmp_path)
    checkpoint.delete(tmp_path, 3)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(tmp_path: Path):
    manifest = write(tmp_path).path / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.verify(tmp_path / "3")


def test_what_a_killed_process_left_half_done_is_cleared(tmp_path: Path):
    write(tmp_path)
    for name in (".writing-4", ".deleting-1", ".replaced-3"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "model.safetensors").write_bytes(b"half")
    checkpoint.clear_interrupted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
    assert checkpoint.verify(tmp_path / "3") == 3
