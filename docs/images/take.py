"""Takes the pictures of this folder: every page of the dashboard, light and dark, with real runs.

    ./dev pictures                  a platform in a temporary folder; an hour on two busy cores, for the runs
    ./dev pictures --home FOLDER    the runs stay there: taking the pictures again is two minutes
    ./dev pictures --only run,queue

Chromium is ASYM_CHROMIUM, else /usr/bin/chromium. Pictures have a palette of 256 colours.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import runs
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from client import Asym, Unreachable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--hide-scrollbars"]
WIDTH = 1440
THEMES = ("light", "dark")
SECRETS = """[auth]
redirect_uri = "http://127.0.0.1/oauth2callback"
cookie_secret = "only so that the button is there: nobody signs in"
client_id = "pictures"
client_secret = "none"
server_metadata_url = "http://127.0.0.1/.well-known/openid-configuration"
"""

Ids = Mapping[str, str]


@dataclass(frozen=True)
class View:
    """One page as it is photographed."""

    name: str
    address: Callable[[Ids], str]
    height: int = 900
    ready: str = "h1, h2"
    """What is there once the page is."""
    then: Callable[[Page], None] = lambda page: None
    """What is done before."""
    signed_in: bool = True
    samples: bool = False
    """It needs the slot that the runs which go on have, and is taken when these are gone."""


def _run(section: str, name: str = runs.MAIN) -> Callable[[Ids], str]:
    return lambda ids: f"run?job={ids[name]}&section={section}"


def _seeds(ids: Ids) -> str:
    jobs = ",".join(ids[f"{preset}-s{seed}"] for preset in runs.PRESETS for seed in (0, 1))
    return f"compare?jobs={jobs}&seeds=mean, min to max&smooth=0.8"


def _betas(ids: Ids) -> str:
    jobs = ",".join(job_id for name, job_id in ids.items() if name.startswith("betas-"))
    return f"compare?jobs={jobs}&section=Sweep&down=algorithm.beta_pos&across=algorithm.beta_neg"


def _prompts(ids: Ids) -> str:
    return f"compare?jobs={ids['grpo-s0']},{ids['reinforce-s0']}&section=Prompts"


def _fill_in(page: Page) -> None:
    page.get_by_role("textbox", name="Name", exact=True).fill("additions")
    for label, value in (("Model", "builtin/tiny-arith"), ("Verifier", "exact")):
        field = page.get_by_role("combobox", name=label, exact=True)
        field.click()
        field.fill(value)
        page.get_by_role("option", name=value, exact=True).click()
    page.get_by_role("combobox", name="Training data").click()
    page.get_by_role("option", name="additions-train.jsonl").click()
    page.get_by_text("The platform would take it.").wait_for()


def _look_at_tokens(page: Page) -> None:
    field = page.get_by_role("combobox", name="Prompt length in tokens of", exact=True)
    field.click()
    page.get_by_role("option", name="builtin/tiny-arith", exact=True).click()
    page.get_by_text("Tokens in a prompt").wait_for()


def _before_and_after(ids: Ids) -> str:
    return f"playground?models=builtin/tiny-arith,job/{ids[runs.MAIN]}@100,job/{ids[runs.MAIN]}@150"


def _ask(page: Page) -> None:
    page.get_by_label("Prompt").fill("12+34=")
    page.get_by_text("How to sample, and how to judge").click()
    page.get_by_label("Samples of each").fill("4")
    page.get_by_label("Most tokens").fill("6")
    page.get_by_label("Answer", exact=True).fill("46")
    page.get_by_role("combobox", name="Verifier").click()
    page.get_by_role("option", name="exact").click()
    page.get_by_role("button", name="Sample", exact=True).click()
    # One model after the other has the slot.
    for number in range(3):
        page.get_by_text("of 4 right").nth(number).wait_for()
    page.get_by_text("How to sample, and how to judge").click()


CHARTS, TABLE = ".asym-chart[data-builds]", "[data-testid=stDataFrame] table td"
VIEWS = (
    View("runs", lambda ids: "", ready=TABLE),
    View("run", _run("Overview"), 1060, ready=CHARTS),
    View("run-exploration", _run("Exploration"), 1160, ready=CHARTS),
    View("run-groups", _run("Groups"), 1060, ready=CHARTS),
    View("run-coverage", _run("Coverage&at=0&at=140"), 940, ready=CHARTS),
    View("run-optimisation", _run("Optimisation"), 1300, ready=CHARTS),
    View("run-system", _run("System"), 900, ready=CHARTS),
    View("run-failed", _run("Events", runs.FAILED), ready=TABLE),
    View("run-collapsed", _run("Overview", runs.COLLAPSED), 1140, ready=CHARTS),
    View("rollouts", _run("Rollouts&step=60"), 920, ready=".asym-group"),
    View("compare", _seeds, 1400, ready=TABLE),
    View("compare-sweep", _betas, 640, ready=".asym-grid"),
    View("compare-prompts", _prompts, 900, ready=TABLE),
    View("sweeps", lambda ids: f"sweeps?sweep={ids['sweep']}", 1260, ready=".asym-grid"),
    View("submit", lambda ids: "submit", 1000, then=_fill_in),
    View("datasets", lambda ids: "datasets", 720, then=_look_at_tokens),
    View("queue", lambda ids: "queue", 440, ready=TABLE),
    View("workers", lambda ids: "workers", 380, ready=TABLE),
    View("team", lambda ids: "team", 520, ready=TABLE),
    View("playground", _before_and_after, 960, then=_ask, samples=True),
    View("sign-in", lambda ids: "", 480, signed_in=False),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="where the platform and its runs stay")
    parser.add_argument("--only", default="", help="names of pictures, comma separated")
    parser.add_argument("--to", type=Path, default=HERE)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    only = [name for name in arguments.only.split(",") if name]
    views = [view for view in VIEWS if not only or view.name in only]
    with _folder(arguments.home) as home, _platform(home) as dashboard_url, Asym(home=home) as asym:
        still = runs.everything(asym)
        moving = runs.in_motion(asym)
        with _browser() as browser:
            try:
                for view in views:
                    if not view.samples:
                        _take_both(browser, dashboard_url, view, still | moving, arguments.to)
            finally:
                runs.stop(asym, moving)
            for view in views:
                if view.samples:
                    _take_both(browser, dashboard_url, view, still, arguments.to)
    return 0


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = os.environ.get("ASYM_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def _take_both(browser: Browser, dashboard_url: str, view: View, ids: Ids, folder: Path) -> None:
    for theme in THEMES:
        taken = _take(browser, dashboard_url, view, ids, theme)
        file = folder / f"{view.name}-{theme}.png"
        file.write_bytes(taken)
        print(f"{file.name:32}{len(taken) / 1e3:8.0f} kB", flush=True)


def _take(browser: Browser, dashboard_url: str, view: View, ids: Ids, theme: str) -> bytes:
    """A PNG of the view."""
    headers = {} if view.signed_in else {"X-Forwarded-For": "203.0.113.9"}
    context = browser.new_context(
        viewport={"width": WIDTH, "height": view.height},
        color_scheme="dark" if theme == "dark" else "light",
        extra_http_headers=headers,
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{dashboard_url}/{view.address(ids)}")
    page.locator(view.ready).first.wait_for(state="attached")
    view.then(page)
    # What repeats itself is done when the server has been quiet for a moment; charts draw one in a frame.
    page.locator("[data-test-script-state=notRunning]").wait_for()
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.mouse.move(2, 2)
    page.wait_for_timeout(2500)
    shot = page.screenshot()
    context.close()
    return _smaller(shot)


def _smaller(png: bytes) -> bytes:
    picture = Image.open(BytesIO(png)).convert("RGB")
    written = BytesIO()
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


@contextmanager
def _folder(home: Path | None) -> Iterator[Path]:
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
        yield home.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="asym-pictures-"))
    made.chmod(0o711)  # Postgres runs as another user when we are root
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _platform(home: Path) -> Iterator[str]:
    """The address of a dashboard, with all that is behind it."""
    api_port, dashboard_port = _free_ports(2)
    (home / "dashboard-secrets.toml").write_text(SECRETS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    command = [sys.executable, "-m", "client", "up", "--api-port", str(api_port)]
    command += ["--dashboard-port", str(dashboard_port)]
    log = (home / "up.log").open("ab")
    up = subprocess.Popen(
        command, cwd=ROOT, env=environment | {"ASYM_HOME": str(home)}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 180
        while not _answers(home, api_port):
            if up.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the platform did not start: {home / 'up.log'}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{dashboard_port}"
    finally:
        up.terminate()
        up.wait()
        log.close()


def _answers(home: Path, port: int) -> bool:
    if not (home / "credentials.json").exists():
        return False
    try:
        with Asym(home=home, retries=0) as asym:
            return asym.api_url.endswith(f":{port}") and asym.ready()
    except Unreachable:
        return False


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
