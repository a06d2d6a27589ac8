"""Every metric's key, from the vocabulary that trainer, database, API, dashboard and exporters share."""

from itertools import groupby

from handbook.reference.tables import one_line, table
from trainer.spec.metric_keys import DIFFICULTY_BUCKETS, METRICS

_BUCKETS = ", ".join(f"`{each}`" for each in DIFFICULTY_BUCKETS)
_INTRODUCTION = f"""# Metric keys

`{{name}}` is the name of a benchmark of `eval`, `{{k}}` a number of samples, `{{bucket}}` one of {_BUCKETS}:
groups by the share of their rollouts that is correct, in per cent, the upper bound included but for 100.

**Null is measured and undefined**, such as the entropy of correct rollouts where there are none; it is never 0. A step
that is missing was not measured. What they mean in formulas: [concepts](../concepts.md).

"""


def page() -> str:
    parts = [_INTRODUCTION]
    for section, metrics in groupby(METRICS, key=lambda metric: metric.template.partition("/")[0]):
        rows = [[f"`{each.template}`", each.unit, each.better, one_line(each.description)] for each in metrics]
        parts.append(f"## {section} {{ #{section} }}\n\n" + table(["key", "unit", "better is", "meaning"], rows) + "\n")
    return "".join(parts)
