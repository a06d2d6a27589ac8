"""A checkpoint's archive, unpacked as it arrives: it never lies on the disk beside its own files."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from client.errors import Unreachable
from client.transport import Transport

SILENCE_SECONDS = 60.0


def download_checkpoint(transport: Transport, job_id: str, step: int, to: Path) -> Path:
    """The folder below `to` in which the model now is, JOB-stepSTEP. AsymError when there is no such checkpoint.

    Unreachable when the answer breaks off; what had arrived is left there, and the next try writes over it.
    """
    path = f"/jobs/{job_id}/checkpoints/{step}/download"
    with transport.stream(path, headers={"Accept": "application/x-tar"}, read_timeout=SILENCE_SECONDS) as response:
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _Arriving(response.iter_raw())), mode="r|") as archive:
                archive.extractall(to, filter="data")
        except tarfile.ReadError as error:
            raise Unreachable("the checkpoint's archive broke off", detail=str(error)) from error
    return to / f"{job_id}-step{step}"


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
