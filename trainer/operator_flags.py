"""The flags by which an operator allows verifiers beyond this package's: the same for training and evaluation."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from trainer.rewards import Permits
from trainer.spec.operator import SANDBOXES, parse_http_verifiers, parse_networks, split_http_verifiers


def add_operator_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--http-verifier",
        action="append",
        metavar="NAME=URL",
        help="an endpoint that reward.kind http:NAME may name (default: ASYM_HTTP_VERIFIERS, comma separated)",
    )
    parser.add_argument(
        "--sandbox",
        choices=SANDBOXES,
        help="what confines the code of reward.kind python, which is refused without one (default: ASYM_SANDBOX)",
    )


def read_operator_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """`arguments.http_verifiers` and `arguments.sandbox`, from the flags or the environment; a wrong one ends it."""
    pairs = arguments.http_verifier
    try:
        arguments.http_verifiers = parse_http_verifiers(
            split_http_verifiers(os.environ.get("ASYM_HTTP_VERIFIERS", "")) if pairs is None else pairs
        )
    except ValueError as error:
        parser.error(str(error))
    # Of the environment only: a secret has no place in a list of processes.
    arguments.signing_secret = os.environ.get("ASYM_OUTGOING_SECRET") or None
    try:
        arguments.networks = parse_networks(os.environ.get("ASYM_OUTGOING_NETWORKS", ""))
    except ValueError as error:
        parser.error(f"ASYM_OUTGOING_NETWORKS: {error}")
    if arguments.sandbox is None:
        arguments.sandbox = os.environ.get("ASYM_SANDBOX") or None
    if arguments.sandbox not in (None, *SANDBOXES):
        parser.error(f"ASYM_SANDBOX must be one of: {', '.join(SANDBOXES)}")


def permits(arguments: argparse.Namespace, private: Sequence[Path]) -> Permits:
    """What the operator allows. `private`: folders that the sandbox must hide."""
    return Permits(
        arguments.http_verifiers,
        tuple(arguments.networks),
        arguments.signing_secret,
        arguments.sandbox,
        tuple(private),
    )
