"""`python -m dashboard --port 8501 [--host 127.0.0.1]`: serve the dashboard until SIGTERM or SIGINT.

Runs Streamlit in this process, without its telemetry, file watcher and development menu. Which API it talks to and
with which key is the client's business (ASYM_API_URL, ASYM_API_KEY, ASYM_HOME); nothing here reads the environment.
"""

import argparse
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from streamlit.starlette import App

from client.credentials import home_folder
from dashboard.export import ROUTES
from dashboard.kept_assets import KeptAssets
from dashboard.return_address import ReturnAddress

OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "type",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "global.developmentMode": False,
    "logger.enableRich": False,
    "logger.hideWelcomeMessage": True,
    "logger.level": "warning",
    "runner.magicEnabled": False,
    # A full collection after every run costs more than the refresh of a page; Python collects by itself.
    "runner.postScriptGC": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.runOnSave": False,
    # No base theme: the browser's preference for light or dark decides, and Settings can override it.
    "theme.baseFontSize": 15,
    "theme.light.primaryColor": "#0b62b0",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f4f6f9",
    # Captions are this at 60 %, which has to be readable, too (tests/unit/dashboard/test_contrast.py).
    "theme.light.textColor": "#0f1520",
    "theme.light.codeTextColor": "#0f1520",
    "theme.dark.primaryColor": "#5aa9f0",
    "theme.dark.backgroundColor": "#12161d",
    "theme.dark.secondaryBackgroundColor": "#1b212b",
    "theme.dark.textColor": "#e6e9ef",
    "theme.dark.codeTextColor": "#e6e9ef",
}


SECRETS = "dashboard-secrets.toml"
"""In ASYM_HOME: Streamlit's `[auth]` section, for signing in at an identity provider (docs/security.md)."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="Serve the Asym dashboard.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501)
    arguments = parser.parse_args()
    options = {
        **OPTIONS,
        "server.address": arguments.host,
        "server.port": arguments.port,
        "secrets.files": [str(home_folder() / SECRETS)],
    }
    app = App(
        Path(__file__).with_name("app.py"),
        routes=ROUTES,
        middleware=[Middleware(KeptAssets), Middleware(ReturnAddress)],
    )
    app.run(config=options)


if __name__ == "__main__":
    main()
