"""Which charts explain a run, and which metric keys each of them needs, section by section of the run page.

Every section is a function from columns and a subject to charts, so that a test can read what would be drawn.
The keys are those of the trainer; their meaning is told in the subtitles, not here.
"""

from dataclasses import replace

from dashboard.chart import Chart
from dashboard.panels import coverage, exploration, groups, optimisation, overview, system
from dashboard.panels.section import Section, Spec, Subject

__all__ = ["SECTIONS", "Section", "Spec", "Subject", "finished"]

SECTIONS: dict[str, Section] = {
    "Overview": overview.SECTION,
    "Exploration": exploration.SECTION,
    "Groups": groups.SECTION,
    "Coverage": coverage.SECTION,
    "Optimisation": optimisation.SECTION,
    "System": system.SECTION,
}


def finished(panel: Chart, *, smooth: float, sync: str, csv: str = "") -> Chart:
    """The chart with the page's own settings: smoothing of lines, zoom shared by all charts over the same axis.

    csv: where its metrics are to be had.
    """
    shared = {"step": sync, "time": f"{sync}/time"}
    return replace(
        panel,
        smooth=smooth if panel.kind == "lines" else 0.0,
        csv=csv,
        sync=shared.get(panel.x_label, "") if sync and panel.kind != "plane" else "",
    )
