"""The dashboard as Streamlit runs it: sign-in, the pages, and what every page shares."""

from typing import Final, NoReturn

import streamlit as st

from client import Asym
from dashboard import chart, session
from dashboard.views import compare, platform, run, runs, submit

# Streamlit leaves a hand's breadth free at the top of a page.
PAGE_STYLE: Final = """
<style>
.stMainBlockContainer { padding: 3.6rem 2rem 3rem; max-width: 2200px; }
.stMainBlockContainer h1 { font-size: 1.7rem; padding: 0.2rem 0 0.4rem; }
.stMainBlockContainer h2 { font-size: 1.5rem; padding: 0.2rem 0; }
.stMainBlockContainer h3 { font-size: 1.1rem; padding: 0.6rem 0 0.2rem; }
</style>
"""


def main() -> None:
    st.set_page_config(page_title="Asym", page_icon="📈", layout="wide")
    st.html(PAGE_STYLE)
    api = session.connection()
    if api is None:
        session.sign_in()
        return
    chart.scripts()
    _navigate(api)


def _navigate(api: Asym) -> None:
    def runs_page() -> None:
        runs.show(api, open_run)

    def run_page() -> None:
        run.show(api, open_run, compare_with, clone)

    def compare_page() -> None:
        compare.show(api)

    def submit_page() -> None:
        submit.show(api, open_run)

    def datasets_page() -> None:
        platform.show_datasets(api)

    def queue_page() -> None:
        platform.show_queue(api)

    # Addresses are part of what people copy and keep: /run?job=…, /compare?jobs=…
    runs_at = st.Page(runs_page, title="Runs", url_path="runs", icon=":material/view_list:", default=True)
    run_at = st.Page(run_page, title="Run", url_path="run", icon=":material/show_chart:")
    compare_at = st.Page(compare_page, title="Compare", url_path="compare", icon=":material/stacked_line_chart:")
    submit_at = st.Page(submit_page, title="New run", url_path="submit", icon=":material/add_circle:")
    datasets_at = st.Page(datasets_page, title="Data sets", url_path="datasets", icon=":material/database:")
    queue_at = st.Page(queue_page, title="Queue", url_path="queue", icon=":material/dns:")

    def open_run(job_id: str) -> NoReturn:
        st.switch_page(run_at, query_params={"job": job_id})

    def compare_with(job_id: str) -> NoReturn:
        st.switch_page(compare_at, query_params={"jobs": job_id})

    def clone(job_id: str) -> NoReturn:
        st.switch_page(submit_at, query_params={"clone": job_id})

    st.navigation([runs_at, submit_at, run_at, compare_at, datasets_at, queue_at], position="top").run()


main()
