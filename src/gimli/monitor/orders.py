"""How is one start of a program told to ``libgimli/spawn.c``? As one message: its ``struct orders``.

One text is encoded and copied once; a pointer for each part of it would cost a tenth of a restart.
"""

from __future__ import annotations

import errno
import os
import resource
import struct

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Limit, Service

_HEAD = struct.Struct("=QQ4i3i2I7I")
_LIMIT = struct.Struct("=QQI4x")
_GROUP = struct.Struct("=I")
_PLACED = struct.Struct("=ii")
_NUMBER_ROOM = "0" * 12
"""Room for a number that is known later, and the end of the text."""


@value
class Descriptors:
    """The monitor's, that a program is started with."""

    status: int
    """Told when it cannot be started."""
    page: int = -1
    """Its heartbeat page; -1: none."""
    record: int = -1
    """Its run record, locked; the child writes it. -1: nobody needs to find it again."""
    cgroup: int = -1
    """The control group it is born into; -1: the monitor's own."""
    placed: tuple[tuple[int, int], ...] = ()
    """Others, and the numbers under which the program has them."""


def pack_orders(
    service: Service,
    descriptors: Descriptors,
    environment: dict[str, str],
    *,
    own_pid: tuple[str, ...] = (),
    own_page: str = "",
    output_path: str | None,
    boot_id: str,
    descriptor_limit: tuple[int, int],
) -> bytes:
    """The message.

    Args:
        service: what to start.
        descriptors: with what.
        environment: the program's, whole.
        own_pid: further variables, that are to hold the program's own pid.
        own_page: a further one, that is to hold the number under which it finds its page; empty for none.
        output_path: where its output goes; None: where the monitor's does.
        boot_id: for the run record.
        descriptor_limit: how many files it may open, soft and hard.

    Raises:
        OSError: a text has a NUL in it.
    """
    who, limits, placed = service.identity, service.limits, descriptors.placed
    groups = who.groups if who else ()
    argv = (service.arg0 or service.command[0], *service.command[1:])
    texts = [
        boot_id,
        service.cwd or "",
        "" if service.inherit_stdin else os.devnull,
        output_path or "",
        service.command[0],
        f"user {who.user}" if who else "",
        *(f"limit {limit.name}" for limit in limits),
        *argv,
        *(f"{name}={_NUMBER_ROOM}" for name in (*own_pid, *([own_page] if own_page else []))),
        *(f"{name}={text}" for name, text in environment.items()),
        "",
    ]
    text = "\0".join(texts)
    if text.count("\0") != len(texts) - 1:
        raise OSError(errno.EINVAL, "an argument or a variable of its environment has a NUL in it")
    head = _HEAD.pack(
        *map(_rlim_t, descriptor_limit),
        descriptors.page,
        descriptors.status,
        descriptors.record,
        descriptors.cgroup,
        service.has_session,
        -1 if service.umask is None else service.umask,
        who is not None,
        who.uid if who else 0,
        who.gid if who else 0,
        len(limits),
        len(groups),
        len(placed),
        len(argv),
        len(own_pid) + bool(own_page) + len(environment),
        len(own_pid),
        bool(own_page),
    )
    arrays = [
        *map(_pack_limit, limits),
        *map(_GROUP.pack, groups),
        *(_PLACED.pack(fd, target) for fd, target in placed),
    ]
    return b"".join((head, *arrays, os.fsencode(text)))


def _pack_limit(limit: Limit) -> bytes:
    number = getattr(resource, f"RLIMIT_{limit.name.upper()}")
    return _LIMIT.pack(_rlim_t(limit.soft), _rlim_t(limit.hard), number)


def _rlim_t(limit: int) -> int:
    """A limit as the kernel counts: Python writes RLIM_INFINITY as -1."""
    return limit % 2**64
