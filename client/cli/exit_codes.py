"""How `asym` ends: one number per kind of end, for scripts, and a next step for people. docs/sdk.md has the table."""

from client.errors import AsymError, NoCredentials, Unreachable

DONE = 0
"""What was asked for is done; of a job that was watched: it succeeded."""
FAILED = 1
"""The job failed or was cancelled, or this machine or the server could not do what was asked."""
USAGE = 2
"""The command was used wrongly, or a spec, file or value is not valid: as it is, it will never be accepted."""
NO_API = 3
"""The API cannot be reached, none is known here, or (`asym up`) the platform is already up."""
NO_ACCESS = 4
"""There is no such thing, or not for this key."""
NOT_NOW = 5
"""Refused in the state that things are in, or for now: a conflict, a limit, too many requests."""
INTERRUPTED = 130
"""Ctrl-C. Jobs go on."""

_BY_STATUS = {401: NO_ACCESS, 403: NO_ACCESS, 404: NO_ACCESS, 409: NOT_NOW, 412: NOT_NOW, 423: NOT_NOW, 429: NOT_NOW}


def code_of(error: AsymError) -> int:
    if isinstance(error, Unreachable | NoCredentials):
        return NO_API
    if error.status in _BY_STATUS:
        return _BY_STATUS[error.status]
    return USAGE if error.status is not None and 400 <= error.status < 500 else FAILED


def next_step(error: AsymError) -> str | None:
    """What to do about it, where the error does not say so itself."""
    match error.status:
        case 401:
            return (
                "set ASYM_API_KEY to a valid key: an admin makes one with `asym keys create NAME`; the first one is in "
                "ASYM_HOME/credentials.json, which `asym up` writes"
            )
        case 403:
            return "an admin can do it, or give you a key with another role: `asym keys create NAME --role ROLE`"
        case 404:
            return "`asym jobs`, `asym datasets list` and `asym sweeps list` show what there is for this key's team"
        case 429 if error.retry_after:
            return f"try again in {error.retry_after:.0f} s"
        case _:
            return None
