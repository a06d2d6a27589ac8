"""`python -m store.teams list|create|limits`: the operator's view of the teams.

Of the database of ASYM_DATABASE_URL, or of the `asym up` that runs in this home.

Limits are set here and never through the API: a team's own admin must not raise them.
"""

import argparse
import json
import sys
from dataclasses import asdict, fields

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from store import keys, usage
from store.access import Role
from store.database import Database
from store.embedded.running import with_running_servers
from store.errors import NotFound, SettingsError
from store.models import Team
from store.policy import UNLIMITED, Limits, Policy
from store.secret import server_secret
from store.settings import Settings

DEFAULT_WORD, UNLIMITED_WORD = "default", "unlimited"


def find(session: Session, name: str) -> Team:
    """By name or id. NotFound when there is none."""
    team = session.scalars(select(Team).where((Team.name == name) | (Team.id == name))).one_or_none()
    if team is None:
        raise NotFound("team", name)
    return team


def set_limits(session: Session, team: Team, limits: dict[str, int | None]) -> None:
    """By the names of `Limits`; None is the platform's default, -1 no limit. Takes effect with the next claim."""
    for name, value in limits.items():
        setattr(team, f"max_{name}", value)
    session.flush()


def describe(session: Session, team: Team, policy: Policy) -> dict[str, object]:
    own = {field.name: getattr(team, f"max_{field.name}") for field in fields(Limits)}
    return {
        "id": team.id,
        "name": team.name,
        "limits": asdict(usage.limits_of(session, team.id, policy)),
        "own": {
            name: UNLIMITED_WORD if value == UNLIMITED else value for name, value in own.items() if value is not None
        },
        "used": asdict(usage.used(session, team.id, policy)),
    }


def main() -> int:
    options = _parser().parse_args()
    try:
        settings = with_running_servers(Settings.from_environment())
        database = Database(settings.require_database_url(), pool_size=1)
        with database.transaction() as session:
            return _run(session, options, settings)
    except (SettingsError, NotFound) as error:
        print(f"teams: {error}", file=sys.stderr)
        return 2
    except IntegrityError:
        print(f"teams: there is a team {options.name!r} already", file=sys.stderr)
        return 1
    except OperationalError as error:
        print(f"teams: the database does not answer: {error.orig}", file=sys.stderr)
        return 1


def _run(session: Session, options: argparse.Namespace, settings: Settings) -> int:
    policy = settings.policy
    match options.command:
        case "list":
            for team in session.scalars(select(Team).order_by(Team.id)):
                _show(describe(session, team, policy))
        case "create":
            team = keys.create_team(session, options.name)
            set_limits(session, team, _given(options))
            _, plain = keys.create(session, team.id, "first admin key", Role.ADMIN, secret=server_secret(settings))
            _show(describe(session, team, policy) | {"key": plain})
            print("teams: the admin key is not shown again", file=sys.stderr)
        case "limits":
            team = find(session, options.name)
            set_limits(session, team, _given(options))
            _show(describe(session, team, policy))
    return 0


def _show(team: dict[str, object]) -> None:
    """One JSON object a line: for people short enough, and for jq."""
    print(json.dumps(team))


def _given(options: argparse.Namespace) -> dict[str, int | None]:
    return {
        field.name: _value(given) for field in fields(Limits) if (given := getattr(options, field.name)) is not None
    }


def _value(word: str) -> int | None:
    return {DEFAULT_WORD: None, UNLIMITED_WORD: UNLIMITED}[word] if not word.isdecimal() else int(word)


def _limit(word: str) -> str:
    if word not in (DEFAULT_WORD, UNLIMITED_WORD) and not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor {UNLIMITED_WORD!r} nor {DEFAULT_WORD!r}")
    return word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asym teams", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="as it is anyway: a JSON object a line")
    commands.add_parser("list", parents=[as_json], help="every team with its limits and its use, a JSON object each")
    for command, summary in (
        ("create", "a new team and its first admin key, which is shown this once"),
        ("limits", "set a team's limits; without any, show them"),
    ):
        one = commands.add_parser(command, parents=[as_json], help=summary)
        one.add_argument("name", help="the team's name" + (" or id" if command == "limits" else ""))
        for field, meaning in (
            ("running-gpus", "GPUs of its running jobs together"),
            ("queued-jobs", "jobs in the queue"),
            ("gpu-hours", "GPU-hours in a calendar month"),
            ("disk-bytes", "bytes of data sets and checkpoints"),
        ):
            one.add_argument(
                f"--{field}", type=_limit, metavar="N", help=f"{meaning}; or {UNLIMITED_WORD}, or {DEFAULT_WORD}"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
