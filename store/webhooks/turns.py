"""Whoever delivers takes a webhook on for a turn, tells it what is due, one thing after the other, and writes down how
that went. Any number of processes share the work.

A turn is a lease on the webhook, by the database's clock, with a number that grows: whoever comes with an older number
(it stood still for too long, and somebody else has taken over) changes nothing any more. So there are never two at one
webhook, its deliveries come in the order in which they were written, and one that does not answer holds up nobody but
itself. A process that dies between a call and its entry leaves the delivery as it was, due again once its lease is
over: everything is told at least once.

For the tables' owner: no team asks here.
"""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from store.models import Webhook
from store.webhooks.hooks import fail_pending

TURN_SECONDS = 60.0
"""The lease. A delivery that was begun and of which nobody heard again is tried anew after as long."""
MOST_TRIES = 16
"""Over a day and a half, on the average."""
FIRST_WAIT_SECONDS = 5.0
"""Before the second try; before each further one twice as long, up to a day."""
LONGEST_WAIT_SECONDS = 86_400.0
HOLDS_ITS_JOB = 4
"""Before its so manieth try has failed, a delivery holds back the later ones of its job, so that they come in order."""
SWITCH_OFF_AFTER_HOURS = 12
"""A webhook is switched off when a delivery has used up its tries and none has succeeded for so long."""
KEPT_DAYS = 30
"""For so long deliveries can be looked at, and be made again."""
_PRUNED_AT_ONCE = 1000
GONE = 410
"""With this status a receiver says that it is not to be called again."""


@dataclass(frozen=True)
class Turn:
    hook_id: str
    team_id: str
    number: int


@dataclass(frozen=True)
class Due:
    """What is to be told now, and to whom."""

    id: int
    event: str
    data: dict[str, Any]
    job_id: str | None
    tries: int
    """With this one."""
    url: str
    secret_version: int
    old_secret: bool
    """Whether the version before signs, too."""


@dataclass(frozen=True)
class Outcome:
    """Of one try."""

    answer: int | None
    """The HTTP status; None when there was no answer."""
    error: str | None
    """None: it was delivered."""
    retry_after: float = 0.0
    """Seconds that the receiver asks for."""


_DUE = f"""
SELECT due.id FROM webhook_deliveries AS due
WHERE due.hook_id = webhooks.id AND due.status = 'pending' AND due.due_at <= clock_timestamp()
  AND NOT EXISTS (
      SELECT FROM webhook_deliveries AS earlier
      WHERE earlier.hook_id = due.hook_id AND earlier.job_id = due.job_id AND earlier.status = 'pending'
        AND earlier.id < due.id AND earlier.tries < {HOLDS_ITS_JOB}
  )
"""  # noqa: S608 - composed of constants

_BEGIN = text(f"""
UPDATE webhooks SET turn = turn + 1, busy_until = clock_timestamp() + make_interval(secs => :seconds)
WHERE id = (
    SELECT id FROM webhooks
    WHERE active AND deleted_at IS NULL AND (busy_until IS NULL OR busy_until <= clock_timestamp())
      AND team_id <> ALL (CAST(:but AS text[])) AND EXISTS ({_DUE})
    ORDER BY busy_until NULLS FIRST, id LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, team_id, turn
""")  # noqa: S608 - composed of constants

_TAKE = text(f"""
UPDATE webhook_deliveries AS taken SET
    tries = taken.tries + 1, tried_at = clock_timestamp(),
    due_at = clock_timestamp() + make_interval(secs => :seconds)
FROM webhooks
WHERE webhooks.id = :hook_id AND webhooks.turn = :turn AND webhooks.active AND webhooks.deleted_at IS NULL
  AND taken.id = ({_DUE} ORDER BY due.id LIMIT 1) AND taken.status = 'pending'
RETURNING taken.id, taken.event, taken.data, taken.job_id, taken.tries, webhooks.url, webhooks.secret_version,
          coalesce(webhooks.old_secret_until > clock_timestamp(), false) AS old_secret
""")  # noqa: S608 - composed of constants

# Locks the webhook before the delivery, as everybody does.
_HOLD = text("""
SELECT failing_since, coalesce(failing_since < clock_timestamp() - make_interval(hours => :hours), false) AS for_long
FROM webhooks WHERE id = :hook_id AND turn = :turn AND deleted_at IS NULL FOR NO KEY UPDATE
""")
_SETTLE = text("""
UPDATE webhook_deliveries SET
    status = CAST(:status AS text), answer = :answer, error = :error,
    due_at = clock_timestamp() + make_interval(secs => :wait),
    delivered_at = CASE WHEN CAST(:status AS text) = 'delivered' THEN clock_timestamp() END
WHERE id = :id AND hook_id = :hook_id AND tries = :tries AND status = 'pending'
""")
_NOTE = text("""
UPDATE webhooks SET failing_since = CASE WHEN :failed THEN coalesce(failing_since, clock_timestamp()) END
WHERE id = :hook_id
""")
_END = text("UPDATE webhooks SET busy_until = clock_timestamp() WHERE id = :hook_id AND turn = :turn")
_PRUNE = (
    text(
        "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries ORDER BY id LIMIT :most) "
        "AND created_at < clock_timestamp() - make_interval(days => :days) AND status <> 'pending'"
    ),
    text(
        "DELETE FROM webhook_deliveries WHERE id = ANY (ARRAY(SELECT gone.id FROM webhook_deliveries AS gone "
        "JOIN webhooks ON webhooks.id = gone.hook_id WHERE webhooks.deleted_at IS NOT NULL LIMIT :most))"
    ),
    text(
        "DELETE FROM webhooks WHERE deleted_at IS NOT NULL "
        "AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE hook_id = webhooks.id)"
    ),
)
_WAITING = text("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'")


def begin(session: Session, busy_teams: list[str]) -> Turn | None:
    """Take on the webhook with something due that nobody is at and that was served longest ago; None: there is none.

    busy_teams: whose webhooks are not to be taken now, for enough of theirs are being served.
    """
    row = session.execute(_BEGIN, {"seconds": TURN_SECONDS, "but": busy_teams}).one_or_none()
    return None if row is None else Turn(row.id, row.team_id, row.turn)


def take(session: Session, turn: Turn) -> Due | None:
    """What is to be told next; None when nothing is due, or the webhook is no longer ours, or off, or gone."""
    values = {"hook_id": turn.hook_id, "turn": turn.number, "seconds": TURN_SECONDS}
    row = session.execute(_TAKE, values).one_or_none()
    if row is None:
        return None
    return Due(row.id, row.event, row.data, row.job_id, row.tries, row.url, row.secret_version, row.old_secret)


def settle(session: Session, turn: Turn, due: Due, outcome: Outcome) -> str | None:
    """Write down how a try went: the delivery's status, or None when it is no longer this turn's to say.

    A receiver that is gone for good (410), or has failed for long, is switched off.
    """
    held = {"hook_id": turn.hook_id, "turn": turn.number}
    hook = session.execute(_HOLD, held | {"hours": SWITCH_OFF_AFTER_HOURS}).one_or_none()
    if hook is None:
        return None
    status = "delivered" if outcome.error is None else "pending"
    if status == "pending" and (due.tries >= MOST_TRIES or outcome.answer == GONE):
        status = "failed"
    wait = 0.0 if status != "pending" else max(wait_seconds(due.tries), min(outcome.retry_after, LONGEST_WAIT_SECONDS))
    values = {"id": due.id, "tries": due.tries, "status": status, "wait": wait}
    # Nothing is changed where somebody asked for a replay meanwhile: then it is told again.
    session.execute(_SETTLE, held | values | {"answer": outcome.answer, "error": outcome.error})
    session.execute(_NOTE, {"hook_id": turn.hook_id, "failed": outcome.error is not None})
    if outcome.answer == GONE:
        _switch_off(session, turn.hook_id, "the receiver answered 410 Gone: it is not to be called again")
    elif status == "failed" and hook.for_long:
        since: datetime = hook.failing_since
        _switch_off(
            session,
            turn.hook_id,
            f"nothing could be delivered since {since:%Y-%m-%d %H:%M} UTC, the last time because: {outcome.error}",
        )
    return status


def _switch_off(session: Session, hook_id: str, because: str) -> None:
    hook = session.get_one(Webhook, hook_id, with_for_update=True)
    hook.active, hook.switched_off_because = False, because
    session.flush()
    fail_pending(session, hook_id)


def end(session: Session, turn: Turn) -> None:
    """The webhook is free for whoever comes next."""
    session.execute(_END, {"hook_id": turn.hook_id, "turn": turn.number})


def wait_seconds(tries: int) -> float:
    """How long after so many tries the next one is made: doubling, and by chance up to half of it less, so that what
    failed together does not come back together."""
    longest = min(FIRST_WAIT_SECONDS * 2.0 ** (tries - 1), LONGEST_WAIT_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - nothing to guess here


def prune(session: Session) -> int:
    """Delete some of what is old, or belongs to deleted webhooks; how many rows."""
    values = {"most": _PRUNED_AT_ONCE, "days": KEPT_DAYS}
    done = [session.execute(statement, values).rowcount for statement in _PRUNE]  # type: ignore[attr-defined]
    return sum(done)


def waiting(session: Session) -> int:
    """How many deliveries are still to be made, of all teams together."""
    return int(session.scalar(_WAITING) or 0)
