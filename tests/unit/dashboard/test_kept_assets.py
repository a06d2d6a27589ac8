"""Streamlit's scripts and styles as the dashboard serves them."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.kept_assets import FOLDER, ON_EVERY_PAGE, KeptAssets, needed_later


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


def test_a_page_names_the_scripts_that_it_will_need(tmp_path):
    async def page(scope, receive, send):
        await HTMLResponse("<html>")(scope, receive, send)

    linked = TestClient(KeptAssets(page)).get("/compare").headers["link"]
    for name in ON_EVERY_PAGE:
        assert f"/static/js/{name}." in linked
    assert all((FOLDER / path.lstrip("/")).is_file() for path in needed_later())
    # What the page names itself is not named again, and what a script imports is.
    (tmp_path / "static" / "js").mkdir(parents=True)
    (tmp_path / "index.html").write_text('<script src="./static/js/index.a.js">')
    for name, text in (
        ("index.a.js", ""),
        ("Html.b.js", 'import{x}from"./index.a.js";import"./part.c.js"'),
        ("part.c.js", ""),
        ("other.d.js", ""),
    ):
        (tmp_path / "static" / "js" / name).write_text(text)
    assert needed_later(tmp_path) == ["/static/js/Html.b.js", "/static/js/part.c.js"]
