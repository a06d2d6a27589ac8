"""A sweep as tables, decided without Streamlit: combinations, members, how far it is, what can be done with it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from client.results import TERMINAL, Combination, Sweep, SweepMember, SweepSummary
from dashboard import run_table, sweep, wording
from dashboard.chart import Grid
from dashboard.comparison import is_fraction
from dashboard.differences import as_text

HALF = 0.5
"""The share of a heatmap's cells that must hold something: drawn numbers meet in few, and a list tells them better."""
ORDER = ("running", "queued", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled")
"""Of statuses, where they are counted."""


def counts(summary: SweepSummary) -> list[tuple[str, int]]:
    """Status -> how many members, those that still do something first."""
    held = summary["statuses"]
    return [(status, held[status]) for status in ORDER if held.get(status)]


def ended(summary: SweepSummary) -> int:
    """How many members have ended, those that were deleted with them."""
    return summary["members"] - sum(count for status, count in summary["statuses"].items() if status not in TERMINAL)


def active(summary: SweepSummary) -> bool:
    return any(status in wording.ACTIVE for status in summary["statuses"])


def actions(summary: SweepSummary) -> list[str]:
    """What may be asked of all members at once, in the order of the buttons."""
    held = set(summary["statuses"])
    found = []
    if held & {"queued", "running"}:
        found.append("pause")
    if held & {"paused", "pausing", "failed", "cancelled"}:
        found.append("resume")
    if held - TERMINAL:
        found.append("cancel")
    return found


def listed(summaries: Sequence[SweepSummary], now: datetime) -> list[dict[str, Any]]:
    """One row a sweep."""
    return [
        {
            "open": label(each),
            "progress": 100 * ended(each) // each["members"] if each["members"] else 0,
            "jobs": each["members"],
            "standing": ", ".join(f"{count} {status}" for status, count in counts(each)),
            "ended": each["ended_because"] or "",
            "created": wording.about_ago(each["created_at"], now),
        }
        for each in summaries
    ]


def label(summary: SweepSummary) -> str:
    """What its button says; no other sweep's says the same."""
    return f"{summary['name']} · {summary['id'][-run_table.TAIL :]}"


def member_label(member: SweepMember) -> str:
    return f"{member['name']} · {(member['job_id'] or '')[-run_table.TAIL :]}" if member["job_id"] else "deleted"


def paths(found: Sweep) -> list[str]:
    """The fields of the spec that the plan gives values to."""
    return list(dict.fromkeys(path for each in found["combinations"] for path in each["point"]))


def scale(metric: str) -> tuple[float, str]:
    """What its values are multiplied with where they are shown, and how they are written."""
    return (100.0, "%.1f %%") if is_fraction(metric) else (1.0, "%.4g")


def combinations(found: Sweep) -> list[dict[str, Any]]:
    """One row a combination, the best first as the API orders them."""
    size, _ = scale(found["metric"])
    return [
        {
            "place": number + 1,
            **_point(each, paths(found)),
            **{name: _scaled(each[name], size) for name in ("best", "best_spread", "last", "last_spread")},
            "measured": f"{each['measured']} of {each['members']}",
        }
        for number, each in enumerate(found["combinations"])
    ]


def members(found: Sweep) -> list[dict[str, Any]]:
    """One row a member, in the plan's order."""
    size, _ = scale(found["metric"])
    return [
        {
            "open": member_label(each),
            "status": [each["status"]] if each["status"] else [],
            **_point(each, paths(found)),
            "seed": each["seed"],
            "progress": 100 * (each["step"] or 0) // each["steps"] if each["steps"] else 0,
            "best": _scaled(each["best"], size),
            "best_step": each["best_step"],
            "last": _scaled(each["last"], size),
        }
        for each in found["jobs"]
    ]


def ended_early(found: Sweep) -> list[dict[str, str]]:
    """Which members the median rule has ended, and by which numbers."""
    return [
        {"run": member_label(each), "why": each["stopped_because"]} for each in found["jobs"] if each["stopped_because"]
    ]


def progress(found: Sweep) -> float:
    """The share of all steps that are done; what was ended early counts as done."""
    steps = sum(each["steps"] or 0 for each in found["jobs"])
    done = sum((each["steps"] if each["stopped_because"] else each["step"]) or 0 for each in found["jobs"])
    return min(1.0, done / steps) if steps else 0.0


def budget(found: Sweep) -> tuple[str, float | None]:
    """The hours used, in words, and the share of the budget; None without one."""
    used = f"{wording.number(found['used_hours'])} hours used"
    limit = (found["plan"].get("budget") or {}).get("hours")
    if not limit:
        return f"{used}, no budget", None
    return f"{used} of {wording.number(limit)}", min(1.0, found["used_hours"] / limit)


def heatmap(found: Sweep) -> Grid | None:
    """Where two parameters were varied: the mean over seeds of the members' best values. None otherwise."""
    held = {path: {as_text(each["point"].get(path)) for each in found["combinations"]} for path in paths(found)}
    varied = [path for path, values in held.items() if len(values) > 1]
    if len(varied) != 2:
        return None
    rows, columns = varied
    if len(found["combinations"]) < HALF * len(held[rows]) * len(held[columns]):
        return None
    whose = "highest" if found["plan"].get("goal") == "max" else "lowest"
    return sweep.grid(
        found["metric"],
        f"{whose} value, mean over the seeds of a cell; ± one sample standard deviation",
        {str(each["number"]): each["point"] for each in found["jobs"]},
        rows,
        columns,
        {str(each["number"]): each["best"] for each in found["jobs"]},
        fraction=is_fraction(found["metric"]),
    )


def _point(each: Combination | SweepMember, fields: Sequence[str]) -> Mapping[str, str]:
    return {path: as_text(each["point"][path]) if path in each["point"] else wording.NOTHING for path in fields}


def _scaled(value: float | None, size: float) -> float | None:
    return None if value is None else size * value
