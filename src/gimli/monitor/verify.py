"""Can this image go on from that state? Asked in a process of its own, before anything is given up.

The image that runs may be of another version than this one. It hands its state over; what this version
would make of it is made here, and thrown away.
"""

from __future__ import annotations

import json
import os

from gimli.monitor import config, packing
from gimli.monitor.actions import Timer
from gimli.monitor.evidence import Job
from gimli.monitor.requests import Awaited
from gimli.monitor.spawn import load_spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMAS = frozenset({2})
_TOP = ("started", "takeovers", "wished_again", "handed_ns", "lock_fd", "bell_fd", "descriptors")


def verify(document: bytes) -> int:
    """Say on standard output that the state is understood; or why not, on standard error.

    Returns:
        The exit status.
    """
    try:
        check_state(json.loads(document))
        load_spawner()
    except Exception as error:  # noqa: BLE001 - whatever it is, this image must not take over
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace"))
        return 1
    os.write(1, b'{"verified": true}\n')
    return 0


def check_state(state: dict[str, Any]) -> None:
    """Make what the takeover will make of a state.

    Raises:
        ValueError: it was packed by a version too different from this one.
        KeyError, TypeError: likewise; or the state is damaged.
    """
    if state["schema"] not in SCHEMAS:
        raise ValueError(f"the state has schema {state['schema']!r}, known are {sorted(SCHEMAS)}")
    told = config.unpack_monitor(state["config"])
    policies = {service.name: service.policy for service in told.services}
    for name in _TOP:
        state[name]
    for document in state["supervision"]["services"]:
        item = json.loads(document)
        policy = policies.get(item["name"]) or config.unpack_service(item["config"]).policy
        packing.unpack_child(item["child"], policy)
        packing.unpack_memory(item["vigil"]["memory"])
        packing.unpack_spawned(item["instance"]["spawned"])
        config.Log(**item["files"]["log"])
        for timer in item["timers"]:
            Timer(timer)
    for item in (*state["evidence"]["captures"], *state["evidence"]["analyses"]):
        Job(**item["job"])
    for client in state["control"]["connections"]:
        pending = client["pending"]
        if pending and "follow" not in pending:
            Awaited(**pending)
