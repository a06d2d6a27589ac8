"""`python -m dashboard --port 8501 [--host 127.0.0.1]`: serve the dashboard until SIGTERM or SIGINT.

Runs Streamlit in this process, without its telemetry, file watcher and development menu. Which API it talks to and
with which key is the client's business (ASYM_API_URL, ASYM_API_KEY, ASYM_HOME); nothing here reads the environment.
"""

import argparse
from pathlib import Path
from typing import Any

from streamlit.web import bootstrap

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
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.runOnSave": False,
    # No base theme: the browser's preference for light or dark decides, and Settings can override it.
    "theme.baseFontSize": 15,
    "theme.light.primaryColor": "#0b62b0",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f4f6f9",
    "theme.light.textColor": "#1c2230",
    "theme.dark.primaryColor": "#5aa9f0",
    "theme.dark.backgroundColor": "#12161d",
    "theme.dark.secondaryBackgroundColor": "#1b212b",
    "theme.dark.textColor": "#e6e9ef",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="Serve the Asym dashboard.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501)
    arguments = parser.parse_args()
    # Streamlit takes its options by names with underscores, as its own command line does.
    given = {**OPTIONS, "server.address": arguments.host, "server.port": arguments.port}
    options = {name.replace(".", "_"): value for name, value in given.items()}
    bootstrap.load_config_options(options)
    bootstrap.run(str(Path(__file__).with_name("app.py")), False, [], options)


if __name__ == "__main__":
    main()
