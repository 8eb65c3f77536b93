"""Where does gimli keep its files?

State outlives a boot (reports, journals, logs); the runtime directory does not (sockets, pages, locks).
``/var/lib/gimli`` and ``/run/gimli`` for root, else the XDG directories; the environment overrides both.
"""

from __future__ import annotations

import os

from gimli.errors import StoreError

ENV_STATE_DIR = "GIMLI_STATE_DIR"
ENV_RUNTIME_DIR = "GIMLI_RUNTIME_DIR"
_WRITABLE_BY_OTHERS = 0o022


def state_dir() -> str:
    """The directory of reports, journals and logs; it may not exist yet."""
    if explicit := os.environ.get(ENV_STATE_DIR):
        return os.path.abspath(explicit)
    if os.geteuid() == 0:
        return "/var/lib/gimli"
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "gimli")


def runtime_dir() -> str:
    """The directory of sockets, heartbeat pages and locks; it may not exist yet."""
    if explicit := os.environ.get(ENV_RUNTIME_DIR):
        return os.path.abspath(explicit)
    if os.geteuid() == 0:
        return "/run/gimli"
    base = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(base, "gimli") if base else f"/tmp/gimli-{os.geteuid()}"  # noqa: S108 - checked to be ours below


def make_private_dir(path: str, *, mode: int = 0o700) -> str:
    """Create a directory of ours, or check that an existing one is.

    Args:
        path: the directory; its parents are made too.
        mode: 0o700, or 0o711 for one that programs of other users must be able to pass.

    Returns:
        The path.

    Raises:
        StoreError: it is not a directory, belongs to somebody else, or cannot be made.
    """
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
        info = os.stat(path)
    except FileExistsError as error:
        raise StoreError(
            f"cannot use {path} as a directory",
            why="it exists and is a file",
            fix=f"name another with --state-dir, or move it away: mv {path} {path}.old",
        ) from error
    except NotADirectoryError as error:
        raise StoreError(
            f"cannot make the directory {path}",
            why="a part of its path is a file",
            fix="name another with --state-dir",
        ) from error
    except OSError as error:
        raise StoreError(
            f"cannot make the directory {path}",
            why=os.strerror(error.errno or 0),
            fix=f"name another with --state-dir, or set {ENV_STATE_DIR} and {ENV_RUNTIME_DIR}",
        ) from error
    if info.st_uid != os.geteuid():
        raise StoreError(
            f"refusing to use {path}",
            why=f"it belongs to uid {info.st_uid}, not to uid {os.geteuid()}",
            fix=f"name another with --state-dir, or set {ENV_STATE_DIR} and {ENV_RUNTIME_DIR}",
        )
    if os.lstat(path).st_uid not in {0, os.geteuid()} or info.st_mode & _WRITABLE_BY_OTHERS:
        raise StoreError(
            f"refusing to use {path}",
            why="somebody else could put files there, or has put a link there",
            fix=f"chmod go-w {path}, or name another with {ENV_STATE_DIR} and {ENV_RUNTIME_DIR}",
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StoreError(f"cannot write to {path}", why="permission denied", fix=f"chmod u+rwx {path}")
    return path


def unlink_if_there(path: str) -> None:
    """Remove a file. That somebody has cleaned up before us (in /tmp, after ten days) is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def checksum(path: str) -> str:
    """Eight hexadecimal digits that stand for a path in a name, where it would be too long itself. FNV-1a."""
    made = 0x811C9DC5
    for byte in os.fsencode(path):
        made = (made ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{made:08x}"
