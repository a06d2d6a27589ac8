"""What a step's groups are like: how many were solved, how many teach anything, how long their responses are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dashboard import colors
from dashboard.chart import Chart, Heatmap, Line
from dashboard.curves import Columns, in_stretches, line, present, values
from dashboard.panels.section import Section, Spec, Subject, lines

_KEYS = [
    *("reward/mean", "reward/std", "reward/bonus_mean"),
    *(f"group/{name}" for name in ("none_solved", "mixed", "all_solved", "histogram", "effective")),
    *(f"rollout/{name}" for name in ("length_mean", "length_max", "truncated_fraction", "discarded_rollouts")),
]


def _charts(columns: Columns, subject: Subject) -> dict[str, Chart]:
    limit = subject.spec.get("rollout", {}).get("max_new_tokens")
    return {
        "histogram": _histogram(columns, subject.spec),
        "shares": shares(columns),
        "effective": _effective(columns, subject.spec),
        "length": Chart(
            "Response length",
            f"tokens; cut at {limit}" if limit else "tokens",
            present(
                [
                    line(columns, "rollout/length_mean", "mean", colors.BLUE),
                    line(columns, "rollout/length_max", "longest", colors.GRAY, dash=[5, 4]),
                ]
            ),
            y_min=0.0,
        ),
        "truncated": Chart(
            "Truncated responses",
            "share of rollouts without an end",
            lines(columns, ("rollout/truncated_fraction", "truncated", colors.VERMILION)),
            unit="%",
            y_min=0.0,
        ),
        "reward": Chart(
            "Reward",
            "of the step's rollouts; without spread there is nothing to learn",
            lines(
                columns,
                ("reward/mean", "mean", colors.BLUE),
                ("reward/std", "standard deviation", colors.ORANGE),
                ("reward/bonus_mean", "mean bonus", colors.PURPLE),
            ),
        ),
    }


def shares(columns: Columns) -> Chart:
    drawn = lines(
        columns,
        ("group/none_solved", "none solved", colors.SPURIOUS),
        ("group/mixed", "mixed (gives a gradient)", colors.INFORMATIVE),
        ("group/all_solved", "all solved", colors.GREEN),
    )
    return Chart(
        "Groups",
        "share of the step's prompts",
        whole(in_stretches(drawn)),
        kind="stack",
        unit="%",
        y_min=0.0,
        y_max=1.0,
    )


def whole(parts: Sequence[Line]) -> list[Line]:
    """Parts of one whole, which means of thinned curves add up to only about, scaled to it."""
    totals = [sum(value or 0.0 for value in at) for at in zip(*(part.y for part in parts), strict=True)]
    return [
        replace(
            part, y=[value / total if value and total else value for value, total in zip(part.y, totals, strict=True)]
        )
        for part in parts
    ]


def _histogram(columns: Columns, spec: Spec) -> Chart:
    steps, counts = values(columns, "group/histogram")
    found: list[tuple[int, Any]] = list(zip(steps, counts, strict=True))
    pairs = [(step, count) for step, count in found if isinstance(count, list)]
    group_size = spec.get("rollout", {}).get("group_size", "?")
    return Chart(
        "Correct rollouts per group",
        f"of {group_size}",
        kind="heatmap",
        heatmap=Heatmap([step for step, _ in pairs], [count for _, count in pairs]),
        keys=["group/histogram"],
    )


def _effective(columns: Columns, spec: Spec) -> Chart:
    """Groups that are learnt from, as a number: what is left of the batch that was asked for."""
    asked = (spec.get("optim") or {}).get("prompts_per_step")
    share = line(columns, "group/effective", "groups learnt from", colors.INFORMATIVE)
    drawn = [share]
    if asked:
        found = [None if value is None else value * asked for value in share.y]
        drawn = [
            replace(share, y=found),
            Line("asked for", colors.GRAY, share.x, [asked] * len(share.x), dash=[5, 4]),
        ]
        group_size = int(spec.get("rollout", {}).get("group_size", 1))
        thrown = line(columns, "rollout/discarded_rollouts", "discarded by dynamic sampling", colors.ORANGE)
        if any(thrown.y):
            groups = [None if value is None else value / group_size for value in thrown.y]
            drawn.append(replace(thrown, y=groups))
    return Chart(
        "Effective batch",
        "groups of a step with any advantage other than 0",
        present(drawn) if present([share]) else [],
        unit="" if asked else "%",
        y_min=0.0,
    )


def _keys(spec: Spec) -> list[str]:
    del spec
    return list(_KEYS)


SECTION = Section(_keys, _charts)
