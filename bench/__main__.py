"""python -m bench NAME ...: hands over to the instrument of that name."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

INSTRUMENTS = {
    "step": "bench.step.driver",
    "profile": "bench.profile",
    "machine": "bench.machine",
    "claims": "bench.claims",
    "recovery": "bench.recovery",
    "load": "bench.load",
    "sampling": "bench.sampling",
    "api": "bench.api.driver",
    "dashboard": "bench.dashboard.driver",
}


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in INSTRUMENTS:
        names = " | ".join(INSTRUMENTS)
        print(f"usage: python -m bench {{{names}}} ...   (each has --help)", file=sys.stderr)
        return 2
    run: Callable[[Sequence[str]], int] = import_module(INSTRUMENTS[arguments[0]]).main
    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
