"""What does the monitor ask of the capture helper?

The request of docs/reference/capture.md, checked once here. Its keys that the helper only passes on to
facts.json stay as they came, in ``document``.
"""

from __future__ import annotations

from gimli.errors import UsageError
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T", int, float)

CAP_BYTES = 8 << 20
STOP_TIMEOUT_S = 1.0
_CAP_BYTES_MAX = 1 << 40
_STOP_TIMEOUT_S_MAX = 60.0
_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_FIX = "this is between gimli's own processes: please report it, with this message"
_MISSING = object()


@value
class CrashRecord:
    """The page's crash record."""

    signo: int
    code: int
    address: int
    tid: int
    ucontext: int
    siginfo: int


@value
class Request:
    """One process to capture."""

    id: str
    state_dir: str
    pid: int
    """0 when the process is already gone."""
    start_ticks: int | None
    crash: CrashRecord | None
    signal: int | None
    page: str | None
    cap_bytes: int
    stop_timeout_s: float
    document: dict[str, Any]


def parse_request(text: str) -> Request:
    """The request in a JSON document.

    Raises:
        UsageError: it is none; the message names the key.
    """
    try:
        document = _parse_json(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("malformed capture request", why=f"not JSON: {error}", fix=_FIX) from error
    if not isinstance(document, dict):
        raise _wrong("the request", document, "an object")
    crash = _get(document, "crash", dict, None)
    return Request(
        id=_report_id(_get(document, "id", str)),
        state_dir=_get(document, "state_dir", str),
        pid=_between(document, "pid", 0, 1 << 22),  # PID_MAX_LIMIT
        start_ticks=_get(document, "start_ticks", int, None),
        crash=_crash(crash) if crash is not None else None,
        signal=_get(document, "signal", int, None),
        page=_get(document, "page", str, None),
        cap_bytes=_clamp(_get(document, "cap_bytes", int, CAP_BYTES), _CAP_BYTES_MAX),
        stop_timeout_s=_clamp(
            _get(document, "stop_timeout_s", (int, float), STOP_TIMEOUT_S), _STOP_TIMEOUT_S_MAX
        ),
        document=document,
    )


def _parse_json(text: str) -> Any:
    """Parse a document with the C scanner that ``json`` is made of.

    ``json`` itself imports ``re`` to say where an error is, and with it ``enum`` and ``collections``: 7 ms of
    the 35 that the service may be down for. It is asked only when there is an error to be told.
    """
    text = text.strip()
    try:
        from _json import make_scanner  # noqa: PLC0415 - an implementation detail of CPython: may be missing

        document, end = make_scanner(_ScannerSettings)(text, 0)  # type: ignore[arg-type]  # typeshed names the result
        if end == len(text):
            return document
    except (ImportError, StopIteration, SystemError, ValueError):
        # SystemError: the scanner wanted json.decoder's exception, which nobody has imported.
        pass
    import json  # noqa: PLC0415 - slow

    return json.loads(text, parse_constant=_ScannerSettings.parse_constant)


class _ScannerSettings:
    """What make_scanner reads of json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        """NaN and infinities are not JSON, and a deadline of NaN never comes."""
        raise ValueError(f"{name} is no number")

    memo: dict[str, str] = {}  # noqa: RUF012 - read by the scanner of older versions only


def _clamp(number: T, most: T) -> T:
    return max(min(number, most), type(most)(0))


def _crash(document: dict[str, Any]) -> CrashRecord:
    return CrashRecord(
        signo=_between(document, "signo", 1, 64),
        code=_between(document, "code", -(1 << 31), (1 << 31) - 1),
        address=_between(document, "address", 0, (1 << 64) - 1),
        tid=_between(document, "tid", 0, (1 << 31) - 1),
        ucontext=_between(document, "ucontext", 0, (1 << 64) - 1, 0),
        siginfo=_between(document, "siginfo", 0, (1 << 64) - 1, 0),
    )


def _report_id(text: str) -> str:
    """An id names a directory, and nothing above it."""
    if not text or text.startswith(".") or not _ID_CHARACTERS.issuperset(text):
        raise UsageError("malformed capture request", why=f"id {text!r} is no name of a report", fix=_FIX)
    return text


def _between(document: dict[str, Any], key: str, least: int, most: int, default: Any = _MISSING) -> int:
    found: int = _get(document, key, int, default)
    if not least <= found <= most:
        raise UsageError(
            "malformed capture request", why=f"{key} is {found}, expected {least} to {most}", fix=_FIX
        )
    return found


def _get(document: dict[str, Any], key: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
    found = document.get(key)
    if found is None and default is not _MISSING:
        return default
    if not isinstance(found, kind) or isinstance(found, bool):
        name = kind.__name__ if isinstance(kind, type) else "number"
        raise _wrong(key, found, name)
    return found


def _wrong(key: str, found: object, expected: str) -> UsageError:
    return UsageError(
        "malformed capture request", why=f"{key} is {type(found).__name__}, expected {expected}", fix=_FIX
    )
