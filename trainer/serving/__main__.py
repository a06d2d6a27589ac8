"""Sample from a model for whoever asks:  python -m trainer.serving MODEL --orders FD

Orders (trainer.spec.sampling.Order), one JSON object a line, are read from the file descriptor FD; answers go to stdout
as events (trainer.spec.events.Sampled). At the end of the orders, or at SIGTERM, what has been begun is finished.
"""

import argparse
import logging
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from trainer.__main__ import die_with_supervisor
from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.process import run_process
from trainer.spec import failpoints
from trainer.spec.events import EXIT_DONE, Done
from trainer.spec.job import EngineName
from trainer.spec.sampling import Order

if TYPE_CHECKING:
    from trainer.serving.sampler import Sampler

logger = logging.getLogger("trainer.serving")

_VERDICT_SECONDS = 0.02
"""How often to look for a verdict while there is nothing to draw."""

Orders = queue.SimpleQueue["Order | None"]


def main() -> int:
    arguments = _arguments()
    orders: Orders = queue.SimpleQueue()
    # put() is the one thing here that is safe inside a signal handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: orders.put(None))
    threading.Thread(target=die_with_supervisor, daemon=True).start()
    threading.Thread(target=_read, args=(arguments.orders, orders), name="orders", daemon=True).start()
    return run_process(lambda events: run(arguments, events, orders))


def run(arguments: argparse.Namespace, events: EventStream, orders: Orders) -> int:
    started = time.monotonic()
    # torch and transformers take seconds to import.
    import torch

    from trainer.models import ModelError, Policy, load_policy
    from trainer.serving.judging import Judge
    from trainer.serving.loading import load
    from trainer.serving.sampler import Sampler

    failpoints.hit("sampler.load")

    def loaded(device: torch.device) -> Policy:
        try:
            return load_policy(
                arguments.model,
                model_dir=arguments.model_dir,
                cache_dir=arguments.cache_dir,
                models_dir=arguments.models_dir,
                device=device,
            )
        except ModelError as error:
            raise RunError("model", str(error)) from error

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with load(arguments.engine, loaded, device, events) as (policy, drawing):
        sampler = Sampler(policy, drawing, events, Judge())
        seconds = time.monotonic() - started
        events.log(
            "info",
            "sampler_ready",
            f"{arguments.model} is loaded on {device} in {seconds:.1f} s, by {drawing.engine}",
            seconds=seconds,
        )
        serve(sampler, orders)
    events.emit(Done, step=0)
    return EXIT_DONE


def serve(sampler: "Sampler", orders: Orders) -> None:
    """Until the orders end and everything begun is answered."""
    going_on = True
    while going_on or not sampler.idle:
        wait = None if going_on and sampler.idle else 0.0 if sampler.draws else _VERDICT_SECONDS
        for order in _arrived(orders, wait):
            if order is None:
                going_on = False
            elif going_on:
                sampler.take(order)
        if sampler.draws:
            sampler.step()
        else:
            sampler.tell(now=True)


def _arrived(orders: Orders, wait: float | None) -> list[Order | None]:
    """What there is; for a first one this waits so long, None: as long as it takes."""
    found: list[Order | None] = []
    try:
        found.append(orders.get(timeout=wait) if wait != 0.0 else orders.get_nowait())
        while True:
            found.append(orders.get_nowait())
    except queue.Empty:
        return found


def _read(descriptor: int, orders: Orders) -> None:
    with os.fdopen(descriptor, encoding="utf-8") as lines:
        for line in lines:
            try:
                orders.put(Order.model_validate_json(line))
            except ValidationError as error:
                # Of another version of the platform, say. Whoever waits for the answer is told when its time is up.
                logger.error("an order cannot be read: %s", error)
    orders.put(None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="the model's id")
    parser.add_argument("--orders", type=int, required=True, metavar="FD", help="where orders come from")
    parser.add_argument("--model-dir", type=Path, help="the folder of the model (default: found by its id)")
    parser.add_argument("--engine", choices=get_args(EngineName), default="auto", help="what draws the samples")
    parser.add_argument("--cache-dir", type=Path, required=True, help="where builtin models are kept")
    parser.add_argument("--models-dir", type=Path, help="for path/NAME")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
