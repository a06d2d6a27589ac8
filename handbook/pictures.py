"""The pictures of docs/concepts.md and docs/howto-betas.md:  python -m handbook.pictures

Drawn from `runs.json`: four runs of examples/tiny-arith.yaml that differ in `algorithm.preset` alone, seed 0, with
`diagnostics: {every: 5}`, as `python -m handbook.pictures --fetch NAME=JOB_ID ...` fetched them from a platform. They
have a background of their own, so that they can be read on a page of any colour.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from client import Asym

ROOT = Path(__file__).parents[1]
RUNS = Path(__file__).with_name("runs.json")
IMAGES = ROOT / "docs" / "images"
KEYS = (
    "group/accuracy", "group/none_solved", "group/mixed", "group/all_solved",
    "entropy/informative", "entropy/spurious", "entropy/drive_informative", "entropy/drive_spurious",
    "entropy/realised_informative", "entropy/realised_spurious", "logprob/gain_correct",
)  # fmt: skip
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLORS = {"asymgrpo": BLUE, "grpo": GREEN, "ent_decrease": VERMILION, "ent_increase": PURPLE}
LABELS = {
    "asymgrpo": "asymgrpo (0.9, 0.4)",
    "grpo": "grpo (0.5, 0.5)",
    "ent_decrease": "ent_decrease (−0.5, 0.5)",
    "ent_increase": "ent_increase (0.5, −0.5)",
}
Curve = dict[str, list[Any]]
Runs = dict[str, dict[str, Curve]]
WINDOW = 15
"""Steps that a mean goes over."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetch", nargs="+", metavar="NAME=JOB_ID", help="write runs.json anew, from these jobs")
    given = parser.parse_args(arguments)
    if given.fetch:
        fetch(dict(each.split("=", 1) for each in given.fetch))
    draw(json.loads(RUNS.read_text()), IMAGES)


def fetch(jobs: dict[str, str]) -> None:
    """Write the curves of these jobs to `runs.json`, with four significant digits."""
    with Asym() as asym:
        runs = {name: asym.metrics(job, KEYS, max_points=10_000)["keys"] for name, job in jobs.items()}
    for curves in runs.values():
        for curve in curves.values():
            curve["value"] = [None if value is None else float(f"{value:.4g}") for value in curve["value"]]
    RUNS.write_text(json.dumps(runs, separators=(",", ":")).replace('},"', '},\n"') + "\n")


def draw(runs: Runs, folder: Path) -> list[Path]:
    """Every picture, as PNG files in this folder."""
    matplotlib.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.25, "axes.spines.right": False,
                                "axes.spines.top": False, "figure.constrained_layout.use": True})  # fmt: skip
    drawn = {
        "advantages.png": _advantages(), "betas.png": _betas(runs), "drives.png": _drives(runs["asymgrpo"]),
        "groups.png": _groups(runs["asymgrpo"]),
    }  # fmt: skip
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=150, facecolor="white", metadata={"Software": None})
    return [folder / name for name in drawn]


def _advantages() -> Figure:
    figure = Figure(figsize=(7.5, 2.9))
    right, wrong = figure.subplots(1, 2)
    p = np.linspace(0.04, 0.96, 200)
    for beta, color in ((0.0, "#888888"), (0.5, GREEN), (0.9, BLUE)):
        right.plot(p, ((1 - p) / p) ** beta, color=color, label=f"beta_pos = {beta:g}")
    for beta, color in ((0.0, "#888888"), (0.4, BLUE), (0.5, GREEN)):
        wrong.plot(p, -((p / (1 - p)) ** beta), color=color, label=f"beta_neg = {beta:g}")
    for axes, title in ((right, "advantage of a correct rollout"), (wrong, "advantage of an incorrect rollout")):
        axes.set(title=title, xlabel="accuracy of the group, p")
        axes.legend(frameon=False)
    right.set_ylim(0, 8)
    wrong.set_ylim(-5, 0)
    return figure


def _betas(runs: Runs) -> Figure:
    figure = Figure(figsize=(9.5, 3.1))
    shown = (
        ("entropy/informative", "informative entropy, nats"),
        ("entropy/spurious", "spurious entropy, nats"),
        ("group/accuracy", "accuracy"),
    )
    for axes, (key, title) in zip(figure.subplots(1, 3), shown, strict=True):
        for name, curves in runs.items():
            _line(axes, curves[key], COLORS[name], LABELS[name])
        axes.set(title=title, xlabel="step")
    figure.axes[0].legend(frameon=False, fontsize=7.5)
    return figure


def _drives(curves: dict[str, Curve]) -> Figure:
    figure = Figure(figsize=(7.5, 2.9))
    drive, realised = figure.subplots(1, 2)
    for channel, color in (("informative", BLUE), ("spurious", VERMILION)):
        _line(drive, curves[f"entropy/drive_{channel}"], color, channel)
        _line(realised, curves[f"entropy/realised_{channel}"], color, channel, window=5, marker=".")
    for axes, title in ((drive, "drive: first order, per unit step"), (realised, "realised change in a step, nats")):
        axes.set(title=title, xlabel="step")
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.legend(frameon=False)
    return figure


def _groups(curves: dict[str, Curve]) -> Figure:
    figure = Figure(figsize=(7.5, 2.6))
    axes = figure.subplots()
    keys = ("group/none_solved", "group/mixed", "group/all_solved")
    step = curves[keys[0]]["step"]
    shares = [_mean(np.array(curves[key]["value"], dtype=float), WINDOW) for key in keys]
    axes.stackplot(
        step, shares, colors=("#B8B8B8", BLUE, GREEN), labels=("none solved", "mixed: these teach", "all solved")
    )
    axes.set(xlabel="step", ylabel="share of the groups", ylim=(0, 1), xlim=(step[0], step[-1]))
    axes.legend(loc="lower left", framealpha=0.9)
    return figure


def _line(axes: Axes, curve: Curve, color: str, label: str, *, window: int = WINDOW, marker: str = "") -> None:
    """The curve, faint, and its mean over a window. Null is a gap."""
    step, value = np.array(curve["step"]), np.array(curve["value"], dtype=float)
    axes.plot(step, value, color=color, alpha=0.22, linewidth=0.7)
    axes.plot(step, _mean(value, window), color=color, linewidth=1.6, label=label, marker=marker, markersize=3)


def _mean(value: "np.ndarray[Any, np.dtype[np.float64]]", window: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The mean of what is defined among the last `window` values, at each."""
    return np.array([np.nanmean(value[max(0, at + 1 - window) : at + 1]) for at in range(len(value))])


if __name__ == "__main__":
    main()
