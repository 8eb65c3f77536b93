"""What has a main process left behind?

Its children may outlive it: workers that hold its port, helpers that it forked twice. With control groups the
kernel says which they are. Without, they are found by what they inherited: the names that a service's
environment has, or its session; one that has shed both is not found, and is reaped when it ends.
"""

from __future__ import annotations

import os

from gimli import heartbeat, process
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.monitor.kernel import Kernel
    from gimli.monitor.site import Site
    from gimli.monitor.spawned import Spawned
    from gimli.process import ProcessId

_ENDED = frozenset({"Z", "X", ""})


@value
class Survey:
    """Processes by what they inherited from a service."""

    services: dict[str, list[int]]
    """Those with this monitor's bell in their environment, by the service's name there."""
    mains: dict[str, list[int]]
    """Those of them that are the main process: what that has forked has its environment, but not its pid."""
    sessions: dict[int, list[int]]

    def strangers(self, service: str) -> set[int]:
        """Those of other services."""
        return {pid for name, pids in self.services.items() if name != service for pid in pids}


def find_leftovers(site: Site, service: str, ended: Spawned) -> tuple[set[int], set[int]]:
    """What the main process of a service has left, running or not.

    Args:
        site: of the service.
        service: its name.
        ended: the main process; of pid 0 where nobody knows which that was.

    Returns:
        Those that are the service's; and those of which only the number of their session says so. When all
        have left a session, a stranger may get its number; while one in it is the service's, all are.

    Raises:
        OSError: they cannot be seen now.
    """
    kernel = site.kernel
    members = kernel.group_members(service)
    if ended.grouped and members is not None:
        return set(members), set()
    # The orphans of our own child are ours now. Where a dead monitor started it, they are anybody's.
    orphans = set(kernel.orphans(site.loop.children))
    found = kernel.survey(site.bell_path, None if ended.adopted else orphans)
    leader = ended.leader or ended.pid
    session = set(found.sessions.get(leader, ()) if leader else ()) - found.strangers(service)
    certain = {*(members or ()), *found.services.get(service, ()), *(session & orphans)}
    files = [os.path.join(site.instance_dir, service + suffix) for suffix in (".page", ".out")]
    if certain & session or any(kernel.holds(pid, files) for pid in session):
        return certain | session, set()
    return certain, session


def look_around(kernel: Kernel, bell_path: str) -> Survey | None:
    """All processes, by what they inherited; None where they cannot be seen now."""
    try:
        return kernel.survey(bell_path)
    except OSError:
        return None


def survey(pids: Iterable[int], bell_path: str, owners: frozenset[int]) -> Survey:
    """Look at processes.

    Args:
        pids: which.
        bell_path: of this monitor.
        owners: the users that services run as. Anybody can give a process of theirs any environment.

    Raises:
        OSError: no descriptor is left to look with.
    """
    if not (pids := list(pids)):
        return Survey({}, {}, {})
    check_sight()
    services: dict[str, list[int]] = {}
    mains: dict[str, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for pid in pids:
        session = process.session_of(pid)
        if session is None or pid == os.getpid():
            continue
        sessions.setdefault(session, []).append(pid)
        marks = process.environment(pid) if process.owner_of(pid) in owners else {}
        if marks.get(heartbeat.ENV_BELL) == bell_path:
            name = marks.get(heartbeat.ENV_SERVICE, "")
            services.setdefault(name, []).append(pid)
            if marks.get(heartbeat.ENV_SERVICE_PID) == str(pid):
                mains.setdefault(name, []).append(pid)
    return Survey(services, mains, sessions)


def orphans(expected: set[int]) -> list[int]:
    """Our children but those expected, and all below them: what main processes have left to us.

    Raises:
        OSError: no descriptor is left to look with.
    """
    check_sight()
    found: list[int] = []
    below = [pid for pid in process.children_of(os.getpid()) if pid not in expected]
    while below:
        found += below
        below = [child for pid in below for child in process.children_of(pid) if child not in found]
    return found


def living(pids: Iterable[int]) -> list[ProcessId]:
    """Those of ``pids`` that run.

    Raises:
        OSError: no descriptor is left to look with.
    """
    if not (pids := sorted(pids)):
        return []
    check_sight()
    found = (process.identify(pid) for pid in pids if process.state_of(pid) not in _ENDED)
    return [each for each in found if each is not None]


def check_sight() -> None:
    """A file of /proc that cannot be opened looks like a process that is gone.

    Raises:
        OSError: nothing can be opened now.
    """
    os.close(os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC))
