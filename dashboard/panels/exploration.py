"""The two entropies, what pulls on them, and the way they take together."""

import statistics
from collections.abc import Sequence

from dashboard import colors
from dashboard.chart import Chart, Line, Plane, Value
from dashboard.curves import Columns, in_stretches, line, present
from dashboard.panels.section import Section, Spec, Subject, lines
from dashboard.wording import number

CHANNELS = (("informative", "correct", colors.INFORMATIVE), ("spurious", "incorrect", colors.SPURIOUS))
BUCKETS = (
    ("0", "none correct"),
    ("0_25", "up to 25 %"),
    ("25_50", "25 to 50 %"),
    ("50_75", "50 to 75 %"),
    ("75_100", "over 75 %"),
    ("100", "all correct"),
)
"""Groups by the share of their rollouts that is correct, hardest first."""
PATH_WINDOW = 20
"""The path of the plane is a moving mean over one in so many of the points: single steps jump about."""

ENTROPY_KEYS = [
    *(f"entropy/{name}" for name in ("policy", "informative", "spurious")),
    *(f"entropy/{channel}_tokens" for channel, *_ in CHANNELS),
]


def _keys(spec: Spec) -> list[str]:
    del spec
    of_channels = [f"entropy/{kind}_{channel}" for kind in ("drive", "realised") for channel, *_ in CHANNELS]
    return [*ENTROPY_KEYS, *of_channels, *(f"entropy/bucket/{bucket}" for bucket, _ in BUCKETS)]


def _charts(columns: Columns, subject: Subject) -> dict[str, Chart]:
    return {
        "entropy": entropy(columns),
        "plane": plane(columns, subject.spec),
        "drive": Chart(
            "Drive on the entropy", "first-order pull of each channel; below 0 lowers it", _channels(columns, "drive")
        ),
        "realised": Chart(
            "Realised entropy change",
            "nats, same tokens before and after the update",
            _channels(columns, "realised", points=True),
            empty="Measured every diagnostics.every steps; none yet",
        ),
        "tokens": _tokens(columns),
        "buckets": _buckets(columns),
    }


def entropy(columns: Columns) -> Chart:
    def tokens(count: float) -> str:
        return f"{number(count)} tokens"

    drawn = [
        line(columns, f"entropy/{channel}", f"{channel} ({kind})", color, note=(f"entropy/{channel}_tokens", tokens))
        for channel, kind, color in CHANNELS
    ]
    drawn.append(line(columns, "entropy/policy", "all tokens", colors.POLICY, dash=[5, 4]))
    return Chart(
        "Entropy by channel",
        "nats per token; a gap: no such rollouts in that step",
        present(drawn),
        y_min=0.0,
    )


def plane(columns: Columns, spec: Spec) -> Chart:
    """The run's way through (informative, spurious). Steps where one of them is undefined are left out."""
    parts = [line(columns, f"entropy/{channel}", channel, color) for channel, _, color in CHANNELS]
    informative, other = in_stretches(parts) if all(part.x for part in parts) else parts
    both = [
        (int(step), float(x), float(y))
        for step, x, y in zip(informative.x, informative.y, other.y, strict=False)
        if x is not None and y is not None
    ]
    x, y = [point[1] for point in both], [point[2] for point in both]
    thinned = informative.x != parts[0].x
    return Chart(
        "Phase plane",
        f"{'means over stretches of steps' if thinned else 'one point a step'}{betas(spec)}",
        kind="plane",
        x_label="informative, nats per token",
        plane=Plane(
            [step for step, *_ in both],
            x,
            y,
            path_x=moving_mean(x, len(x) // PATH_WINDOW),
            path_y=moving_mean(y, len(y) // PATH_WINDOW),
            y_label="spurious, nats per token",
        ),
        empty="Needs a step with both correct and incorrect rollouts",
        keys=[*informative.keys, *other.keys],
    )


def betas(spec: Spec) -> str:
    """` · beta_pos 0.9, beta_neg 0.4`; empty where the algorithm has none."""
    algorithm = spec.get("algorithm") or {}
    told = [f"{name} {number(algorithm[name])}" for name in ("beta_pos", "beta_neg") if algorithm.get(name) is not None]
    return f" · {', '.join(told)}" if told else ""


def moving_mean(series: Sequence[float], reach: int) -> list[Value]:
    """Each value's mean with up to `reach` neighbours on either side; at the ends with those that there are."""
    return [statistics.fmean(series[max(0, at - reach) : at + reach + 1]) for at in range(len(series))]


def _channels(columns: Columns, kind: str, *, points: bool = False) -> list[Line]:
    return lines(
        columns, *((f"entropy/{kind}_{channel}", channel, color) for channel, _, color in CHANNELS), points=points
    )


def _tokens(columns: Columns) -> Chart:
    drawn = [line(columns, f"entropy/{channel}_tokens", f"{kind} rollouts", color) for channel, kind, color in CHANNELS]
    return Chart(
        "Tokens behind each entropy",
        "a mean over few tokens jumps by itself",
        in_stretches(present(drawn)),
        kind="stack",
        y_min=0.0,
    )


def _buckets(columns: Columns) -> Chart:
    drawn = [
        line(columns, f"entropy/bucket/{bucket}", label, colors.shade(len(BUCKETS) - 1 - index))
        for index, (bucket, label) in enumerate(BUCKETS)
    ]
    return Chart("Entropy by difficulty", "nats per token, groups by their share of correct rollouts", present(drawn))


SECTION = Section(_keys, _charts)
