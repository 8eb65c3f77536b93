"""What is a report?

The model that analysis makes, the store keeps, and ``gimli show`` prints: JSON contract, schema 1
(docs/reference/report.md). Pure: it parses what it reads as hostile and touches nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, cast

from gimli.clock import format_duration
from gimli.process import sender_in_words

SCHEMA = 1
Reason = Literal["crash", "hang", "request"]


@dataclass(frozen=True, slots=True)
class Variable:
    """An argument or a local of a frame, formatted."""

    name: str
    type: str
    value: str
    argument: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One call, innermost first in its thread."""

    language: str
    function: str
    file: str | None = None
    line: int | None = None
    module: str | None = None
    address: int | None = None
    variables: tuple[Variable, ...] = ()
    inline: bool = False
    interpreter: bool = False
    """A native frame of a language's own machinery, which a reader of a Python stack may skip."""


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread as it stood."""

    tid: int
    name: str
    crashed: bool = False
    culprit: bool = False
    doing: str = ""
    """What it is doing, in words: "waiting for a lock", "in epoll_wait"."""
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """The signal that a report is about."""

    name: str
    number: int
    code: int | None = None
    code_name: str | None = None
    address: int | None = None
    sender: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that explains: what is known, how sure, and from which evidence."""

    kind: str
    text: str
    confidence: float
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything known of one crash, hang or requested snapshot."""

    id: str
    service: str
    reason: Reason
    time: str
    pid: int
    command: tuple[str, ...]
    signature: str = ""
    summary: str = ""
    signal: Signal | None = None
    hang: dict[str, Any] | None = None
    """``pulse`` (None: the main beat), ``tid``, ``silent_s``, ``allowed_s``, ``late_ms``."""
    findings: tuple[Finding, ...] = ()
    threads: tuple[Thread, ...] = ()
    process: dict[str, Any] = field(default_factory=dict)
    heartbeat: dict[str, Any] | None = None
    journal: tuple[dict[str, Any], ...] = ()
    output: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    core: str | None = None
    schema: int = SCHEMA


def to_json(report: Report) -> dict[str, Any]:
    """The report as the JSON document of the contract."""
    return asdict(report)


def from_json(document: object) -> Report:
    """A report from parsed JSON.

    Raises:
        ValueError: it is not a report of a schema this version reads; the message says what is wrong.
    """
    top = _top(document, "a report")
    return Report(
        **_identity(top),
        signature=_get(top, "signature", str, ""),
        summary=_get(top, "summary", str, ""),
        findings=tuple(_finding(item) for item in _objects(top, "findings")),
        threads=tuple(_thread(item) for item in _objects(top, "threads")),
        timings_ms=_numbers(top, "timings_ms"),
        core=_get(top, "core", str, None),
    )


def from_facts(document: object) -> Report:
    """The report that a capture's ``facts.json`` makes by itself: no stacks, no explanation.

    Raises:
        ValueError: it is not a document of facts that this version reads; the message says what is wrong.
    """
    top = _top(document, "facts")
    core = _get(top, "core", dict, {})
    identity = _identity(top)
    process = dict(identity.pop("process"))
    # What the monitor knows of the service (restarts, when it started) stands beside what /proc said.
    if about_service := _get(top, "facts", dict, None):
        process["service"] = about_service
    signal, hang = identity["signal"], identity["hang"]
    summary = summary_of(identity["reason"], signal, hang)
    return Report(
        **identity,
        process=process,
        summary=summary,
        signature=signature_of(identity["service"], identity["reason"], _key_parts(signal, hang)),
        threads=_threads_of_facts(top),
        timings_ms=_numbers(top, "timings_ms"),
        core=_get(core, "file", str, None),
    )


def summary_of(reason: Reason, signal: Signal | None, hang: dict[str, Any] | None) -> str:
    """One line that says what happened, as far as that is known without an analysis."""
    if reason == "hang":
        return f"{describe_pulse(hang or {})} {describe_silence(hang or {})}"
    if reason == "request":
        return "snapshot on request"
    if signal is None:
        return "crash of an unknown cause"
    if signal.sender and signal.address is None:
        return f"{signal.name} sent by {sender_in_words(signal.sender)}"
    where = "" if signal.address is None else f" at address {signal.address:#x}"
    return f"{signal.name}{where}{f' ({signal.code_name})' if signal.code_name else ''}"


def describe_pulse(hang: dict[str, Any]) -> str:
    """``pulse "writer-2"``, or ``heartbeat`` when it was the program's main beat that fell silent."""
    name = hang.get("pulse")
    return f'pulse "{name}"' if isinstance(name, str) else "heartbeat"


def describe_silence(hang: dict[str, Any]) -> str:
    """``silent for 30.0 s``, or ``silent`` when the time is not known."""
    silent_s = hang.get("silent_s")
    if not isinstance(silent_s, int | float) or not 0 <= silent_s < 1e9:
        return "silent"
    return f"silent for {format_duration(silent_s)}"


def signature_of(service: str, reason: str, key_parts: tuple[str, ...]) -> str:
    """Twelve hexadecimal digits that reports of the same cause share.

    Args:
        service: name of the service.
        reason: crash, hang or request.
        key_parts: what makes the cause itself: the signal, the functions on the culprit's stack; nothing
            that changes from run to run (no addresses, pids or values).
    """
    return hashlib.sha256("\0".join((service, reason, *key_parts)).encode()).hexdigest()[:12]


def _key_parts(signal: Signal | None, hang: dict[str, Any] | None) -> tuple[str, ...]:
    """What a report without stacks has in common with others of its cause."""
    parts = [signal.name] if signal else []
    if hang:
        parts.append(describe_pulse(hang))
    return tuple(parts)


def _threads_of_facts(top: dict[str, Any]) -> tuple[Thread, ...]:
    """Every thread by name, the crashed one and the silent one marked and first."""
    crash_tid = _get(top, "crash_tid", int, None)
    silent_tid = (_get(top, "hang", dict, None) or {}).get("tid")
    threads = [
        Thread(
            tid=tid,
            name=_get(item, "comm", str, ""),
            crashed=tid == crash_tid,
            culprit=tid == silent_tid,
            doing=describe_kernel_state(item),
        )
        for item in _objects(top, "threads")
        for tid in [_get(item, "tid", int)]
    ]
    return tuple(sorted(threads, key=lambda thread: (not thread.crashed, not thread.culprit, thread.tid)))


def describe_kernel_state(thread: dict[str, Any]) -> str:
    """What the kernel says a thread of ``facts.json`` is doing: ``in read of /dev/ttyS0``, ``running``."""
    syscall = thread.get("syscall")
    if isinstance(syscall, dict) and isinstance(syscall.get("name"), str):
        file = syscall.get("file")
        return f"in {syscall['name']}" + (f" of {file}" if isinstance(file, str) else "")
    return {"R": "running", "D": "in the kernel, not interruptible"}.get(str(thread.get("state")), "")


_MISSING = object()
_T = TypeVar("_T")


def _top(document: object, what: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError(f"{what}: a JSON object was expected, not {type(document).__name__}")  # noqa: TRY004 - one error for all
    schema = document.get("schema")
    if isinstance(schema, bool) or schema != SCHEMA:
        raise ValueError(f"{what}: schema {schema!r}, expected {SCHEMA}")
    return document


def _identity(top: dict[str, Any]) -> dict[str, Any]:
    """The fields that facts and a report have in common."""
    reason = _get(top, "reason", str)
    if reason not in {"crash", "hang", "request"}:
        raise ValueError(f'reason {reason!r}, expected "crash", "hang" or "request"')
    signal = _get(top, "signal", dict, None)
    return {
        "id": _get(top, "id", str),
        "service": _get(top, "service", str),
        "reason": cast("Reason", reason),
        "time": _get(top, "time", str),
        "pid": _get(top, "pid", int),
        "command": _strings(top, "command"),
        "signal": _build(Signal, signal, sender=_get(signal, "sender", dict, None)) if signal else None,
        "hang": _get(top, "hang", dict, None),
        "process": _get(top, "process", dict, {}),
        "heartbeat": _get(top, "heartbeat", dict, None),
        "journal": tuple(_objects(top, "journal")),
        "output": _strings(top, "output"),
        "notes": _strings(top, "notes"),
    }


def _get(document: dict[str, Any], key: str, kind: type, default: Any = _MISSING) -> Any:
    found = document.get(key)
    if found is None and default is not _MISSING:
        return default
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise ValueError(f"{key} is {type(found).__name__}, expected {kind.__name__}")
    return found


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [item for item in _get(document, key, list, []) if isinstance(item, dict)]


def _strings(document: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(map(str, _get(document, key, list, [])))


def _numbers(document: dict[str, Any], key: str) -> dict[str, float]:
    found = _get(document, key, dict, {})
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _finding(item: dict[str, Any]) -> Finding:
    return _build(Finding, item, evidence=_strings(item, "evidence"))


def _thread(item: dict[str, Any]) -> Thread:
    return _build(Thread, item, frames=tuple(_frame(frame) for frame in _objects(item, "frames")))


def _frame(item: dict[str, Any]) -> Frame:
    return _build(
        Frame, item, variables=tuple(_build(Variable, each) for each in _objects(item, "variables"))
    )


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "bool": (bool,),
}
"""What JSON may hold for a field, by its annotation; other fields are given ready made."""


def _build(kind: type[_T], item: dict[str, Any], **ready: Any) -> _T:
    """A dataclass from a JSON object: unknown keys are left out, wrong types refused."""
    fields = cast("Any", kind).__dataclass_fields__
    for name, value in item.items():
        if name not in fields or name in ready:
            continue
        allowed = _KINDS[fields[name].type]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise ValueError(
                f"{kind.__name__.lower()}: {name} is {type(value).__name__}, expected {fields[name].type}"
            )
        ready[name] = value
    try:
        return kind(**ready)
    except TypeError as error:
        raise ValueError(f"{kind.__name__.lower()}: {error}") from error
