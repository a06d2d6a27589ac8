"""The real platform, part by part, with one finished and one long run on it, and Chromium to look at it."""

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from bench.dashboard import contents
from client import Asym
from store import leases
from store.access import Identity, Role
from store.database import Database
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STEPS = 24
ENDLESS = 100_000
FILLED_STEPS = 900
HOSTILE = "<img src=x onerror=alert(1)> **b** [l](http://evil.invalid)"
CONTRAST = Path(__file__).with_name("contrast.js").read_text()
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]

expect.set_options(timeout=30_000)


class Stack:
    """Postgres, Valkey, API, worker and dashboard under one home, each a process of its own."""

    def __init__(self, home, api_port, dashboard_port):
        self.home = home
        self.api_url = f"http://127.0.0.1:{api_port}"
        self.url = f"http://127.0.0.1:{dashboard_port}"
        self._ports = {"api": api_port, "dashboard": dashboard_port}
        self.provider = IdentityProvider()
        self._parts = {}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")} | {
            "ASYM_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "ASYM_OIDC_ISSUER": self.provider.issuer,
            "ASYM_OIDC_CLIENT_ID": CLIENT_ID,
        }
        (home / "dashboard-secrets.toml").write_text(
            "[auth]\n"
            f'redirect_uri = "{self.url}/oauth2callback"\n'
            'cookie_secret = "of this test, and longer than thirty-two bytes"\n'
            'expose_tokens = ["id"]\n'
            f'client_id = "{CLIENT_ID}"\nclient_secret = "{CLIENT_SECRET}"\n'
            f'server_metadata_url = "{self.provider.issuer}/.well-known/openid-configuration"\n'
        )

    def start(self, name, *arguments, **options):
        with (self.home / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", *arguments]
            self._parts[name] = subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=log, **options)
        return self._parts[name]

    def start_servers(self):
        servers = self.start(
            "embedded", "store.embedded", "--home", str(self.home), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        found = json.loads(servers.stdout.readline())
        self.environment |= {"ASYM_DATABASE_URL": found["database_url"], "ASYM_BROKER_URL": found["broker_url"]}
        urls = ["--api-url", self.api_url, "--dashboard-url", self.url]
        assert self.start("migrate", "store.migrate", *urls).wait(timeout=60) == 0

    def start_api(self):
        self.start("api", "api", "--port", str(self._ports["api"]))
        answering(f"{self.api_url}/readyz")

    @contextmanager
    def without_api(self):
        """The API is down within."""
        self.stop("api")
        try:
            yield
        finally:
            self.start_api()

    def start_dashboard(self):
        self.start("dashboard", "dashboard", "--port", str(self._ports["dashboard"]))
        answering(f"{self.url}/_stcore/health")

    def stop(self, name):
        part = self._parts.pop(name)
        if part.poll() is None:
            part.send_signal(signal.SIGTERM)
        try:
            part.wait(timeout=30)
        except subprocess.TimeoutExpired:
            part.kill()
            part.wait()
        for pipe in (part.stdin, part.stdout):
            if pipe is not None:
                pipe.close()

    def stop_all(self):
        for name in reversed(list(self._parts)):
            self.stop(name)
        self.provider.close()


def answering(url, seconds=60):
    def answers():
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, seconds, f"an answer from {url}")


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def stack(tmp_path_factory, models_cache, request):
    home = tmp_path_factory.mktemp("asym")
    (home / "models-cache").symlink_to(models_cache)
    stack = Stack(home, *free_ports(2))
    try:
        stack.start_servers()
        stack.start_api()
        stack.start("worker", "worker", "--name", "browser-tests")
        stack.start_dashboard()
        yield stack
    finally:
        stack.stop_all()
        if request.session.testsfailed:
            for log in sorted(home.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="module")
def api(stack):
    with Asym(home=stack.home) as api:
        yield api


@pytest.fixture(scope="module")
def submit(api, tmp_path_factory):
    """submit(name, steps, **sections): a small job on builtin/tiny-arith; its id."""
    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(7)
    datasets = {}
    for name, rows in (("train", 400), ("heldout", 20)):
        pairs = [(draw.randint(0, 99), draw.randint(0, 99)) for _ in range(rows)]
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) + "\n" for a, b in pairs))
        datasets[name] = api.upload_dataset(file)["id"]

    def submit(name, steps, **sections):
        spec = {
            "name": name,
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": datasets["train"]},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 8, "max_new_tokens": 6},
            "optim": {"lr": 1e-3, "prompts_per_step": 8},
            "train": {"steps": steps},
            "eval": [{"name": "heldout", "data": datasets["heldout"], "every": 8, "samples": 4, "k": [1, 2, 4]}],
            "diagnostics": {"every": 4},
            "checkpoint": {"every": 1000},
        }
        return api.create_job(spec | sections)["id"]

    return submit


@pytest.fixture(scope="module")
def finished(api, submit):
    """A run that has ended well."""
    job_id = submit("arith-finished", STEPS)
    job = api.wait(job_id, timeout=240)
    assert job["status"] == "succeeded", job
    return job_id


@pytest.fixture(scope="module")
def running(api, submit, finished):
    """A run that goes on for the whole session and has done some steps."""
    job_id = submit("arith-running", ENDLESS)
    wait_until(lambda: api.job(job_id)["progress"]["step"] >= 6, 120, f"step 6 of {job_id}", poll=0.2)
    yield job_id
    api.cancel(job_id)


class Runs:
    """Six runs that go on when they are told to: pairs of betas, and their curves."""

    def __init__(self, database, identity):
        self.database = database
        self.made = contents.sweep(database, identity, 6, FILLED_STEPS, status="running", dataset="ds_0")
        contents.fill(database, self.made, FILLED_STEPS, 6)
        contents.rollouts(database, self.made, 20)
        self.ids = [each.job_id for each in self.made]
        self.draw, self.batches, self.last = random.Random(0), itertools.count(1), FILLED_STEPS

    def go_on(self, steps=1):
        events = [contents.said(self.last + number + 1, self.draw) for number in range(steps)]
        batch = next(self.batches)
        for job_id in self.ids:
            with self.database.transaction() as session:
                leases.record(session, job_id, 1, events, [], batch=batch)
        self.last += steps


@pytest.fixture(scope="module")
def runs(stack, api):
    me = api.me()
    database = Database(stack.environment["ASYM_DATABASE_URL"])
    runs = Runs(database, Identity(me["key_id"], me["team_id"], Role.ADMIN))
    api.edit_job(runs.ids[0], name=HOSTILE)
    yield runs
    database.dispose()


def walk(page, key, text):
    """Press a key that shows something. Streamlit hears it once it is bound to its button, of which nothing tells."""
    page.keyboard.press(key)
    with contextlib.suppress(AssertionError):
        expect(page.get_by_text(text)).to_be_visible(timeout=10_000)
        return
    page.keyboard.press(key)
    expect(page.get_by_text(text)).to_be_visible()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        path = os.environ.get("ASYM_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh browser profile. Nothing it shows may reach beyond this machine, open a dialog or raise."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.asked, page.trouble = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("dialog", lambda dialog: (page.trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    yield page
    context.close()
    assert page.trouble == []
    elsewhere = [url for url in page.asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))]
    assert elsewhere == []
