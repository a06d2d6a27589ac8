"""A page in Chromium, watched from outside: its first chart, what comes over its socket, how long it is busy."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

CHROMIUM = os.environ.get("ASYM_CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
DRAWN = ".asym-chart[data-builds]"
QUIET = 0.3
"""Seconds without a message after which an exchange is over: much less than lies between two refreshes."""

_WATCH_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => { for (const task of list.getEntries()) window.longTasks.push(task.duration); })
  .observe({ type: "longtask", buffered: true });
"""


@dataclass
class Exchange:
    """What the browser asked for and all that came of it."""

    asked: float
    answered: float = 0.0
    received: int = 0
    """Bytes."""

    @property
    def seconds(self) -> float:
        return self.answered - self.asked


@dataclass
class Watched:
    """A stretch of time on a page that refreshes itself."""

    seconds: float
    exchanges: list[Exchange]
    long_tasks: float
    """Seconds in tasks of the browser's main thread of more than 50 ms."""

    @property
    def bytes_per_second(self) -> float:
        return sum(each.received for each in self.exchanges) / self.seconds


@dataclass
class Visit:
    page: Page
    exchanges: list[Exchange] = field(default_factory=list)

    def open(self, address: str) -> float:
        """Seconds until the first chart is drawn."""
        began = time.perf_counter()
        self.page.goto(address, wait_until="commit")
        self.page.wait_for_selector(DRAWN, timeout=60_000)
        return time.perf_counter() - began

    def watch(self, seconds: float) -> Watched:
        self.page.evaluate("window.longTasks.length = 0")
        self.exchanges.clear()
        began = time.perf_counter()
        self.page.wait_for_timeout(1000 * seconds)
        took = time.perf_counter() - began
        busy = sum(self.page.evaluate("window.longTasks")) / 1000
        return Watched(took, [each for each in self.exchanges if each.received], busy)

    def sent(self, _payload: object) -> None:
        now = time.perf_counter()
        last = self.exchanges[-1] if self.exchanges else None
        if last is None or now - max(last.answered, last.asked) > QUIET:
            self.exchanges.append(Exchange(now))

    def received(self, payload: str | bytes) -> None:
        if self.exchanges:
            self.exchanges[-1].answered = time.perf_counter()
            self.exchanges[-1].received += len(payload)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser) -> Iterator[Visit]:
    """A browser that has seen nothing yet."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.add_init_script(_WATCH_TASKS)
    found = Visit(context.new_page())

    def listen(socket: WebSocket) -> None:
        socket.on("framesent", found.sent)
        socket.on("framereceived", found.received)

    found.page.on("websocket", listen)
    yield found
    context.close()
