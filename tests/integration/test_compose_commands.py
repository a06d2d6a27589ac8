"""The commands and health checks of docker-compose.yml, run as they stand there, only without Docker around them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ASYM = str(Path(sys.executable).parent / "asym")


@contextmanager
def running(service: str, environment: dict[str, str], ports: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [ports.get(word, word) for word in SERVICES[service]["command"]]
    process = subprocess.Popen([ASYM, *command], env=environment, cwd=environment["ASYM_HOME"])
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(timeout=60) in (0, -15), f"asym {' '.join(command)} did not stop in good order"


def is_healthy(service: str, ports: dict[str, str]) -> bool:
    _, _, option, code = SERVICES[service]["healthcheck"]["test"]
    for inside, outside in ports.items():
        code = code.replace(f":{inside}/", f":{outside}/")
    return subprocess.run([sys.executable, option, code], capture_output=True, check=False).returncode == 0


@pytest.mark.timeout(240)
def test_every_service_starts_by_its_command_and_gets_healthy(
    environment: dict[str, str], home: Path, free_port: Callable[[], int], wait_until: Callable[..., object]
):
    ports = {"8000": str(free_port()), "8501": str(free_port())}
    migrate = subprocess.run([ASYM, *SERVICES["migrate"]["command"]], env=environment, check=False)
    assert migrate.returncode == 0
    assert json.loads((home / "credentials.json").read_text())["api_url"] == "http://api:8000"
    assert (home / "credentials.json").stat().st_mode & 0o777 == 0o600

    signed_out = {key: value for key, value in environment.items() if not key.startswith("ASYM_")}
    signed_out |= {"ASYM_HOME": str(home / "empty"), "ASYM_API_URL": f"http://127.0.0.1:{ports['8000']}"}
    (home / "empty").mkdir()
    with (
        running("api", environment, ports),
        running("worker-cpu", environment, ports),
        running("dashboard", signed_out, ports),
    ):
        wait_until(lambda: is_healthy("api", ports), seconds=60)
        wait_until(lambda: is_healthy("dashboard", ports), seconds=60)
        key = json.loads((home / "credentials.json").read_text())["api_key"]
        asked = environment | {"ASYM_API_URL": f"http://127.0.0.1:{ports['8000']}", "ASYM_API_KEY": key}

        def workers() -> list[object]:
            code = "import client, json; print(json.dumps(client.Asym().workers()))"
            answer = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, check=True, cwd=ROOT)
            return json.loads(answer.stdout)

        wait_until(workers, seconds=60)
