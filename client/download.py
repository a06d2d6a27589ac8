"""A checkpoint's archive, unpacked as it arrives: it never lies on the disk beside its own files."""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

from client.errors import Unreachable
from client.transport import Transport

SILENCE_SECONDS = 60.0

Format = Literal["huggingface", "adapter", "merged"]


def download_checkpoint(transport: Transport, job_id: str, step: int, to: Path) -> Path:
    """The folder below `to` in which the model now is, JOB-stepSTEP. AsymError when there is no such checkpoint.

    Unreachable when the answer breaks off; what had arrived is left there, and the next try writes over it.
    """
    _unpack(transport, job_id, step, to, None)
    return to / f"{job_id}-step{step}"


def export_checkpoint(transport: Transport, job_id: str, step: int, to: Path, wanted: Format) -> Path:
    """The checkpoint in this format, as the folder `to`, which appears once it is whole.

    FileExistsError where something is in it already; AsymError 404 when there is no such checkpoint, 409 when it cannot
    be had in this format; Unreachable when the answer breaks off.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise FileExistsError(f"{to} is not an empty folder")
    to.parent.mkdir(parents=True, exist_ok=True)
    arriving = to.parent / f".{to.name}.arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    try:
        _unpack(transport, job_id, step, arriving, wanted)
        (folder,) = arriving.iterdir()  # the archive's one
        if to.exists():
            to.rmdir()
        folder.rename(to)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    return to


def _unpack(transport: Transport, job_id: str, step: int, to: Path, wanted: Format | None) -> None:
    path = f"/jobs/{job_id}/checkpoints/{step}/download"
    # A base that the API has not merged into before is read through once before the first byte comes.
    patience = SILENCE_SECONDS if wanted is None else 10 * SILENCE_SECONDS
    with transport.stream(
        path, headers={"Accept": "application/x-tar"}, params={"format": wanted}, read_timeout=patience
    ) as response:
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _Arriving(response.iter_raw())), mode="r|") as archive:
                archive.extractall(to, filter="data")
        except tarfile.ReadError as error:
            raise Unreachable("the checkpoint's archive broke off", detail=str(error)) from error


class _Arriving:
    """What tarfile reads from: the chunks of an answer as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing > 0:
            self._left = self._left or next(self._chunks, b"")
            if not self._left:
                break
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)
