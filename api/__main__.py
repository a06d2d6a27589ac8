"""python -m api --host 127.0.0.1 --port 8000

Serves the HTTP interface until SIGTERM or SIGINT. Needs ASYM_DATABASE_URL; the database may come and go.
"""

import argparse
import gc
import logging
import resource
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn

from api.main import create_app
from api.state import ApiState
from store import logs, tracing
from store.errors import SettingsError
from store.settings import Settings

SHUTDOWN_SECONDS = 10
MOST_FILES = 65_536
FULL_COLLECTION_SECONDS = 600.0
NEVER = 2**31 - 1


class Server(uvicorn.Server):
    """Uvicorn, which would wait for event streams to end by themselves: here they end when it is told to stop."""

    def __init__(self, config: uvicorn.Config, state: ApiState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.feeds.close()
        await super().shutdown(sockets)


def raise_file_limit() -> None:
    """As many open files as the system lets this process have: every watcher of a stream is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def spare_the_loop() -> None:
    """Keep what this process does on the side from holding up requests while thousands of streams are open."""
    # So long a thread that is back from the database waits for the event loop to give way, many times a request.
    sys.setswitchinterval(0.0005)
    # A full collection looks at every object there is: half a second with those of 2,000 streams, which at 100 requests
    # a second came every ten. What is left in cycles mostly goes with the smaller ones, and the modules stay for ever.
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    threading.Thread(target=_collect_now_and_then, name="collector", daemon=True).start()


def _collect_now_and_then() -> None:
    while True:
        time.sleep(FULL_COLLECTION_SECONDS)
        gc.collect()


def main() -> int:
    server: Server | None = None

    def end(_: int, __: FrameType | None) -> None:
        # Uvicorn has handlers of its own while it runs, and raises the signal again once it has shut down: there is
        # nothing left to do then, and a stop that was asked for is no failure.
        if server is None or not server.should_exit:
            sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the HTTP interface of Asym.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--access-log", action="store_true", help="log every request; a dashboard that polls makes many"
    )
    arguments = parser.parse_args()
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        print(f"api: {error}", file=sys.stderr)
        return 2
    logs.set_up(settings.log_format)
    if settings.traced:
        tracing.start("asym-api")
    # It reports the obvious each time the schema's version is read, which /readyz does.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    raise_file_limit()
    try:
        app = create_app(settings)
    except SettingsError as error:
        print(f"api: {error}", file=sys.stderr)
        return 2
    spare_the_loop()
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        access_log=arguments.access_log,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = Server(config, app.state.api)
    server.run()
    tracing.stop()
    return 0 if server.started or server.should_exit else 1


if __name__ == "__main__":
    sys.exit(main())
