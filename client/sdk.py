"""The SDK's classes under one name: written once for asyncio (client/_async), generated for everybody else (_sync)."""

from client._async.asym import AsyncAsym as AsyncAsym
from client._async.job_handle import AsyncJobHandle as AsyncJobHandle
from client._async.sweep_handle import AsyncSweepHandle as AsyncSweepHandle
from client._sync.asym import Asym as Asym
from client._sync.job_handle import JobHandle as JobHandle
from client._sync.sweep_handle import SweepHandle as SweepHandle
from client._sync.team import RoleName as RoleName
from client.clock import AsyncClock as AsyncClock
from client.clock import Clock as Clock
