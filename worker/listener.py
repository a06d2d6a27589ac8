"""The ear for the doorbell: a Celery worker in a thread, whose one task says only "look into the database".

Nothing depends on it. Without a broker it tries to connect for as long as it takes, while jobs run and the supervisor
looks by itself. It has a thread, not the process, so that no fault of it can end a job.
"""

import logging
import threading
from collections.abc import Callable

from celery import Celery
from celery.worker import WorkController
from celery.worker import state as celery_state

from store.doorbell import DOORBELL_TASK, doorbell_app

log = logging.getLogger(__name__)

_RESTART_SECONDS = 5.0


class Listener:
    def __init__(self, broker_url: str, on_ring: Callable[[], None]) -> None:
        """`on_ring` is called for every ring, and once when the first connection is made: one may have been missed."""
        self._app = _worker_app(broker_url)
        self._on_ring = on_ring

        def doorbell() -> None:
            on_ring()

        self._app.task(doorbell, name=DOORBELL_TASK)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Hang up. A listener that is still connecting is left behind after `timeout` seconds: it holds nothing."""
        self._stopping.set()
        celery_state.should_stop = 0  # 0 is the exit code; Celery's loop looks at it every second
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            controller = WorkController(
                app=self._app,
                pool_cls="solo",
                concurrency=1,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                ready_callback=lambda _consumer: self._on_ring(),
            )
            # Returns when stopped; Celery logs a fault of its own and returns too.
            controller.start()
            if not self._stopping.wait(_RESTART_SECONDS):
                log.warning("the doorbell's listener ended; starting it again")


def _worker_app(broker_url: str) -> Celery:
    app = doorbell_app(broker_url)
    app.conf.update(
        worker_pool="solo",
        worker_concurrency=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # for ever; the default gives up after a hundred
        broker_channel_error_retry=True,
        # The other value is deprecated and warns at each loss; the task takes microseconds either way.
        worker_cancel_long_running_tasks_on_connection_loss=True,
    )
    return app
