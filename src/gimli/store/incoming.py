"""How does a report come to stand on disk, whole or not at all?

    incoming_dir(STATE, id)  ->  STATE/.incoming/ID/   the helper writes core and facts.json
    publish(STATE, id)       ->  STATE/reports/ID/     files synced, one rename, both parents synced

A crash of the helper, or of the machine, at any moment leaves either the report or a leftover in
``.incoming`` that ``sweep`` takes away. Imports next to nothing: this is part of the helper's image.
"""

from __future__ import annotations

import errno
import os

from gimli.errors import StoreError
from gimli.paths import make_private_dir

REPORTS = "reports"
INCOMING = ".incoming"

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U, so that an id survives being read out over the telephone."""
_TIME_DIGITS = 7
_RANDOM_DIGITS = 3


def new_id(now_s: float, random: bytes) -> str:
    """Ten characters that sort by time: seven of the seconds since 1970, three of chance.

    Args:
        now_s: the wall clock; seven digits last until the year 3058.
        random: two bytes or more; reports of one second are told apart by 15 bits of them.
    """
    return _digits(int(now_s), _TIME_DIGITS) + _digits(int.from_bytes(random, "little"), _RANDOM_DIGITS)


def is_id(text: str) -> bool:
    """Whether it is written like an id: such a name cannot lead out of the store."""
    return len(text) == _TIME_DIGITS + _RANDOM_DIGITS and set(text) <= set(_ALPHABET)


def time_of(report_id: str) -> float:
    """When a report's id was made, in seconds since 1970."""
    number = 0
    for digit in report_id[:_TIME_DIGITS]:
        number = number << 5 | _ALPHABET.index(digit)
    return float(number)


def incoming_dir(state_dir: str, report_id: str) -> str:
    """Create the private directory in which a report is made.

    Returns:
        Its path.

    Raises:
        StoreError: it cannot be made; says why, and what to do.
    """
    path = _path(state_dir, INCOMING, report_id)
    make_private_dir(state_dir)
    make_private_dir(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise store_error(f"cannot make the directory {path}", error, state_dir) from error
    return path


def publish(state_dir: str, report_id: str) -> str:
    """Make the report in ``.incoming`` part of the store: after a crash of the machine it is there, whole.

    Returns:
        Path of the report's directory.

    Raises:
        StoreError: it could not be written or renamed; it is still in ``.incoming`` then.
    """
    source = _path(state_dir, INCOMING, report_id)
    target = _path(state_dir, REPORTS, report_id)
    make_private_dir(os.path.dirname(target))
    try:
        for name in os.listdir(source):
            _sync(os.path.join(source, name))
        _sync(source)
        os.rename(source, target)
        _sync(os.path.dirname(target))
        _sync(os.path.dirname(source))
    except OSError as error:
        raise store_error(f"cannot store report {report_id}", error, state_dir) from error
    return target


def discard(state_dir: str, report_id: str) -> None:
    """Remove a report that was never published. What cannot be removed is left to ``sweep``."""
    _remove_tree(_path(state_dir, INCOMING, report_id))


def sweep(state_dir: str, now_s: float, older_than_s: float) -> list[str]:
    """Remove what dead captures left behind.

    Args:
        state_dir: the store.
        now_s: the wall clock.
        older_than_s: age of the newest file; more than any capture takes, or a live one is lost.

    Returns:
        Names of what was removed.
    """
    incoming = os.path.join(state_dir, INCOMING)
    try:
        names = sorted(os.listdir(incoming))
    except OSError:
        return []
    paths = {name: os.path.join(incoming, name) for name in names}
    old = [name for name, path in paths.items() if now_s - _newest_change(path) > older_than_s]
    for name in old:
        _remove_tree(paths[name])
    return old


def store_error(what: str, error: OSError, state_dir: str) -> StoreError:
    """The error of a store that cannot be written or read, with what its operator can do about it."""
    fixes = {
        errno.ENOSPC: f"free space on the file system: df -h {state_dir}; gimli prune",
        errno.EDQUOT: f"free space within the quota: quota -s; du -sh {state_dir}",
        errno.EROFS: "the file system is mounted read-only: name another with --state-dir",
        errno.EACCES: f"check its owner and mode: ls -ld {state_dir}",
        errno.EPERM: f"check its owner and mode: ls -ld {state_dir}",
        errno.ENOTDIR: "a part of its path is a file: name another with --state-dir",
        errno.ENOTEMPTY: "a report of that id is stored already",
        errno.EEXIST: "a capture of that id is under way, or died: it is swept later",
    }
    why = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(
        what, why=why, fix=fixes.get(error.errno or 0, f"check the disk: dmesg; ls -ld {state_dir}")
    )


def _path(state_dir: str, kind: str, report_id: str) -> str:
    assert is_id(report_id), f"{report_id!r} is not an id of new_id()"
    return os.path.join(state_dir, kind, report_id)


def _digits(number: int, width: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(width)))


def _sync(path: str) -> None:
    """Wait until a file or a directory is on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _newest_change(path: str) -> float:
    """When anything in a directory was last written; 0 for one that is gone or unreadable."""
    newest_s = 0.0
    for directory, _, files in os.walk(path):
        for name in (directory, *(os.path.join(directory, file) for file in files)):
            try:
                newest_s = max(newest_s, os.lstat(name).st_mtime)
            except OSError:
                continue
    return newest_s


def _remove_tree(path: str) -> None:
    import shutil  # noqa: PLC0415 - 5 ms of import that a capture which succeeds does not need

    shutil.rmtree(path, ignore_errors=True)
