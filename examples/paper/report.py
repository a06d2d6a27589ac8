"""What the runs say, as the paper shows it: the table of its methods, and three plots."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from runs import Run

Figures = dict[str, float]


@dataclass(frozen=True)
class Method:
    """All runs of one method, the seeds apart."""

    name: str
    runs: list[Run]

    def over_seeds(self, values: Sequence[float]) -> str:
        """`61.2 ± 1.3` in per cent: mean and standard deviation over seeds."""
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        return f"{100 * mean(values):.1f}{spread}"


def by_method(runs: Sequence[Run]) -> list[Method]:
    names = list(dict.fromkeys(run.method for run in runs))
    return [Method(name, [run for run in runs if run.method == name]) for name in names]


def chosen_step(run: Run, benchmarks: Sequence[str]) -> int:
    """The evaluated step that is best on the first benchmark, the earliest of equals: the paper's choice."""
    values = run.values(f"eval/{benchmarks[0]}/accuracy")
    return max(values, key=lambda step: (values[step], -step))


def scores(run: Run, benchmarks: Sequence[str]) -> Figures:
    """Accuracy on each benchmark at the chosen step, and their mean."""
    row = run.series[chosen_step(run, benchmarks)]
    accuracies = {name: float(row[f"eval/{name}/accuracy"]) for name in benchmarks}
    return {**accuracies, "mean": mean(accuracies.values())}


def dynamics(run: Run, benchmarks: Sequence[str], last: int = 10) -> Figures:
    """What the run had become: accuracy and the largest pass@k of its last evaluation, means over its last steps."""
    keys = {
        "none solved": "group/none_solved",
        "informative": "entropy/informative",
        "spurious": "entropy/spurious",
    }
    found = {name: [*run.values(key).values()][-last:] for name, key in keys.items()}
    gains = run.values("logprob/gain_correct")
    row = run.series[last_evaluation(run, benchmarks)]
    figures = {"last accuracy": mean(row[f"eval/{name}/accuracy"] for name in benchmarks)}
    coverage = pass_at_k(row, benchmarks)
    if coverage:
        figures["last pass@k"] = coverage[max(coverage)]
    figures |= {name: mean(values) for name, values in found.items() if values}
    return figures | ({"gain of correct": mean(gains.values())} if gains else {})


def last_evaluation(run: Run, benchmarks: Sequence[str]) -> int:
    return max(run.values(f"eval/{benchmarks[0]}/accuracy"))


def table(methods: Sequence[Method], benchmarks: Sequence[str]) -> str:
    """Markdown: accuracy in per cent on each benchmark and the mean, over seeds; then what training did."""
    columns = [*benchmarks, "mean"]
    lines = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for method in methods:
        figures = [scores(run, benchmarks) for run in method.runs]
        cells = [method.over_seeds([each[column] for each in figures]) for column in columns]
        lines.append(f"| {method.name} | {' | '.join(cells)} |")
    names = ("last accuracy", "last pass@k", "none solved", "informative", "spurious", "gain of correct")
    lines += ["", f"| method | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for method in methods:
        seen = [dynamics(run, benchmarks) for run in method.runs]
        cells = []
        for name in names:
            values = [figures[name] for figures in seen if name in figures]
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.4f}{spread}" if values else "–")
        lines.append(f"| {method.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_report(runs: Sequence[Run], benchmarks: Sequence[str], out: Path) -> str:
    """table.md, results.json and the plots into `out`; returns the table."""
    methods = by_method(runs)
    text = table(methods, benchmarks)
    (out / "table.md").write_text(text)
    results = [
        {
            "method": run.method,
            "seed": run.seed,
            "step": chosen_step(run, benchmarks),
            "accuracy": scores(run, benchmarks),
            "last_steps": dynamics(run, benchmarks),
        }
        for run in runs
    ]
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    _plot(methods, benchmarks, out)
    return text


def _plot(methods: Sequence[Method], benchmarks: Sequence[str], out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for file, title, panels in (
        (
            "entropy.png",
            "Entropy by channel, nats",
            [("correct rollouts", "entropy/informative"), ("incorrect rollouts", "entropy/spurious")],
        ),
        ("none_solved.png", "Groups without a correct rollout", [("share of groups", "group/none_solved")]),
    ):
        figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 4), sharey=True, squeeze=False)
        for axis, (label, key) in zip(axes[0], panels, strict=True):
            for method in methods:
                _band(axis, method, key)
            axis.set(xlabel="step", title=label)
            axis.grid(alpha=0.3)
        axes[0][-1].legend(fontsize=8)
        figure.suptitle(title)
        figure.tight_layout()
        figure.savefig(out / file, dpi=110)
        plt.close(figure)

    figure, axis = plt.subplots(figsize=(6, 4))
    for method in methods:
        curves = [pass_at_k(run.series[last_evaluation(run, benchmarks)], benchmarks) for run in method.runs]
        ks = sorted(curves[0])
        axis.plot(ks, [mean(curve[k] for curve in curves) for k in ks], marker="o", markersize=3, label=method.name)
    axis.set(xlabel="k", xscale="log", title="pass@k after the last step, mean over benchmarks")
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out / "pass_at_k.png", dpi=110)
    plt.close(figure)


def _band(axis, method: Method, key: str, window: int = 5) -> None:  # noqa: ANN001 (a matplotlib axis)
    """The mean over seeds of a moving average, and the range of the seeds around it."""
    series = [run.values(key) for run in method.runs]
    steps = sorted(set.intersection(*(set(values) for values in series)))
    smooth = [
        [mean(values[near] for near in steps[max(0, i - window + 1) : i + 1]) for i in range(len(steps))]
        for values in series
    ]
    lines = axis.plot(steps, [mean(point) for point in zip(*smooth, strict=True)], label=method.name, linewidth=1.2)
    low, high = ([pick(point) for point in zip(*smooth, strict=True)] for pick in (min, max))
    axis.fill_between(steps, low, high, alpha=0.12, color=lines[0].get_color())


def pass_at_k(row: dict[str, Any], benchmarks: Sequence[str]) -> dict[int, float]:
    """k -> pass@k of one evaluation, the mean over the benchmarks that have most k; empty without any."""
    ks = {
        name: {
            int(key.split("/")[-1]) for key in row if key.startswith(f"eval/{name}/pass_at_k/") and key[-1].isdigit()
        }
        for name in benchmarks
    }
    most = max(ks.values(), key=len)
    complete = [name for name in benchmarks if ks[name] == most]
    return {k: mean(row[f"eval/{name}/pass_at_k/{k}"] for name in complete) for k in sorted(most)}
