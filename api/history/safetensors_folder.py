"""Weights of a model folder read as float32 arrays, a tensor at a time, by the safetensors format alone: no torch.

A file is the header's length (8 bytes, little-endian), the header (JSON: name -> dtype, shape, place), the tensors.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MOST_HEADER_BYTES = 100 * 2**20
"""What the format itself allows."""
_READERS: Mapping[str, Callable[[bytes], Floats]] = {
    "F32": lambda raw: np.frombuffer(raw, "<f4"),
    "F16": lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
    # The upper half of a float32.
    "BF16": lambda raw: (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32),
}


class UnreadableWeightsError(Exception):
    """A folder without weights that can be read here."""


@dataclass(frozen=True)
class _Tensor:
    file: BinaryIO
    dtype: str
    shape: tuple[int, ...]
    start: int
    bytes: int


class SafetensorsFolder:
    """All tensors of the *.safetensors files of a folder. The files are opened at once and stay open: what is deleted
    meanwhile is read all the same."""

    def __init__(self, files: list[BinaryIO]) -> None:
        self._tensors: dict[str, _Tensor] = {}
        for file in files:
            self._tensors |= _tensors(file)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """In the order of their names."""
        return {name: self._tensors[name].shape for name in sorted(self._tensors)}

    def read(self, name: str) -> Floats:
        """One tensor. OSError when the file ends early."""
        tensor = self._tensors[name]
        tensor.file.seek(tensor.start)
        raw = tensor.file.read(tensor.bytes)
        if len(raw) != tensor.bytes:
            raise OSError(f"{tensor.file.name} ends early")
        return _READERS[tensor.dtype](raw).reshape(tensor.shape)


def float32_header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """What a file begins with that holds these tensors in float32, in their order."""
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        end = place + float32_bytes(shape)
        described[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def float32_bytes(shape: tuple[int, ...]) -> int:
    return 4 * int(np.prod(shape, dtype=np.int64))


def weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.safetensors") if path.is_file())


def _tensors(file: BinaryIO) -> dict[str, _Tensor]:
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MOST_HEADER_BYTES:
            raise ValueError("its header is too long")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        found = {}
        for name, each in header.items():
            start, end = each["data_offsets"]
            shape = tuple(int(size) for size in each["shape"])
            if each["dtype"] not in _READERS:
                raise ValueError(f"{name} is {each['dtype']}, which cannot be merged")
            found[str(name)] = _Tensor(file, each["dtype"], shape, 8 + length + start, end - start)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise UnreadableWeightsError(f"{Path(file.name).name}: {error}") from error
    return found
