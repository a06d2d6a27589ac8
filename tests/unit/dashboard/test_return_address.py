"""Where one comes back to from an identity provider."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.return_address import COOKIE, LONGEST, ReturnAddress, page_of


@pytest.fixture
def browser():
    """One that goes to /auth/login, the provider, and comes back as Streamlit does it."""

    def to(address):
        return lambda request: RedirectResponse(address, status_code=302)

    routes = [
        Route("/auth/login", to("https://provider.example/authorize")),
        Route("/auth/logout", to("/")),
        Route("/oauth2callback", to("/")),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(ReturnAddress)])
    with TestClient(app, base_url="https://asym.example", follow_redirects=False) as browser:
        yield browser


def back_from(browser, page):
    left = browser.get("/auth/login", headers={"Referer": f"https://asym.example{page}"})
    assert left.headers["location"] == "https://provider.example/authorize"
    return browser.get("/oauth2callback").headers["location"]


def test_one_comes_back_to_the_page_that_was_asked_for_and_only_once(browser):
    page = "/compare?jobs=job_a,job_b~3&keys=group%2Faccuracy&zoom=1,2"
    assert back_from(browser, page) == page
    assert COOKIE not in browser.cookies
    assert browser.get("/oauth2callback").headers["location"] == "/"


def test_signing_out_stays_on_the_page(browser):
    out = browser.get("/auth/logout", headers={"Referer": "https://asym.example/team"})
    assert out.headers["location"] == "/team"


def test_another_page_that_is_left_from_replaces_the_first(browser):
    browser.get("/auth/login", headers={"Referer": "https://asym.example/run?job=job_a"})
    assert back_from(browser, "/queue") == "/queue"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "https://asym.example/",
        "https://asym.example/auth/logout",
        "https://asym.example//evil.example/run",
        "https://asym.example/export/secret",
        "//run",
        "https://[",
        f"/run?job={'a' * LONGEST}",
    ],
)
def test_nobody_is_led_elsewhere(browser, address):
    assert page_of(address) is None
    browser.get("/auth/login", headers={"Referer": address})
    assert browser.get("/oauth2callback").headers["location"] == "/"


def test_a_forged_cookie_leads_to_no_other_site(browser):
    browser.cookies.set(COOKIE, "https%3A%2F%2Fevil.example%2Frun%3Fjob%3Da")
    assert browser.get("/oauth2callback").headers["location"] == "/run?job=a"
