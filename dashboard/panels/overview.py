"""Is it learning, is it exploring, do its groups teach: the charts under the verdict."""

from dashboard import colors, verdict
from dashboard.chart import Chart
from dashboard.curves import Columns, line, present, values
from dashboard.panels import exploration, groups
from dashboard.panels.section import Section, Spec, Subject, benchmarks


def _keys(spec: Spec) -> list[str]:
    keys = [*verdict.KEYS, *exploration.ENTROPY_KEYS]
    for name, ks in benchmarks(spec):
        base = f"eval/{name}/pass_at_k/{ks[0]}"
        keys += [base, f"{base}/low", f"{base}/high"]
    return list(dict.fromkeys(keys))


def _charts(columns: Columns, subject: Subject) -> dict[str, Chart]:
    return {
        "accuracy": accuracy(columns, subject.spec),
        "entropy": exploration.entropy(columns),
        "shares": groups.shares(columns),
        "plane": exploration.plane(columns, subject.spec),
    }


def accuracy(columns: Columns, spec: Spec) -> Chart:
    drawn = [line(columns, "group/accuracy", "training prompts", colors.INFORMATIVE)]
    # A reward that is not 0 or 1 has a mean of its own.
    if values(columns, "reward/mean") != values(columns, "group/accuracy"):
        drawn.append(line(columns, "reward/mean", "mean reward", colors.GRAY, dash=[5, 4]))
    for index, (name, ks) in enumerate(benchmarks(spec)):
        key = f"eval/{name}/pass_at_k/{ks[0]}"
        drawn.append(line(columns, key, f"{name} pass@{ks[0]}", colors.benchmark(index), points=True, interval=True))
    return Chart(
        "Accuracy",
        "share of correct rollouts; bands are 95 % intervals over problems",
        present(drawn),
        unit="%",
        y_min=0.0,
    )


SECTION = Section(_keys, _charts)
