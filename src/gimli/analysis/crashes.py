"""What does a fatal signal mean where it happened?

Pure. One function per signal; SIGSEGV, which means the most things, has a module of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gimli.analysis.crashsite import crash_site
from gimli.analysis.segfaults import explain_segv
from gimli.process import sender_in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.analysis.cause import Cause
    from gimli.analysis.crashsite import CrashSite
    from gimli.analysis.evidence import Evidence
    from gimli.report import Report, Thread

_FPE_INTDIV = 1
_BUS_ADRALN, _BUS_ADRERR = 1, 2


def explain_crash(
    report: Report,
    thread: Thread,
    evidence: Evidence,
    source_line: Callable[[str | None, int | None], str],
) -> list[Cause]:
    """Why the crashed thread was sent its signal; nothing when there was none.

    Args:
        report: with its signal.
        thread: the one that crashed.
        evidence: what was read of it.
        source_line: one line of a source file, empty when it cannot be read.
    """
    site = crash_site(report, thread, evidence, source_line)
    if site is None:
        return []
    if site.was_sent:
        return [_sent(site)]
    return [_BY_SIGNAL.get(site.signal.name, _plain)(site)]


def _sent(site: CrashSite) -> Cause:
    name, sender = site.signal.name, sender_in_words(site.signal.sender or {})
    return site.cause(
        "signal-sent",
        0.95,
        text=f"{name} was sent by {sender}: not a fault of the program's own. It was in {site.where}.",
        summary=f"{name} sent by {sender}",
    )


def _plain(site: CrashSite) -> Cause:
    text = f"{site.signal.name} in {site.where}"
    return site.cause("signal", 0.7, text=f"{text}.", summary=text)


def _fpe(site: CrashSite) -> Cause:
    """SIGFPE: almost always an integer divided by zero; floats do not raise it."""
    if site.signal.code != _FPE_INTDIV:
        return _plain(site)
    divisor = _zero_divisor(site)
    which = f": `{divisor}` is 0" if divisor else ""
    return site.cause(
        "division-by-zero",
        0.97,
        text=f"Integer division by zero{which} in {site.where}.",
        summary=f"division by zero{which} in {site.where}",
    )


def _zero_divisor(site: CrashSite) -> str:
    """The variable after a ``/`` or ``%`` of the line that is 0."""
    zeros = {each.name for each in (site.frame.variables if site.frame else ()) if each.value == "0"}
    divisors = re.findall(r"[/%]=?\s*\(?\s*([A-Za-z_]\w*)", site.line)
    return next((name for name in divisors if name in zeros), "")


def _abrt(site: CrashSite) -> Cause:
    """SIGABRT: what the program, or the C library for it, said as it gave up."""
    for kind in _ABORTS:
        if said := _said(site, kind.pattern):
            return site.cause(
                kind.kind,
                kind.confidence,
                text=f"{kind.words} in {site.where}: {said}",
                summary=f"{_uncapitalized(kind.words)} in {site.where}: {_shortened(said)}",
                evidence=(f"it said: {said}",),
            )
    if any("terminate" in each.function and "abort" not in each.function for each in site.thread.frames[:8]):
        return site.cause(
            "uncaught-exception",
            0.9,
            text=f"Uncaught C++ exception from {site.where}.",
            summary=f"uncaught C++ exception in {site.where}",
        )
    said = f": {site.abort_message}" if site.abort_message else ""
    return site.cause(
        "abort",
        0.9,
        text=f"abort() was called by {site.where}{said}.",
        summary=f"abort in {site.where}{said}",
    )


def _uncapitalized(words: str) -> str:
    return words[0].lower() + words[1:]


def _said(site: CrashSite, pattern: re.Pattern[str]) -> str:
    """The C library's last words, else the last line of output that matches."""
    if pattern.search(site.abort_message):
        return site.abort_message
    return next((line.strip() for line in reversed(site.output) if pattern.search(line)), "")


def _shortened(said: str) -> str:
    """An assertion's own words: ``balance >= 0``; glibc puts program, file and function before them."""
    asserted = re.search(r"Assertion [`'](.+)' failed", said)
    return f"`{asserted[1]}`" if asserted else said


def _bus(site: CrashSite) -> Cause:
    """SIGBUS: a page of a file that is not there any more, or an address not aligned."""
    if site.signal.code == _BUS_ADRALN:
        text = f"access to an address that is not aligned, in {site.where}"
        return site.cause("alignment", 0.9, text=f"{text[0].upper()}{text[1:]}.", summary=text)
    if site.signal.code != _BUS_ADRERR:
        return _plain(site)
    file = site.fault.file or "a mapped file"
    return site.cause(
        "file-truncated",
        0.85,
        text=f"A page of {file} was used in {site.where} that the file does not have: "
        "it was truncated while it was mapped, or its disk is full.",
        summary=f"mapped file truncated, in {site.where}",
    )


def _ill(site: CrashSite) -> Cause:
    return site.cause(
        "illegal-instruction",
        0.8,
        text=f"Illegal instruction in {site.where}: a trap that the compiler put there "
        "(unreachable code, a failed check), or code for another processor.",
        summary=f"illegal instruction in {site.where}",
    )


def _sys(site: CrashSite) -> Cause:
    return site.cause(
        "forbidden-syscall",
        0.9,
        text=f"A system call that the seccomp filter forbids, from {site.where}.",
        summary=f"forbidden system call in {site.where}",
    )


class _Abort(NamedTuple):
    pattern: re.Pattern[str]
    kind: str
    words: str
    confidence: float


_HEAP = r"free\(\)|malloc|realloc\(\)|corrupted|double free|munmap_chunk|unlink_chunk|tcache"
_ABORTS = (
    _Abort(re.compile(r"Assertion .* failed"), "assertion", "Assertion failed", 0.99),
    _Abort(re.compile(r"stack smashing detected"), "stack-corruption", "Stack corruption", 0.97),
    _Abort(re.compile(r"buffer overflow detected"), "buffer-overflow", "Buffer overflow", 0.97),
    _Abort(re.compile(_HEAP), "heap-corruption", "Heap corruption, noticed", 0.93),
    _Abort(re.compile(r"terminate called"), "uncaught-exception", "Uncaught C++ exception", 0.95),
    _Abort(re.compile(r"panicked at"), "panic", "Rust panic", 0.95),
    _Abort(re.compile(r"Fatal Python error"), "python-fatal", "Fatal Python error", 0.95),
)

_BY_SIGNAL: dict[str, Callable[[CrashSite], Cause]] = {
    "SIGSEGV": explain_segv,
    "SIGFPE": _fpe,
    "SIGABRT": _abrt,
    "SIGBUS": _bus,
    "SIGILL": _ill,
    "SIGSYS": _sys,
}
