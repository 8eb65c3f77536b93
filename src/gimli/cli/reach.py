"""Can the user of a service reach what gimli gives it?

Root's own directories are often closed to others (a virtual environment below /root), and a program that runs
as another user then loads no libgimli and rings no bell: it would run, and its crashes would leave nothing.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import click

from gimli.value import replace

if TYPE_CHECKING:
    from gimli.monitor.config import Identity, Service


def without_unreachable(service: Service, library: str | None, instance_dir: str) -> Service:
    """The service, without the library if its user cannot read it; what is lost is said."""
    if not (who := service.identity):
        return service
    if closed := shut_out_at(instance_dir, who):
        _warn(service.name, who, closed, "its crashes and changes of state are noticed late or not at all")
    if library and service.preload and (closed := shut_out_at(library, who)):
        _warn(service.name, who, closed, "libgimli.so cannot be preloaded: crashes are seen, not captured")
        return replace(service, preload=False)
    return service


def shut_out_at(path: str, who: Identity) -> str | None:
    """The first part of an absolute path that a user may not pass, or for a file not read; None: all is open.

    What does not exist yet is taken as open: the monitor makes it so.
    """
    parts = path.split(os.sep)
    for end in range(1, len(parts) + 1):
        part = os.sep.join(parts[:end]) or os.sep
        try:
            info = os.stat(part)
        except OSError:
            return None
        wanted = stat.S_IXOTH if stat.S_ISDIR(info.st_mode) else stat.S_IROTH
        if who.uid != 0 and not _bits(info, who) & wanted:
            return part
    return None


def _bits(info: os.stat_result, who: Identity) -> int:
    """The three bits of a mode that count for a user."""
    if info.st_uid == who.uid:
        return info.st_mode >> 6
    return info.st_mode >> 3 if info.st_gid in {who.gid, *who.groups} else info.st_mode


def _warn(name: str, who: Identity, closed: str, loss: str) -> None:
    verb, bit = ("enter", "x") if os.path.isdir(closed) else ("read", "r")
    click.echo(
        f"gimli: {name}: user {who.user} may not {verb} {closed}: {loss}\n"
        f"  chmod o+{bit} {closed}, or put it where that user may",
        err=True,
    )
