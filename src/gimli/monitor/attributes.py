"""How are a program's user, umask and limits told to ``libgimli/attributes.c``?"""

from __future__ import annotations

import ctypes
import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Limit, Service


class _Limit(ctypes.Structure):
    """``struct gimli_limit``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("resource", ctypes.c_int),
        ("soft", ctypes.c_ulong),
        ("hard", ctypes.c_ulong),
    )


class Attributes(ctypes.Structure):
    """``struct gimli_attributes``."""

    _fields_ = (
        ("user", ctypes.c_char_p),
        ("groups", ctypes.POINTER(ctypes.c_uint)),
        ("groups_count", ctypes.c_size_t),
        ("uid", ctypes.c_uint),
        ("gid", ctypes.c_uint),
        ("umask", ctypes.c_int),
        ("limits", ctypes.POINTER(_Limit)),
        ("limits_count", ctypes.c_size_t),
    )


def pack(service: Service) -> Attributes:
    """The attributes of a service as C takes them."""
    limits = (_Limit * len(service.limits))(*map(_limit, service.limits))
    umask = -1 if service.umask is None else service.umask
    if (who := service.identity) is None:
        return Attributes(None, None, 0, 0, 0, umask, limits, len(limits))
    groups = (ctypes.c_uint * len(who.groups))(*who.groups)
    user = os.fsencode(f"user {who.user}")
    return Attributes(user, groups, len(groups), who.uid, who.gid, umask, limits, len(limits))


def rlim_t(limit: int) -> int:
    """A limit as the kernel counts: Python writes RLIM_INFINITY as -1."""
    return limit % 2**64


def _limit(limit: Limit) -> _Limit:
    number = getattr(resource, f"RLIMIT_{limit.name.upper()}")
    return _Limit(f"limit {limit.name}".encode(), number, rlim_t(limit.soft), rlim_t(limit.hard))
