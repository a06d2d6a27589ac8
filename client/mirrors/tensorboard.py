"""TensorBoard: an event file per run in a folder, written without TensorFlow or torch."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from client.mirrors.tracker import Point, TrackedRun
from client.results import Job


class TensorBoard:
    """Runs as folders of `logdir`, for `tensorboard --logdir`."""

    keeps = True

    def __init__(self, logdir: Path) -> None:
        self._logdir = logdir

    def open(self, job: Job, run: str) -> TrackedRun:
        folder = self._logdir / run
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        writer = EventFileWriter(str(folder))
        if is_new:
            writer.add_event(_text("spec", f"```\n{yaml.safe_dump(dict(job['spec']), sort_keys=False)}```"))
        return _Folder(writer)

    def discard(self, run: str) -> None:
        shutil.rmtree(self._logdir / run, ignore_errors=True)


class _Folder:
    def __init__(self, writer: EventFileWriter) -> None:
        self._writer = writer

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            values = [Summary.Value(tag=key, simple_value=value) for key, value in point.values.items()]
            self._writer.add_event(Event(wall_time=point.at, step=point.step, summary=Summary(value=values)))
        self._writer.flush()

    def close(self, status: str | None) -> None:
        if status is not None:
            self._writer.add_event(_text("status", status))
        self._writer.close()


def _text(tag: str, text: str) -> Event:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    value = Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)
    return Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))
