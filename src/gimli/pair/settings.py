"""Which settings of the kernel have we changed, and what were they before?

What a setting was is written to a file before it is changed, so that a daemon that was killed does not take
its predecessor's values for the host's own. The file belongs into the runtime directory: it ends with the
boot, as the settings do.
"""

from __future__ import annotations

import contextlib
import json
import os

_ROOT = "/proc/sys/net"


class Settings:
    """Values below ``net``, named as ``ipv4/conf/lan0/arp_ignore``.

    Args:
        path: the file that remembers.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._changed: dict[str, tuple[str, str]] = {}
        """Name: what it was, what we made it."""
        # A file that is not as we write it remembers nothing.
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, AttributeError):
            self._changed = _remembered(path)

    def set(self, name: str, value: str) -> None:
        """Make a setting what it is to be, and remember what it was.

        Raises:
            OSError: the kernel has no such setting, or refuses the value.
        """
        present = read(name)
        if present == value:
            return
        before = self._changed.get(name, (present, ""))[0]
        self._changed[name] = (before, value)
        self._save()
        _write(name, value)

    def raise_to(self, name: str, value: int) -> None:
        """Make a setting at least ``value``."""
        if int(read(name)) < value:
            self.set(name, str(value))

    def restore(self) -> None:
        """Give every setting back its value, unless somebody else has changed it since."""
        for name, (before, ours) in self._changed.items():
            with contextlib.suppress(OSError):  # its interface is gone
                if read(name) == ours:
                    _write(name, before)
        self._changed.clear()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _save(self) -> None:
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(self._changed, file)
        os.replace(f"{self._path}.new", self._path)


def _remembered(path: str) -> dict[str, tuple[str, str]]:
    with open(path, encoding="utf-8") as file:
        return {name: (before, ours) for name, (before, ours) in json.load(file).items()}


def read(name: str) -> str:
    """A setting's value.

    Raises:
        OSError: the kernel has no such setting.
    """
    with open(f"{_ROOT}/{name}", encoding="ascii") as file:
        return file.read().strip()


def exists(name: str) -> bool:
    """Whether the kernel has such a setting."""
    return os.path.exists(f"{_ROOT}/{name}")


def _write(name: str, value: str) -> None:
    with open(f"{_ROOT}/{name}", "w", encoding="ascii") as file:
        file.write(value)
