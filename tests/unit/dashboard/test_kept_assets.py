"""Streamlit's scripts and styles as the dashboard serves them."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.kept_assets import FOLDER, KeptAssets


@pytest.fixture
def browser():
    routes = [Route("/{path:path}", lambda request: PlainTextResponse("Streamlit"), methods=["GET", "POST"])]
    with TestClient(Starlette(routes=routes, middleware=[Middleware(KeptAssets)])) as browser:
        yield browser


@pytest.mark.parametrize(("ending", "kind"), [("js", "text/javascript"), ("css", "text/css"), ("woff2", "font/woff2")])
def test_a_file_is_sent_as_it_is_and_kept_by_the_browser(browser, ending, kind):
    file = next(iter(sorted((FOLDER / "static").rglob(f"*.{ending}"))), None)
    if file is None:
        pytest.skip(f"this Streamlit has no .{ending}")
    for _ in range(2):
        found = browser.get(f"/{file.relative_to(FOLDER).as_posix()}")
        assert found.content == file.read_bytes()
        assert found.headers["content-type"].startswith(kind)
        assert "immutable" in found.headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/static/js/none.js", "/static/..%2f..%2f__init__.py", "/run?job=a"]
)
def test_everything_else_is_streamlits_to_answer(browser, path):
    assert browser.get(path).text == "Streamlit"


def test_parts_and_questions_whether_a_file_has_changed_are_streamlits_too(browser):
    file = next(iter((FOLDER / "static").rglob("*.js")))
    path = f"/{file.relative_to(FOLDER).as_posix()}"
    for headers in ({"Range": "bytes=0-10"}, {"If-None-Match": '"x"'}):
        assert browser.get(path, headers=headers).text == "Streamlit"
    assert browser.post(path).text == "Streamlit"
