"""How are the reports kept to their quota?

    index --> quota.choose --> a core unlinked, a report renamed to .incoming and removed there

A kill in between leaves a report whole, or a leftover that ``sweep`` takes. A report that is being made or
analysed is not touched. Runs at the end of a capture, in its helper, and by ``gimli prune``.
"""

from __future__ import annotations

import os
import shutil

from gimli.store.incoming import INCOMING, REPORTS, sweep, time_of
from gimli.store.index import Store
from gimli.store.quota import Kept, Limits, Removal, choose

_CORE = "core"
_ANALYSED = "report.json"
_IN_USE_S = 3600.0
_FACTS = "facts.json"
_CAPTURE_S_MAX = 60.0
"""A file that is younger than its report by more was copied here."""
"""An analysis takes two minutes at most, and waits for 50 others at most."""


def to_prune(state_dir: str, limits: Limits, now_s: float) -> tuple[Removal, ...]:
    """What has to go; nothing is removed.

    Raises:
        StoreError: the reports cannot be read.
    """
    store = Store(state_dir)
    kept = [
        _kept(store.path(entry.id), entry.id, entry.size_bytes, entry.signature, now_s)
        for entry in store.entries()
    ]
    kept.sort(key=lambda report: report.age_s, reverse=True)
    return choose(kept, limits, _disk_bytes(state_dir)) if kept else ()


def prune(state_dir: str, limits: Limits, now_s: float) -> tuple[Removal, ...]:
    """Remove what has to go, and what dead captures left.

    Returns:
        What is gone now. Somebody else may prune at the same time.

    Raises:
        StoreError: the reports cannot be read.
    """
    sweep(state_dir, now_s, _IN_USE_S)
    return tuple(removal for removal in to_prune(state_dir, limits, now_s) if _remove(state_dir, removal))


def _kept(path: str, report_id: str, size_bytes: int, signature: str, now_s: float) -> Kept:
    age_s = now_s - _stored_at(path, time_of(report_id))
    is_analysed = os.path.exists(os.path.join(path, _ANALYSED))
    core_bytes = _blocks(os.path.join(path, _CORE))
    is_in_use = not is_analysed and age_s < _IN_USE_S
    return Kept(report_id, age_s, max(size_bytes, core_bytes), core_bytes, signature, is_in_use)


def _stored_at(path: str, named_s: float) -> float:
    """When a report was made. Its id tells the second; of two in one second its file tells the first."""
    try:
        written_s = os.stat(os.path.join(path, _FACTS)).st_mtime
    except OSError:
        return named_s
    return written_s if 0 <= written_s - named_s < _CAPTURE_S_MAX else named_s


def _remove(state_dir: str, removal: Removal) -> bool:
    path = os.path.join(state_dir, REPORTS, removal.id)
    try:
        if removal.what == "core":
            os.unlink(os.path.join(path, _CORE))
            Store(state_dir).add(path)
            return True
        doomed = os.path.join(state_dir, INCOMING, removal.id)
        os.makedirs(os.path.dirname(doomed), mode=0o700, exist_ok=True)
        os.rename(path, doomed)
    except OSError:
        return False  # gone already, or not ours to remove: then the next one will say so
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0


def _disk_bytes(state_dir: str) -> int:
    try:
        info = os.statvfs(state_dir)
    except OSError:
        return 0
    return info.f_blocks * info.f_frsize
