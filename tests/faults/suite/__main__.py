"""Inject faults into a real platform:  ./dev test-faults [--faults N] [--real N] [--seed S] [--only KIND]

Prints the seed first: the same one gives the same schedule again. Exit status 1 when a promise was broken; the stack's
folder, with its logs and `schedule.log`, is kept then.
"""

import argparse
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.suite.invariants import Violation
from tests.faults.suite.kinds import KINDS, REAL_KINDS
from tests.faults.suite.run import Runner
from tests.faults.suite.stack import ROOT, Stack

MODELS_CACHE = ROOT / ".pytest_cache" / "d" / "models"
"""Where the fault tests keep builtin/tiny-arith once it is made, which takes a minute."""


def schedule(count: int, seed: int, only: str | None = None, *, real: int = 0) -> list[str]:
    """Names of kinds: each once, in an order of its own, before any comes again. `real` more use the real trainer."""
    chance = random.Random(seed)
    return _drawn(KINDS, count, chance, only) + _drawn(REAL_KINDS, real, chance, only)


def _drawn(kinds: Iterable[str], count: int, chance: random.Random, only: str | None) -> list[str]:
    names = [name for name in kinds if only is None or only in name]
    if not names:
        return []
    drawn: list[str] = []
    while len(drawn) < count:
        chance.shuffle(names)
        drawn += names
    return drawn[:count]


def run(folder: Path, kinds: Sequence[str], seed: int, *, again: str, workers: int = 2) -> Runner:
    """Violation when a promise was broken, in a message that says how to see it again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    real = any(kind in REAL_KINDS for kind in kinds)
    if real:
        MODELS_CACHE.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder, workers, port, MODELS_CACHE if real else None)
    try:
        runner = Runner(stack, seed)
        done: list[str] = []
        try:
            for kind in kinds:
                done.append(kind)
                runner.inject(kind, {**KINDS, **REAL_KINDS}[kind])
            runner.finish()
        except Violation as violation:
            raise Violation(f"{violation}\nfaults: {done}\nagain: {again}\nlogs: {folder}") from violation
        finally:
            runner.close()
    finally:
        stack.close()
    return runner


def report(runner: Runner, seconds: float) -> str:
    total = sum(runner.injected.values())
    ended = runner.known.ended.values()
    lines = [f"{count:5d}  {kind}" for kind, count in sorted(runner.injected.items())]
    lines.append(
        f"{total} faults in {seconds:.0f} s, {runner.known.checks} times every promise, "
        f"{len(runner.known.ended)} jobs ended ({sum(str(end[0]) == 'succeeded' for end in ended)} succeeded, "
        f"{sum(int(str(end[1])) for end in ended)} attempts), {runner.stack.restarts} processes started, "
        f"longest overdue lease {runner.known.longest_overdue:.1f} s"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev test-faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=320)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn")
    parser.add_argument("--real", type=int, default=10, help="so many more on the real trainer (default: 10)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", help="only kinds that have this in their name")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="asym-faults-"))
    began = time.monotonic()
    again = f"./dev test-faults --seed {seed} --faults {arguments.faults} --real {arguments.real}"
    again += f" --workers {arguments.workers}" + (f" --only '{arguments.only}'" if arguments.only else "")
    kinds = schedule(arguments.faults, seed, arguments.only, real=arguments.real)
    try:
        runner = run(folder, kinds, seed, again=again, workers=arguments.workers)
    except Violation as violation:
        print(f"BROKEN: {violation}", file=sys.stderr)
        return 1
    print(report(runner, time.monotonic() - began))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
