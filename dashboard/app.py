"""The dashboard as Streamlit runs it: sign-in, the pages, and what every page shares."""

from collections.abc import Callable
from typing import Final, NoReturn

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from client import Asym
from dashboard import chart, session
from dashboard.places import PLACES
from dashboard.views import compare, datasets, playground, queue, run, runs, submit, sweeps, team, workers

# Streamlit leaves a hand's breadth free at the top of a page, and writes white on the primary colour, however light
# that is; its colours of code are too pale to be read. Whoever goes by keys sees where they are, and what they
# come to is scrolled to below the navigation, not beneath it. The controls of a comparison have their place, with
# as many metrics as fit on one line, before they come (`dashboard.views.compare_opening`).
PAGE_STYLE: Final = """
<style>
.stMainBlockContainer { padding: 3.6rem 2rem 3rem; max-width: 2200px; }
.stMainBlockContainer h1 { font-size: 1.7rem; padding: 0.2rem 0 0.4rem; }
.stMainBlockContainer h2 { font-size: 1.5rem; padding: 0.2rem 0; }
.stMainBlockContainer h3 { font-size: 1.1rem; padding: 0.6rem 0 0.2rem; }
[data-tag], [data-tag] *,
[data-testid^="stBaseButton-primary"]:enabled, [data-testid^="stBaseButton-primary"]:enabled * {
  color: light-dark(#ffffff, #0b1220) !important;
}
[data-testid="stCode"] .token { color: light-dark(#3b4252, #c9cfdb) !important; }
[data-testid="stCode"] .token.comment { color: light-dark(#5c6270, #a3a9b8) !important; }
[data-testid="stCode"] .token:is(.property, .key, .atrule, .attr-name, .keyword, .function) {
  color: light-dark(#0b62b0, #7fbdf5) !important;
}
[data-testid="stCode"] .token:is(.string, .url) { color: light-dark(#17693f, #7ed6a5) !important; }
[data-testid="stCode"] .token:is(.number, .boolean, .null) { color: light-dark(#9a4a00, #f0a868) !important; }
:is([data-testid="stTopNavLink"], [data-testid="stBaseButton-elementToolbar"]):focus-visible {
  outline: 2px solid light-dark(#0b62b0, #5aa9f0) !important;
}
[data-testid="stMain"] { scroll-padding-top: 4rem; }
[data-testid="stMain"]:has(.st-key-compare-curves) .st-key-compare-settings { min-height: 240px; }
</style>
"""


def main() -> None:
    st.set_page_config(page_title="Asym", page_icon="📈", layout="wide")
    st.html(PAGE_STYLE)
    api = session.connection()
    if api is None:
        # At every address, so that a link to a run leads to that run once one has signed in.
        pages = {path: _page(path, session.sign_in) for path in PLACES}
        st.navigation(list(pages.values()), position="hidden").run()
        return
    chart.scripts()
    _navigate(api)


def _page(path: str, show: Callable[[], None]) -> StreamlitPage:
    title, icon = PLACES[path]
    return st.Page(show, title=title, url_path=path, icon=icon, default=path == "runs")


def _navigate(api: Asym) -> None:
    def open_run(job_id: str) -> NoReturn:
        st.switch_page(pages["run"], query_params={"job": job_id})

    def compare_with(job_id: str) -> NoReturn:
        st.switch_page(pages["compare"], query_params={"jobs": job_id})

    def new_run() -> NoReturn:
        st.switch_page(pages["submit"])

    def clone(job_id: str) -> NoReturn:
        st.switch_page(pages["submit"], query_params={"clone": job_id})

    shown: dict[str, Callable[[], None]] = {
        "runs": lambda: runs.show(api, open_run, compare_with, new_run),
        "submit": lambda: submit.show(api, open_run),
        "run": lambda: run.show(api, open_run, compare_with, clone),
        "compare": lambda: compare.show(api),
        "playground": lambda: playground.show(api),
        "sweeps": lambda: sweeps.show(api, open_run, compare_with),
        "datasets": lambda: datasets.show(api),
        "queue": lambda: queue.show(api, open_run),
        "workers": lambda: workers.show(api),
        "team": lambda: team.show(api),
    }
    pages = {path: _page(path, shown[path]) for path in PLACES}
    st.navigation(list(pages.values()), position="top").run()


main()
