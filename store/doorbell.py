"""The doorbell: a Celery broadcast that says only "there is work". The rows of `jobs` are the truth.

A lost, doubled or late ring changes nothing: workers look into the database, and the sweeper rings again. So a broker
that is away is logged and never an error.
"""

import logging
from functools import lru_cache

from celery import Celery
from kombu.common import Broadcast
from kombu.entity import Exchange
from kombu.exceptions import OperationalError

DOORBELL_TASK = "asym.doorbell"
DOORBELL_EXCHANGE = "asym.doorbell"
_SECONDS = 2.0

_log = logging.getLogger(__name__)


def doorbell_app(broker_url: str) -> Celery:
    """The Celery application of both sides. A worker that consumes its queues hears every ring from then on."""
    app = Celery("asym", broker=broker_url, set_as_current=False)
    app.conf.update(
        # JSON only: a broker that somebody else can write to must not be able to run code here.
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_queues=[Broadcast(DOORBELL_EXCHANGE)],  # type: ignore[no-untyped-call]
        task_default_queue=DOORBELL_EXCHANGE,
        task_create_missing_queues=False,
        task_acks_late=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=_SECONDS,
        broker_transport_options={"socket_connect_timeout": _SECONDS, "socket_keepalive": True},
        enable_utc=True,
        worker_hijack_root_logger=False,
    )
    return app


def ring(broker_url: str) -> bool:
    """Tell every worker that there is work. False, and a warning in the log, when the broker is away."""
    exchange = Exchange(DOORBELL_EXCHANGE, type="fanout")  # type: ignore[no-untyped-call]
    try:
        _publisher(broker_url).send_task(
            DOORBELL_TASK,
            exchange=exchange,
            # Undeclared, the transport would take the exchange for a direct one and publish to nobody.
            declare=[exchange],
            # What Celery binds the workers' queues with; the Redis transport makes it part of the channel's name.
            routing_key=DOORBELL_EXCHANGE,
            ignore_result=True,
            retry=False,
        )
    except (OperationalError, OSError) as error:
        _log.warning("could not ring the doorbell (the sweeper will): %s", error)
        return False
    return True


def ping(broker_url: str) -> None:
    """One round trip to the broker. OSError or kombu.exceptions.OperationalError when it is away."""
    with _publisher(broker_url).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=_SECONDS, reraise_as_library_errors=True)


@lru_cache(maxsize=8)
def _publisher(broker_url: str) -> Celery:
    app = doorbell_app(broker_url)
    options = {**app.conf.broker_transport_options, "socket_timeout": _SECONDS}
    app.conf.update(broker_transport_options=options)
    return app
