"""What has a main process left behind?

Its children may outlive it: workers that hold its port, helpers that it forked twice. With control groups the
kernel says which they are. Without, they are found by what they inherited: the session, or the names that a
service's environment has; one that has shed both is not found, and is reaped when it ends.
"""

from __future__ import annotations

import os

from gimli import heartbeat, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.process import ProcessId

_ENDED = frozenset({"Z", "X", ""})


def find_leftovers(
    members: Iterable[int] | None, leader: int, service: str, bell_path: str, expected: set[int] | None
) -> list[ProcessId]:
    """The living processes of a service whose main process has ended.

    Args:
        members: of its control group; None where there are no groups.
        leader: the pid of the main process.
        service: its name.
        bell_path: the monitor's bell, which makes the name unique.
        expected: children of ours that are somebody else; orphans of a main process that was our child are
            ours now. None: it was not our child, and its orphans may be anybody's.
    """
    pids = set(members or ())
    if members is None or expected is None:  # a dead monitor may have had no groups where this one has
        orphans = process.all_pids() if expected is None else _descendants(expected)
        pids |= {pid for pid in orphans if _is_of(pid, leader, service, bell_path)}
    living = (process.identify(pid) for pid in sorted(pids) if process.state_of(pid) not in _ENDED)
    return [found for found in living if found is not None]


def _descendants(expected: set[int]) -> list[int]:
    """Our children but those expected, and all below them."""
    found: list[int] = []
    below = [pid for pid in process.children_of(os.getpid()) if pid not in expected]
    while below:
        found += below
        below = [child for pid in below for child in process.children_of(pid) if child not in found]
    return found


def _is_of(pid: int, leader: int, service: str, bell_path: str) -> bool:
    if pid == os.getpid():
        return False
    if process.session_of(pid) == leader:
        return True
    marks = process.environment(pid)
    return marks.get(heartbeat.ENV_SERVICE) == service and marks.get(heartbeat.ENV_BELL) == bell_path
