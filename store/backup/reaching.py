"""The platform's database: that of the settings, that of a running `asym up`, or the embedded one, started for this."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from store.backup.manifest import BackupError
from store.embedded.running import with_running_servers
from store.settings import Settings

_STOP_SECONDS = 30.0


@contextmanager
def database_of(settings: Settings) -> Iterator[str]:
    """Its address, for as long as the block lasts. BackupError when the embedded server does not start."""
    url = with_running_servers(settings).database_url
    if url is not None:
        yield url.get_secret_value()
        return
    command = [sys.executable, "-P", "-m", "store.embedded", "--home", str(settings.home), "--leashed"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process was started without the pipes that were asked for")
        try:
            line = process.stdout.readline()
            if not line:
                raise BackupError(f"the embedded Postgres of {settings.home} does not start; what it says is above")
            yield str(json.loads(line)["database_url"])
        finally:
            process.stdin.close()
            process.wait(_STOP_SECONDS)
