"""Which charts explain a run, and which metric keys each of them needs.

Every section is a function from columns and the run's spec to charts, so that a test can read what would be drawn.
The keys are those of the trainer; their meaning is told in the subtitles, not here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboard import colors
from dashboard.chart import Chart, Heatmap, Line
from dashboard.curves import Columns, line, on_common_steps, present, values
from dashboard.wording import number

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A page's worth of charts. `keys`: what to ask the API for; `charts`: what to draw of the answer."""

    keys: Callable[[Spec], list[str]]
    charts: Callable[[Columns, Spec], dict[str, Chart]]
    """Chart name (stable: it is the chart's key on the page) -> chart, in reading order."""


def benchmarks(spec: Spec) -> list[tuple[str, list[int]]]:
    """(name, its k's in rising order) of each benchmark of the run."""
    return [(part["name"], sorted(part["k"])) for part in spec.get("eval") or []]


def train_ks(spec: Spec) -> list[int]:
    """The k's of pass@k over a step's own groups: powers of two up to the group size, and the group size."""
    group_size = int(spec.get("rollout", {}).get("group_size", 1))
    powers = [2**power for power in range(group_size.bit_length()) if 2**power <= group_size]
    return sorted({*powers, group_size})


# ---- learning ----


def _learning_keys(spec: Spec) -> list[str]:
    keys = ["group/accuracy", "group/none_solved", "group/mixed", "group/all_solved", "group/histogram", "reward/mean"]
    keys += [f"entropy/{name}" for name in ("policy", "informative", "spurious")]
    keys += [f"entropy/{channel}_tokens" for channel in ("informative", "spurious")]
    keys += [f"entropy/{kind}_{channel}" for kind in ("drive", "realised") for channel in ("informative", "spurious")]
    keys += [f"pass_at_k/train/{k}" for k in train_ks(spec)]
    for name, ks in benchmarks(spec):
        for k in ks:
            base = f"eval/{name}/pass_at_k/{k}"
            keys += [base, f"{base}/low", f"{base}/high"]
    return keys


def _learning(columns: Columns, spec: Spec) -> dict[str, Chart]:
    return {
        "accuracy": accuracy(columns, spec),
        "entropy": entropy(columns),
        "shares": _shares(columns),
        "histogram": _histogram(columns, spec),
        **_coverage(columns, spec),
        "drive": _drive(columns),
        "realised": _realised(columns),
    }


def accuracy(columns: Columns, spec: Spec) -> Chart:
    lines = [line(columns, "group/accuracy", "training prompts", colors.INFORMATIVE)]
    # A reward that is not 0 or 1 has a mean of its own.
    if values(columns, "reward/mean") != values(columns, "group/accuracy"):
        lines.append(line(columns, "reward/mean", "mean reward", colors.GRAY, dash=[5, 4]))
    for index, (name, ks) in enumerate(benchmarks(spec)):
        key = f"eval/{name}/pass_at_k/{ks[0]}"
        color = colors.benchmark(index)
        lines.append(line(columns, key, f"{name} pass@{ks[0]}", color, points=True, interval=True))
    return Chart(
        "Accuracy",
        "share of correct rollouts; bands are 95 % intervals over problems",
        present(lines),
        unit="%",
        y_min=0.0,
    )


def entropy(columns: Columns) -> Chart:
    def tokens(count: float) -> str:
        return f"{number(count)} tokens"

    lines = [
        line(
            columns,
            "entropy/informative",
            "informative (correct)",
            colors.INFORMATIVE,
            note=("entropy/informative_tokens", tokens),
        ),
        line(
            columns,
            "entropy/spurious",
            "spurious (incorrect)",
            colors.SPURIOUS,
            note=("entropy/spurious_tokens", tokens),
        ),
        line(columns, "entropy/policy", "all tokens", colors.POLICY, dash=[5, 4]),
    ]
    return Chart(
        "Entropy by channel",
        "nats per token; a gap: no such rollouts in that step",
        present(lines),
        y_min=0.0,
    )


def _shares(columns: Columns) -> Chart:
    lines = [
        line(columns, "group/none_solved", "none solved", colors.SPURIOUS),
        line(columns, "group/mixed", "mixed (gives a gradient)", colors.INFORMATIVE),
        line(columns, "group/all_solved", "all solved", colors.GREEN),
    ]
    return Chart(
        "Groups",
        "share of the step's prompts",
        on_common_steps(present(lines)),
        kind="stack",
        unit="%",
        y_min=0.0,
        y_max=1.0,
    )


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
    )


def _coverage(columns: Columns, spec: Spec) -> dict[str, Chart]:
    """pass@k over steps for each benchmark (without one: for the training prompts), and its two ends over k."""
    charts: dict[str, Chart] = {}
    sources = [(name, ks, f"eval/{name}/pass_at_k") for name, ks in benchmarks(spec)]
    if not sources:
        sources = [("training prompts", train_ks(spec), "pass_at_k/train")]
    for name, ks, prefix in sources:
        measured = prefix.startswith("eval/")
        lines = [
            line(columns, f"{prefix}/{k}", f"k = {k}", colors.shade(index), points=measured)
            for index, k in enumerate(ks)
        ]
        charts[f"coverage-{name}"] = Chart(
            f"pass@k, {name}", "chance that one of k is correct", present(lines), unit="%", y_min=0.0
        )
        if len(ks) > 1:
            charts[f"curve-{name}"] = _curve(columns, name, ks, prefix)
    return charts


def _curve(columns: Columns, name: str, ks: Sequence[int], prefix: str) -> Chart:
    """Coverage over k at the first and at the newest measured step: a gain at small k may be a loss at large k."""
    steps, _ = values(columns, f"{prefix}/{ks[0]}")
    ends = list(dict.fromkeys([steps[0], steps[-1]])) if steps else []
    lines = []
    for step, color in zip(ends, (colors.GRAY, colors.benchmark(0)), strict=False):
        found = {k: dict(zip(*values(columns, f"{prefix}/{k}"), strict=True)).get(step) for k in ks}
        low = {k: dict(zip(*values(columns, f"{prefix}/{k}/low"), strict=True)).get(step) for k in ks}
        high = {k: dict(zip(*values(columns, f"{prefix}/{k}/high"), strict=True)).get(step) for k in ks}
        banded = all(low[k] is not None and high[k] is not None for k in ks)
        lines.append(
            Line(
                f"step {step}",
                color,
                list(ks),
                [found[k] for k in ks],
                points=True,
                low=[low[k] for k in ks] if banded else None,
                high=[high[k] for k in ks] if banded else None,
            )
        )
    return Chart(f"Coverage, {name}", "pass@k over k, before and now", present(lines), unit="%", x_label="k", y_min=0.0)


def _channels(columns: Columns, kind: str, *, points: bool = False) -> list[Line]:
    return present(
        [
            line(columns, f"entropy/{kind}_informative", "informative", colors.INFORMATIVE, points=points),
            line(columns, f"entropy/{kind}_spurious", "spurious", colors.SPURIOUS, points=points),
        ]
    )


def _drive(columns: Columns) -> Chart:
    return Chart(
        "Drive on the entropy", "first-order pull of each channel; below 0 lowers it", _channels(columns, "drive")
    )


def _realised(columns: Columns) -> Chart:
    return Chart(
        "Realised entropy change",
        "nats, same tokens before and after the update",
        _channels(columns, "realised", points=True),
        empty="Measured every diagnostics.every steps; none yet",
    )


# ---- optimisation ----

_OPTIMISATION_KEYS = [
    *(f"policy/{name}" for name in ("loss", "grad_norm", "lr", "clip_fraction_low", "clip_fraction_high")),
    *(f"policy/{name}" for name in ("kl_old", "kl_ref", "ratio_max")),
    *(f"logprob/gain_{kind}" for kind in ("correct", "incorrect")),
    *(f"rollout/logprob_diff_{kind}" for kind in ("mean", "max")),
]


def _optimisation(columns: Columns, spec: Spec) -> dict[str, Chart]:
    del spec

    def lines(*parts: tuple[str, str, colors.Color], points: bool = False) -> list[Line]:
        return present([line(columns, key, label, color, points=points) for key, label, color in parts])

    return {
        "loss": Chart(
            "Policy loss",
            "clipped surrogate; its level says little, its jumps do",
            lines(("policy/loss", "loss", colors.BLUE)),
        ),
        "grad_norm": Chart(
            "Gradient norm", "before clipping", lines(("policy/grad_norm", "grad norm", colors.BLUE)), y_min=0.0
        ),
        "clip": Chart(
            "Clipped tokens",
            "share of response tokens",
            lines(
                ("policy/clip_fraction_high", "at 1 + clip_high (advantage above 0)", colors.BLUE),
                ("policy/clip_fraction_low", "at 1 − clip_low (advantage below 0)", colors.VERMILION),
            ),
            unit="%",
            y_min=0.0,
        ),
        "kl": Chart(
            "KL divergence",
            "nats per token",
            lines(
                ("policy/kl_old", "to the sampling policy", colors.BLUE),
                ("policy/kl_ref", "to the reference", colors.VERMILION),
            ),
            y_min=0.0,
        ),
        "gain": Chart(
            "Log-prob gain",
            "nats per token, same tokens before and after the update",
            lines(
                ("logprob/gain_correct", "correct", colors.INFORMATIVE),
                ("logprob/gain_incorrect", "incorrect", colors.SPURIOUS),
                points=True,
            ),
            empty="Measured every diagnostics.every steps; none yet",
        ),
        "ratio": Chart(
            "Largest probability ratio",
            "new policy over sampling policy",
            lines(("policy/ratio_max", "ratio max", colors.BLUE)),
        ),
        "lr": Chart("Learning rate", "", lines(("policy/lr", "lr", colors.BLUE)), y_min=0.0),
        "engine": Chart(
            "Engine mismatch",
            "nats per token between the engine's and the trainer's log-probs",
            lines(
                ("rollout/logprob_diff_mean", "mean", colors.BLUE),
                ("rollout/logprob_diff_max", "max", colors.VERMILION),
            ),
            y_min=0.0,
        ),
    }


# ---- throughput ----

_THROUGHPUT_KEYS = [
    *(f"perf/{name}_seconds" for name in ("step", "rollout", "reward", "update")),
    *("perf/tokens_per_second", "perf/peak_memory_bytes", "perf/engine_memory_bytes"),
    *(f"rollout/{name}" for name in ("length_mean", "length_max", "truncated_fraction")),
]


def _throughput(columns: Columns, spec: Spec) -> dict[str, Chart]:
    limit = spec.get("rollout", {}).get("max_new_tokens")
    return {
        "tokens": Chart(
            "Throughput",
            "response tokens per second",
            present([line(columns, "perf/tokens_per_second", "tokens/s", colors.BLUE)]),
            y_min=0.0,
        ),
        "phases": Chart("Time of a step", "seconds by phase", _phases(columns), kind="stack", y_min=0.0),
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
            present([line(columns, "rollout/truncated_fraction", "truncated", colors.VERMILION)]),
            unit="%",
            y_min=0.0,
        ),
        "memory": Chart(
            "Peak memory",
            "bytes",
            present(
                [
                    line(columns, "perf/peak_memory_bytes", "trainer", colors.BLUE),
                    line(columns, "perf/engine_memory_bytes", "engine's own process", colors.ORANGE),
                ]
            ),
            y_min=0.0,
        ),
    }


def _phases(columns: Columns) -> list[Line]:
    phases = [
        line(columns, "perf/rollout_seconds", "rollout", colors.BLUE),
        line(columns, "perf/reward_seconds", "reward", colors.GREEN),
        line(columns, "perf/update_seconds", "update", colors.VERMILION),
    ]
    total, *parts = on_common_steps([line(columns, "perf/step_seconds", "rest", colors.GRAY), *phases])
    rest = [
        None if whole is None else max(0.0, whole - sum(part.y[at] or 0.0 for part in parts))
        for at, whole in enumerate(total.y)
    ]
    return present([*parts, replace(total, y=rest)])


SECTIONS: dict[str, Section] = {
    "Learning": Section(_learning_keys, _learning),
    "Optimisation": Section(lambda spec: list(_OPTIMISATION_KEYS), _optimisation),
    "Throughput": Section(lambda spec: list(_THROUGHPUT_KEYS), _throughput),
}


def finished(panel: Chart, *, smooth: float, sync: str) -> Chart:
    """The chart with the page's own settings: smoothing of lines, zoom shared by all charts over steps."""
    return replace(
        panel,
        smooth=smooth if panel.kind == "lines" else 0.0,
        sync=sync if panel.x_label == "step" else "",
    )
