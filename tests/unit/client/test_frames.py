"""Frames: what is missing, what stays whole, in which order; and what is said where pandas is not."""

from typing import Any

import pandas as pd
import pytest

from client import Asym
from client.extras import MissingExtras
from client.frames import comparison_frame, metrics_frame, sweep_frame
from tests.unit.client.conftest import Server

METRICS: Any = {
    "keys": {
        "entropy/spurious": {"step": [1, 2], "value": [None, 0.5]},
        "group/accuracy": {"step": [1, 2, 3], "value": [0.25, None, 1]},
        "group/histogram": {"step": [1], "value": [[1, 2]]},
        "tokens": {"step": [1, 3], "value": [10, 2**53 + 1]},
        "eval/never": {"step": [2], "value": [None]},
    }
}


def test_undefined_is_nan_and_whole_numbers_stay_whole() -> None:
    frame = metrics_frame(METRICS)
    assert (frame.index.name, list(frame.index)) == ("step", [1, 2, 3])
    assert dict(frame.dtypes.astype(str)) == {
        "entropy/spurious": "float64",
        "eval/never": "float64",
        "group/accuracy": "float64",
        "group/histogram": "object",
        "tokens": "Int64",
    }
    assert frame["tokens"].tolist() == [10, pd.NA, 2**53 + 1]  # which a float cannot hold
    assert frame["group/accuracy"].isna().tolist() == [False, True, False]
    assert frame["entropy/spurious"].isna().tolist() == [True, False, True]
    assert frame["eval/never"].isna().all()
    assert frame.loc[1, "group/histogram"] == [1, 2]


def test_columns_come_as_they_were_asked_for() -> None:
    frame = metrics_frame(METRICS, ["tokens", "not/measured", "entropy/*", "tokens"])
    assert list(frame.columns)[:2] == ["tokens", "not/measured"]
    assert frame["not/measured"].isna().all()
    assert "entropy/spurious" in frame.columns


def test_nothing_measured_is_an_empty_frame() -> None:
    frame = metrics_frame({"keys": {}}, ["group/accuracy"])
    assert (len(frame), list(frame.columns), frame.index.name) == (0, ["group/accuracy"], "step")
    frame = comparison_frame({"jobs": {"job_1": {"name": "a", "status": "queued", "keys": {}}}}, ["group/accuracy"])
    assert (len(frame), list(frame.columns), list(frame.index.names)) == (0, ["group/accuracy"], ["job", "step"])


def test_compared_jobs_lie_under_one_another() -> None:
    frame = comparison_frame(
        {
            "jobs": {
                "job_2": {"name": "a", "status": "succeeded", "keys": {"n": {"step": [1, 2], "value": [1, 2]}}},
                "job_1": {
                    "name": "b",
                    "status": "running",
                    "keys": {"n": {"step": [1], "value": [3]}, "x": {"step": [0], "value": [0.5]}},
                },
            }
        },
        ["x", "n"],
    )
    assert list(frame.index) == [("job_2", 1), ("job_2", 2), ("job_1", 0), ("job_1", 1)]
    assert list(frame.columns) == ["x", "n"]
    assert dict(frame.dtypes.astype(str)) == {"x": "float64", "n": "Int64"}
    assert frame.loc["job_2", "n"].tolist() == [1, 2]
    assert frame["n"].unstack("job").loc[1].to_dict() == {"job_1": 3, "job_2": 1}


def test_a_sweep_has_a_row_for_each_job() -> None:
    member = {"status": "succeeded", "step": 3, "steps": 3, "stopped_because": None, "best_step": 2}
    one = {"number": 0, "job_id": "job_1", "name": "a", "point": {"optim.lr": 0.1}, "last": 0.5, "best": 0.6}
    gone = {"number": 1, "job_id": None, "name": None, "point": {"optim.lr": 1e-3}, "last": None, "best": None}
    jobs = [{**member, **one, "seed": 1}, {**member, **gone, "seed": 2}]
    frame = sweep_frame({"jobs": jobs})  # type: ignore[typeddict-item]
    assert frame.index.name == "number"
    assert list(frame.columns) == ["optim.lr", "seed", "job", "name", "status", "step", "last", "best", "best_step"]
    assert frame["seed"].dtype == "Int64"
    assert frame["last"].isna().tolist() == [False, True]
    assert frame.sort_values("best", ascending=False)["job"].iloc[0] == "job_1"


def test_without_pandas_it_is_said_what_to_install(server: Server, asym: Asym, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.extras.find_spec", lambda name: None if name == "pandas" else object())
    server.answer(200, {"id": "job_1", "name": "x", "status": "running"})
    server.answer(200, METRICS)
    job = asym.get("job_1")
    with pytest.raises(MissingExtras, match=r"pip install 'asym-core\[pandas\]'"):
        job.metrics()
