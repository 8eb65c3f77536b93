"""What does the directory of a report hold?

``report.json`` when it was analysed, else ``facts.json``, which the capture wrote; either may be damaged.
"""

from __future__ import annotations

import json
import os

from gimli.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.report import Report

_ANALYSED = "report.json"
_FACTS = "facts.json"


def read_report(report_dir: str) -> Report:
    """The report in a directory, in the store or anywhere: ``report.json``, else what ``facts.json`` tells.

    Raises:
        StoreError: neither can be read.
    """
    from gimli import report  # noqa: PLC0415 - the capture helper must not load the model

    try:
        return report.from_json(_read_json(os.path.join(report_dir, _ANALYSED)))
    except FileNotFoundError:
        note = "the raw facts alone: the analysis is still running, or it failed"
    except (OSError, ValueError, RecursionError) as error:
        note = f"report.json is damaged ({error}): these are the raw facts"
    facts = os.path.join(report_dir, _FACTS)
    try:
        found = report.from_facts(_read_json(facts))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(
            f"report {os.path.basename(report_dir)} is damaged",
            why=f"{facts}: {why}",
            fix=f"see what is left of it: ls -l {report_dir}",
        ) from error
    from dataclasses import replace  # noqa: PLC0415 - as above

    return replace(found, notes=(*found.notes, note))


def stamp(report_dir: str) -> str:
    """What changes when the document of a report does."""
    for name in (_ANALYSED, _FACTS):
        try:
            info = os.stat(os.path.join(report_dir, name))
        except OSError:
            continue
        return f"{name} {info.st_ino} {info.st_size} {info.st_mtime_ns}"
    return "empty"


def size_bytes(report_dir: str) -> int:
    """What it takes on disk: a core has holes."""
    total = 0
    for directory, _, files in os.walk(report_dir):
        for name in files:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _read_json(path: str) -> object:
    with open(path, "rb") as file:
        return json.load(file)
