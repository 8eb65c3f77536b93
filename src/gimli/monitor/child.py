"""What does the machine know of a service? Its state, what is wanted of it, and what has befallen it."""

from __future__ import annotations

from enum import Enum

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Policy
    from gimli.process import ExitStatus


class State(Enum):
    """Where a service stands."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    CAPTURING = "capturing"
    STOPPING = "stopping"
    KILLING = "killing"
    BACKOFF = "backoff"
    FAILED = "failed"


LIVE = frozenset({State.STARTING, State.RUNNING, State.CAPTURING, State.STOPPING, State.KILLING})
"""States in which an instance exists, or is being made."""


class Wish(Enum):
    """What is wanted once the present instance has ended."""

    UP = "up"
    """Whatever the restart policy says."""
    AGAIN = "again"
    """A new instance, whatever the policy says: the operator asked for it."""
    DOWN = "down"


@value
class Child:
    """A service as the machine sees it."""

    policy: Policy
    state: State = State.DOWN
    wish: Wish = Wish.DOWN
    pid: int = 0
    reason: str | None = None
    """Why it is captured or was last brought down: crash, hang, request, or None."""
    failures: int = 0
    """Ends in a row without a healthy spell."""
    restarts: int = 0
    last_status: ExitStatus | None = None
    because: str = ""
    """Words for BACKOFF and FAILED."""
