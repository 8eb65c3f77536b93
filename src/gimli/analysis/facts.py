"""What did the capture helper write down?

Reads ``facts.json`` and the journal as hostile: wrong types become absent values or one clear error.
"""

from __future__ import annotations

import json
import os
from typing import Any

from gimli.analysis.evidence import KernelThread, Syscall
from gimli.errors import AnalysisUnavailable

_FACTS_BYTES_MAX = 64 << 20
_JOURNAL_BYTES_MAX = 8 << 20
_JOURNAL_EVENTS_MAX = 200


def read_facts(directory: str) -> dict[str, Any]:
    """The document of ``facts.json``.

    Raises:
        AnalysisUnavailable: it cannot be read, or is not a JSON object.
    """
    path = os.path.join(directory, "facts.json")
    try:
        with open(path, "rb") as file:
            text = file.read(_FACTS_BYTES_MAX + 1)
    except OSError as error:
        raise AnalysisUnavailable(f"cannot read {path}", why=os.strerror(error.errno or 0)) from error
    if len(text) > _FACTS_BYTES_MAX:
        raise AnalysisUnavailable(f"cannot read {path}", why=f"it is larger than {_FACTS_BYTES_MAX} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnalysisUnavailable(f"{path} is not JSON", why=str(error) if text else "it is empty") from error
    if not isinstance(document, dict):
        raise AnalysisUnavailable(f"{path} is not a JSON object", why=f"it is {type(document).__name__}")
    return document


def kernel_threads(facts: dict[str, Any]) -> dict[int, KernelThread]:
    """The threads of the facts by tid; what is malformed in one is left out of it."""
    threads = facts.get("threads")
    found = {}
    for item in threads if isinstance(threads, list) else []:
        if isinstance(item, dict) and _is_int(item.get("tid")):
            found[item["tid"]] = KernelThread(
                item["tid"],
                comm=_text(item.get("comm")),
                state=_text(item.get("state"))[:1],
                wchan=_text(item.get("wchan")),
                syscall=_syscall(item.get("syscall")),
            )
    return found


def read_journal(path: str, *, service: str, since_ns: int) -> list[dict[str, Any]]:
    """Events of a service after a moment, from a file of JSON lines; damaged lines are left out."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _JOURNAL_BYTES_MAX))
            lines = file.read(_JOURNAL_BYTES_MAX).splitlines()
    except OSError:
        return []
    events = [event for event in map(_event, lines) if event and event.get("service") == service]
    return [
        each for each in events if _is_int(each.get("monotonic_ns")) and each["monotonic_ns"] >= since_ns
    ][:_JOURNAL_EVENTS_MAX]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _syscall(item: object) -> Syscall | None:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments")
    return Syscall(
        item["name"],
        number=item["number"] if _is_int(item.get("number")) else -1,
        arguments=tuple(each for each in arguments if _is_int(each)) if isinstance(arguments, list) else (),
        file=item["file"] if isinstance(item.get("file"), str) else None,
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
