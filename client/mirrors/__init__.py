"""Mirrors: what a job measures, told to a tracker beside the platform, under the same keys.

A mirror is a process of its own that reads the API as any client does (`asym mirror`). So a tracker that is slow, full
or gone never touches a run, a tracker's credentials stay with whoever runs the mirror, and a run can be mirrored when
it is long over.
"""

from client.mirrors.follow import Mirror
from client.mirrors.target import TargetError, open_tracker

__all__ = ["Mirror", "TargetError", "open_tracker"]
