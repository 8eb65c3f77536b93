"""How does the command line ask, and how does a monitor answer? Pure.

A stream socket; one JSON object per line in each direction. A request is ``{"schema": 1, "call": NAME,
...arguments}``. An answer is ``{"ok": true, ...}`` or ``{"ok": false, "what", "why", "fix", "status"}``;
a call that follows (``logs``, ``events``) sends one line per item after its answer, until either side closes.
"""

from __future__ import annotations

import json

from gimli.errors import GimliError, PeerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
REQUEST_BYTES_MAX = 65_536
CALLS = frozenset(
    {"ps", "start", "stop", "restart", "signal", "logs", "events", "snapshot", "shutdown", "upgrade", "pair"}
)


def pack(message: dict[str, Any]) -> bytes:
    """One message as its line."""
    # A name that is not UTF-8 has lone surrogates here: backslashreplace writes them as JSON's own escapes.
    return json.dumps(message, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def parse_request(line: bytes) -> dict[str, Any]:
    """A request from its line.

    Raises:
        PeerError: it is not a request this version knows.
    """
    if len(line) > REQUEST_BYTES_MAX:
        raise PeerError(f"request of {len(line)} bytes", why=f"at most {REQUEST_BYTES_MAX} are read")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PeerError("request is not JSON", why=str(error)) from error
    if not isinstance(request, dict):
        raise PeerError("request is not a JSON object", why=f"it is a {type(request).__name__}")
    if request.get("schema") != SCHEMA:
        raise PeerError(f"request has schema {request.get('schema')!r}", why=f"this monitor speaks {SCHEMA}")
    call = request.get("call")
    if not isinstance(call, str) or call not in CALLS:
        raise PeerError(f"unknown call {call!r}", why=f"known: {', '.join(sorted(CALLS))}")
    return request


def text_argument(request: dict[str, Any], name: str) -> str:
    """A required text of a request.

    Raises:
        PeerError: it is missing or of another type.
    """
    found = request.get(name)
    if not isinstance(found, str) or not found:
        raise PeerError(f"{request['call']}: {name} is missing")
    return found


def number_argument(request: dict[str, Any], name: str, default: int) -> int:
    """An optional whole number of a request.

    Raises:
        PeerError: it is of another type, or negative.
    """
    found = request.get(name, default)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise PeerError(f"{request['call']}: {name} is {found!r}, expected a number of 0 or more")
    return found


def refusal(error: GimliError) -> dict[str, Any]:
    """The answer that carries an error to the one who asked."""
    return {"ok": False, "what": error.what, "why": error.why, "fix": error.fix, "status": error.exit_status}


def parse_answer(line: bytes) -> dict[str, Any]:
    """An answer from its line.

    Raises:
        GimliError: the monitor refused; the error is the monitor's own.
        PeerError: it is not an answer.
    """
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PeerError("the monitor's answer is not JSON", why=str(error)) from error
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise PeerError("the monitor's answer is not an answer", why=f"received {line[:80]!r}")
    if not answer["ok"]:
        refused = GimliError(
            str(answer.get("what")), why=str(answer.get("why", "")), fix=str(answer.get("fix", ""))
        )
        refused.exit_status = answer["status"] if isinstance(answer.get("status"), int) else 1
        raise refused
    return answer
