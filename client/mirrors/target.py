"""Which tracker a mirror tells, as one writes it: `tensorboard:DIR`, `mlflow:URI`, `wandb:PROJECT` and the like."""

import os
from importlib.util import find_spec
from pathlib import Path

from client.mirrors.tracker import Tracker

KINDS = {
    "tensorboard": ("tensorboard", "tensorboard:DIR"),
    "mlflow": ("mlflow", "mlflow:URI[#EXPERIMENT]"),
    "wandb": ("wandb", "wandb:[ENTITY/]PROJECT"),
    "trackio": ("trackio", "trackio:PROJECT"),
}


class TargetError(Exception):
    """No such tracker, or its library is not installed; the text says what to write or to type."""


def open_tracker(target: str, home: Path) -> Tracker:
    """home: where trackers that keep something on this machine beside what the target names put it.

    TargetError; a tracker that does not answer is noticed later, when a run is opened.
    """
    kind, _, rest = target.partition(":")
    if kind not in KINDS or not rest:
        raise TargetError(f"{target!r} names no tracker; one of: {', '.join(shape for _, shape in KINDS.values())}")
    package, _ = KINDS[kind]
    if find_spec(package) is None:
        raise TargetError(f"not installed here: {package}\ninstall with: pip install 'asym-core[{kind}]'")
    # Imported here: each needs a library that only those have who use it.
    match kind:
        case "tensorboard":
            from client.mirrors.tensorboard import TensorBoard

            return TensorBoard(Path(rest).expanduser())
        case "mlflow":
            from client.mirrors.mlflow import Mlflow

            uri, _, experiment = rest.partition("#")
            return Mlflow(uri, experiment or "asym")
        case "wandb":
            from client.mirrors.wandb import Wandb

            entity, _, project = rest.rpartition("/")
            return Wandb(project, entity or None, os.environ.get("WANDB_DIR", home / "wandb"))
        case _:
            from client.mirrors.trackio import Trackio

            return Trackio(rest)
