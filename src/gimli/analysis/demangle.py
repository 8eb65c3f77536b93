"""How does a function's linker name read in its language?

By the C++ runtime's own function when it is installed: mangled names of C++, and of Rust in its older
scheme, which looks like C++ with a hash at the end. Any other name stays as it is.
"""

from __future__ import annotations

import ctypes
import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
_NAME_CHARS_MAX = 4096


def demangle(name: str) -> str:
    """``shop::Order::total() const`` of ``_ZNK4shop5Order5totalEv``."""
    if not name.startswith("_Z") or len(name) > _NAME_CHARS_MAX or "\0" in name:
        return name
    return _RUST_HASH.sub("", _cxa_demangle(name) or name)


@functools.cache
def _runtime() -> Callable[..., int | None] | None:
    try:
        function = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    return function


def _cxa_demangle(name: str) -> str | None:
    """The demangled name, which the runtime allocates and we free."""
    demangle_name = _runtime()
    if demangle_name is None:
        return None
    status = ctypes.c_int()
    made = demangle_name(name.encode(errors="replace"), None, None, ctypes.byref(status))
    if not made:
        return None
    text = ctypes.string_at(made).decode(errors="replace")
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    free(made)
    return text
