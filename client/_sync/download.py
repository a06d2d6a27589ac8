# Generated from client/_async/download.py by `./dev sdk`; edit it there.
"""A checkpoint's archive, unpacked as it arrives: it never lies on the disk beside its own files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from client._sync.transport import Transport
from client.transfers import Progress, appearing, unpack

SILENCE_SECONDS = 60.0

Format = Literal["huggingface", "adapter", "merged"]


def download_checkpoint(transport: Transport, job_id: str, step: int, to: Path, progress: Progress | None) -> Path:
    """The folder below `to` in which the model now is, JOB-stepSTEP. AsymError when there is no such checkpoint.

    Unreachable when the answer breaks off; what had arrived is left there, and the next try writes over it.
    """
    _unpack(transport, job_id, step, to, None, progress)
    return to / f"{job_id}-step{step}"


def export_checkpoint(
    transport: Transport, job_id: str, step: int, to: Path, wanted: Format, progress: Progress | None
) -> Path:
    """The checkpoint in this format, as the folder `to`, which appears once it is whole.

    FileExistsError where something is in it already; AsymError 404 when there is no such checkpoint, 409 when it cannot
    be had in this format; Unreachable when the answer breaks off.
    """
    with appearing(to) as arriving:
        _unpack(transport, job_id, step, arriving, wanted, progress)
    return to


def _unpack(
    transport: Transport, job_id: str, step: int, to: Path, wanted: Format | None, progress: Progress | None
) -> None:
    path = f"/jobs/{job_id}/checkpoints/{step}/download"
    # A base that the API has not merged into before is read through once before the first byte comes.
    patience = SILENCE_SECONDS if wanted is None else 10 * SILENCE_SECONDS
    with transport.stream(
        path, headers={"Accept": "application/x-tar"}, params={"format": wanted}, read_timeout=patience
    ) as response:
        length = response.headers.get("Content-Length")
        chunks = _counted(response.iter_raw(), None if length is None else int(length), progress)
        unpack(chunks, to)


def _counted(chunks: Iterator[bytes], size: int | None, progress: Progress | None) -> Iterator[bytes]:
    come = 0
    for chunk in chunks:
        come += len(chunk)
        if progress is not None:
            progress(come, size)
        yield chunk
