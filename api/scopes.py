"""Which scope a request needs, by its method and path: one table, so that no route is without a rule.

What is not named here is a read when its method is one, and else a write to jobs.
"""

from store.access import Scope

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_WRITES = {
    "/datasets": Scope.DATASETS_WRITE,
    "/v1/files": Scope.DATASETS_WRITE,
    "/keys": Scope.KEYS_MANAGE,
    "/members": Scope.MEMBERS_MANAGE,
}
_ALWAYS = {"/keys": Scope.KEYS_MANAGE, "/audit": Scope.AUDIT_READ, "/webhooks": Scope.WEBHOOKS_MANAGE}
"""Also to read: a webhook's address may hold a password of the other side."""
_DRY_RUNS = frozenset({"/jobs/validate"})


def scope_of(method: str, path: str) -> Scope:
    """path: as requested, without the query."""
    if (always := _under(_ALWAYS, path)) is not None:
        return always
    if method in _READS or path in _DRY_RUNS:
        return Scope.READ
    return _under(_WRITES, path) or Scope.JOBS_WRITE


def _under(scopes: dict[str, Scope], path: str) -> Scope | None:
    return next((scope for root, scope in scopes.items() if path == root or path.startswith(f"{root}/")), None)
