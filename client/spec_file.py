"""Reads a job spec from a file and finds its data references; what a spec may hold is the API's (or trainer's) word."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class SpecFileError(ValueError):
    """The file cannot be read as a spec; the text names it and the place."""


@dataclass(frozen=True)
class DataReference:
    """A place of the spec that names data: `data.train`, `eval.0.data`."""

    where: str
    holder: dict[str, Any]
    key: str

    @property
    def value(self) -> str:
        return str(self.holder[self.key])

    @property
    def columns(self) -> dict[str, str]:
        """Which columns of the file the spec names, `prompt` and `answer`."""
        columns = self.holder.get("columns")
        return {str(k): str(v) for k, v in columns.items() if v is not None} if isinstance(columns, dict) else {}

    def replace(self, value: str) -> None:
        self.holder[self.key] = value

    @property
    def is_id(self) -> bool:
        return self.value.startswith("ds_")


def read_spec(path: Path) -> dict[str, Any]:
    """The spec as plain JSON values. SpecFileError when the file is missing, no YAML or JSON, or not a mapping."""
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecFileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecFileError(f"{path} is not UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise SpecFileError(f"{path} is neither YAML nor JSON: {error}") from error
    if not isinstance(spec, dict):
        raise SpecFileError(f"{path} must hold a mapping with name, model, data, reward, …; it holds {_kind(spec)}")
    for place, value in _leaves(spec, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise SpecFileError(f"{path}: {place} must be a finite number, not {value}")
        if value is not None and not isinstance(value, str | int | float | bool):
            raise SpecFileError(f"{path}: {place} is read as {_kind(value)}; put it in quotes if it is text")
    return spec


def data_references(spec: Mapping[str, Any]) -> list[DataReference]:
    """Every place that names data, training first; places of a wrong shape are left for the validation to name."""
    found = []
    data = spec.get("data")
    if isinstance(data, dict) and isinstance(data.get("train"), str):
        found.append(DataReference("data.train", data, "train"))
    benchmarks = spec.get("eval")
    for index, benchmark in enumerate(benchmarks if isinstance(benchmarks, list) else []):
        if isinstance(benchmark, dict) and isinstance(benchmark.get("data"), str):
            found.append(DataReference(f"eval.{index}.data", benchmark, "data"))
    return found


def file_of(reference: DataReference, spec_path: Path) -> Path:
    """The file a reference names, relative to the spec's own folder. SpecFileError when there is none."""
    path = spec_path.absolute().parent / reference.value
    if not path.is_file():
        raise SpecFileError(f"{reference.where}: {reference.value} is neither a data set id (ds_…) nor a file ({path})")
    return path


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (any YAML value)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{index}")
    else:
        yield place, value


def _kind(value: Any) -> str:  # noqa: ANN401 (any YAML value)
    return {list: "a list", str: "a text", type(None): "nothing"}.get(type(value), f"a {type(value).__name__}")
