"""How values are put into words: durations, times, progress, queue reasons; and text of strangers made inert.

Pure functions, no Streamlit. The browser's side of number formatting is chart/chart.js.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

NOTHING = "–"
ACTIVE = frozenset({"queued", "running", "pausing", "cancelling"})
"""Statuses of a job that may change without anyone asking for it."""

# CommonMark lets every ASCII punctuation mark be escaped, and Streamlit's directives (:red[...], $...$) start with one.
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


# Addresses become links after everything else, from the text as it is then: only another character in them helps.
_ADDRESS = re.compile(r"(https?(?=://)|ftp(?=://)|www(?=\.)|(?<=\S)(?=@\S))", re.IGNORECASE)
_JOINER = "\u2060"
"""Has no width and breaks no line."""


def inert(text: str) -> str:
    """Text from a user or a model, for a place that reads Markdown: shown as it is, on one line, addresses no links."""
    return _PUNCTUATION.sub(r"\\\1", _ADDRESS.sub(rf"\1{_JOINER}", " ".join(text.split())))


def inert_badge(text: str) -> str:
    """The same for the label of `st.badge`, which escapes brackets itself."""
    return inert(text).replace("\\[", "[").replace("\\]", "]")


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{round(whole / 60)} min"
    if whole < 86400:
        hours, rest = divmod(whole, 3600)
        return f"{hours} h {rest // 60:02d} min"
    days, rest = divmod(whole, 86400)
    return f"{days} d {rest // 3600} h"


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time of the API, with its zone."""
    return datetime.fromisoformat(text) if text else None


def ago(text: str | None, now: datetime) -> str:
    then = moment(text)
    if then is None:
        return NOTHING
    return "just now" if now - then < timedelta(seconds=5) else f"{duration((now - then).total_seconds())} ago"


def about_ago(text: str | None, now: datetime) -> str:
    """`4 min ago`, `3 h ago`, `5 d ago`: one unit, for a narrow column."""
    then = moment(text)
    if then is None:
        return NOTHING
    seconds = max(0.0, (now - then).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def clock(text: str | None, zone: tzinfo = UTC) -> str:
    """`14:03:59` in the reader's zone, with the date when it is not today's."""
    then = moment(text)
    if then is None:
        return NOTHING
    local = then.astimezone(zone)
    today = datetime.now(zone).date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def number(value: float | None) -> str:
    """Four significant digits, readable at any size."""
    if value is None:
        return NOTHING
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2e}"
    if abs(value) >= 1e4:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:.3g}{letter}"
    return f"{value:.4g}"


def signed(value: float | None) -> str:
    """`+0.56`, `−1.25`, `0`."""
    if value is None or value == 0:
        return number(value)
    return ("+" if value > 0 else "−") + number(abs(value))


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def size(count: int | None) -> str:
    """Bytes, in units of 1024."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def waiting(job: Mapping[str, Any]) -> str:
    """Why a queued job waits and for how long; empty when it does not."""
    queue = job.get("queue") or {}
    parts = []
    if queue.get("position") is not None:
        parts.append(f"position {queue['position']}")
    if queue.get("wait_reason"):
        parts.append(str(queue["wait_reason"]))
    if queue.get("eta_seconds"):
        parts.append(f"starts in about {duration(queue['eta_seconds'])}")
    return ", ".join(parts)


def gpus(devices: Sequence[Mapping[str, Any]]) -> str:
    """`2 × NVIDIA H100 80GB HBM3, 86 GB`; what a worker could not read is left out."""
    kinds = Counter(
        ", ".join(part for part in (each["name"], each["memory_gb"] and f"{each['memory_gb']} GB") if part)
        for each in devices
    )
    return "; ".join(f"{count} × {kind}" for kind, count in kinds.items() if kind) or NOTHING


def running_on(worker: Mapping[str, Any]) -> str:
    """What of the team's runs on a worker, and for whom it is kept."""
    parts = [job["name"] for job in worker["jobs"]]
    if worker["kept_for"]:
        parts.append(f"GPUs kept free for a job of {worker['kept_for']}")
    return ", ".join(parts) or NOTHING


def remaining(job: Mapping[str, Any]) -> float | None:
    """Seconds a running job still needs, as the API says or from its pace; None when unknown or not running."""
    if job["status"] not in ("running", "pausing"):
        return None
    progress = job["progress"]
    told = progress.get("eta_seconds")
    if isinstance(told, int | float):
        return float(told)
    pace = progress.get("seconds_per_step")
    return (progress["steps"] - progress["step"]) * float(pace) if pace else None


def progress_line(job: Mapping[str, Any], now: datetime) -> str:
    """`step 37 of 100 · 0.42 s a step · 26 s left · attempt 2`."""
    progress = job["progress"]
    parts = [f"step {progress['step']} of {progress['steps']}"]
    pace = progress.get("seconds_per_step")
    if pace and job["status"] in ACTIVE and job["status"] != "queued":
        parts.append(f"{number(pace)} s a step")
    left = remaining(job)
    if left is not None:
        parts.append(f"about {duration(left)} left")
    if job["status"] == "queued":
        parts.append(waiting(job) or "waiting for a worker")
    started, finished = moment(job.get("started_at")), moment(job.get("finished_at"))
    if started is not None and finished is not None:
        parts.append(f"took {duration((finished - started).total_seconds())}")
    elif started is not None and job["status"] in ACTIVE:
        parts.append(f"started {ago(job['started_at'], now)}")
    told = attempt(job)
    if told:
        parts.append(told)
    return " · ".join(parts)


def attempt(job: Mapping[str, Any]) -> str:
    """`attempt 2 of 3`; empty before there is one. A pause ends an attempt, too, but only lost ones are limited."""
    number, most = job.get("attempt", 0), job.get("max_attempts")
    if not number:
        return ""
    return f"attempt {number} of {most}" if most and number <= most else f"attempt {number}"


def origin(job: Mapping[str, Any], now: datetime) -> list[str]:
    """Who submitted the run, when, from what, and what it used; strangers' text as it is."""
    parts = [f"submitted by {job['owner']} {ago(job['created_at'], now)}", job["model"], job["preset"]]
    if job.get("cloned_from"):
        parts.append(f"cloned from {job['cloned_from']}")
    if job.get("retry_of"):
        parts.append(f"goes on for {job['retry_of']}")
    if job["gpu_seconds"] > 0:
        parts.append(f"{job['gpu_seconds'] / 3600:.2f} GPU-hours")
    elif job["used_seconds"] > 0:
        parts.append(f"{duration(job['used_seconds'])} on a CPU")
    return [part for part in parts if part]
