"""Pages without a platform behind them: signing in, an API that is away, text that must stay text."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import session

FOLDER = Path(dashboard.__file__).parent


@pytest.fixture
def app(monkeypatch, tmp_path):
    """The dashboard of a machine on which Asym was never started."""
    for name in ("ASYM_API_URL", "ASYM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASYM_HOME", str(tmp_path))
    session._connection.clear()
    return AppTest.from_file(str(FOLDER / "app.py"), default_timeout=30)


def test_a_newcomer_is_asked_for_a_key(app):
    app.run()
    assert not app.exception
    assert [field.label for field in app.text_input] == ["API key"]


def test_a_key_without_an_api_says_what_to_set(app):
    app.run()
    app.text_input[0].set_value("asym_x")
    app.button[0].click().run()
    assert "no Asym API is known here" in app.error[0].value


def test_an_api_that_is_away_is_told_and_not_a_traceback(app, monkeypatch, free_port):
    monkeypatch.setenv("ASYM_API_URL", f"http://127.0.0.1:{free_port()}")
    app.session_state[session.TYPED_KEY] = "asym_x"
    app.run()
    assert not app.exception
    assert "does not answer" in app.error[0].value
    assert "comes back by itself" in app.error[0].value


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "[::1]", "::1"])
def test_loopback_addresses_are_known(address):
    assert session.is_loopback(address)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "192.168.1.4", "localhost.evil.example"])  # noqa: S104
def test_other_addresses_get_no_key_by_default(address):
    assert not session.is_loopback(address)


def test_no_data_goes_through_html():
    """`unsafe_allow_html` is nowhere, and the only `st.html` is the page's own style."""
    source = "\n".join(path.read_text("utf-8") for path in sorted(FOLDER.rglob("*.py")))
    assert "unsafe_allow_html" not in source
    assert re.findall(r"st\.html\(([^)]*)\)", source) == ["PAGE_STYLE"]
    assert "st.markdown" not in source
    assert "MarkdownColumn" not in source


def test_the_dashboard_imports_neither_torch_nor_the_service():
    modules = [f"dashboard.{path.stem}" for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "app")]
    modules += [f"dashboard.views.{path.stem}" for path in (FOLDER / "views").glob("*.py") if path.stem != "__init__"]
    code = (
        f"import sys\nimport {', '.join(modules)}\n"
        "print([name for name in ('torch', 'store', 'trainer', 'api', 'worker') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
