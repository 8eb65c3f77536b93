"""What does a source file say at a line?

Source is read where the compiler or Python saw it; it may be gone or changed since, so it only helps to
word a finding. Files are read once, and large ones not at all.
"""

from __future__ import annotations

import functools
import os
import stat

_BYTES_MAX = 4 << 20


@functools.lru_cache(maxsize=64)
def source_text(path: str) -> str:
    """The whole file, or nothing when it is not a readable regular file of modest size."""
    try:
        # O_NONBLOCK: a path out of a core may name a FIFO, and opening one would wait for ever.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _BYTES_MAX:
            return ""
        return os.read(file, _BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(file)


def source_line(path: str | None, line: int | None) -> str:
    """One line without its indentation, or nothing."""
    if not path or not line or line < 1:
        return ""
    lines = source_text(path).splitlines()
    return lines[line - 1].strip() if line <= len(lines) else ""
