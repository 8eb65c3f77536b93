"""How does what a monitor knows of a service become a document, and come back? Pure.

The document goes from one image of the monitor to the next through a memfd (``takeover``). The next image may
be of another version: every field is asked for by name, and what cannot be understood is an error while the
old image is still there to go on.
"""

from __future__ import annotations

from gimli.monitor.child import Child, State, Wish
from gimli.monitor.spawned import Spawned
from gimli.monitor.watchdog import Memory
from gimli.process import ExitStatus
from gimli.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.monitor.config import Policy


def pack_child(child: Child) -> dict[str, Any]:
    """A child without its policy, which comes with the configuration."""
    packed: dict[str, Any] = plain(child)
    del packed["policy"]
    return packed


def unpack_child(packed: dict[str, Any], policy: Policy) -> Child:
    """The inverse of :func:`pack_child`.

    Raises:
        KeyError, ValueError, TypeError: it was packed by a version too different from this one.
    """
    return Child(
        **packed
        | {
            "policy": policy,
            "state": State(packed["state"]),
            "wish": Wish(packed["wish"]),
            "last_status": unpack_status(packed["last_status"]),
        }
    )


def unpack_status(packed: dict[str, Any] | None) -> ExitStatus | None:
    """How a process ended."""
    return None if packed is None else ExitStatus(**packed)


def unpack_memory(packed: dict[str, Any]) -> Memory:
    """The watchdog's memory."""
    return Memory(**packed)


def unpack_spawned(packed: dict[str, Any] | None) -> Spawned | None:
    """The process, with its descriptors' numbers."""
    return None if packed is None else Spawned(**packed)
