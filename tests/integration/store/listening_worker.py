"""A Celery worker for the doorbell's test: `listening_worker.py BROKER_URL FILE` adds a line to the file per ring.

A process of its own, as in production: Celery keeps its event loop in globals, so one process holds one worker.
"""

import sys
from pathlib import Path

from celery.worker import WorkController

from store import doorbell

broker_url, file = sys.argv[1], Path(sys.argv[2])
app = doorbell.doorbell_app(broker_url)


def listen():
    with file.open("a") as log:
        log.write("ring\n")


app.task(listen, name=doorbell.DOORBELL_TASK)
WorkController(
    app=app, pool_cls="solo", concurrency=1, without_gossip=True, without_mingle=True, without_heartbeat=True
).start()
