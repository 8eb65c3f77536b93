"""What has a main process left behind?

Its children may outlive it: workers that hold its port, helpers that it forked twice. With control groups the
kernel says which they are. Without, they are found by what they inherited: the session, or the names that a
service's environment has; one that has shed both is not found, and is reaped when it ends.
"""

from __future__ import annotations

import os

from gimli import heartbeat, process
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.process import ProcessId

_ENDED = frozenset({"Z", "X", ""})


@value
class Survey:
    """Processes by what they inherited from a service."""

    services: dict[str, list[int]]
    """Those with this monitor's bell in their environment, by the service's name there."""
    sessions: dict[int, list[int]]

    def of(self, service: str, leader: int) -> set[int]:
        """All that may belong to a service with this main process."""
        return {*self.services.get(service, ()), *self.sessions.get(leader, ())}

    def leaders(self, service: str) -> list[int]:
        """Those that lead a session, as a main process does."""
        return [pid for pid in self.services.get(service, ()) if pid in self.sessions.get(pid, ())]


def survey(pids: Iterable[int], bell_path: str, owners: frozenset[int]) -> Survey:
    """Look at processes.

    Args:
        pids: which.
        bell_path: of this monitor.
        owners: the users that services run as. Anybody can give a process of theirs any environment.
    """
    services: dict[str, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for pid in pids:
        session = process.session_of(pid)
        if session is None or pid == os.getpid():
            continue
        sessions.setdefault(session, []).append(pid)
        marks = process.environment(pid) if process.owner_of(pid) in owners else {}
        if marks.get(heartbeat.ENV_BELL) == bell_path:
            services.setdefault(marks.get(heartbeat.ENV_SERVICE, ""), []).append(pid)
    return Survey(services, sessions)


def orphans(expected: set[int]) -> list[int]:
    """Our children but those expected, and all below them: what main processes have left to us."""
    found: list[int] = []
    below = [pid for pid in process.children_of(os.getpid()) if pid not in expected]
    while below:
        found += below
        below = [child for pid in below for child in process.children_of(pid) if child not in found]
    return found


def living(pids: Iterable[int]) -> list[ProcessId]:
    """Those of ``pids`` that run."""
    found = (process.identify(pid) for pid in sorted(pids) if process.state_of(pid) not in _ENDED)
    return [each for each in found if each is not None]
