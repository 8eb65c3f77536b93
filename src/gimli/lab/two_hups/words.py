"""What do the figures of incident 1 say in words? Pure: outcomes in, sentences out."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from gimli.lab.scenario import Verdict
from gimli.lab.two_hups.model import Empty, Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.lab.two_hups.model import Outcome, Setup

VAR_BYTES = 10_000_000_000
"""A /var to fill, for the sentence that says how long that takes."""
_JOURNAL_MOST_BYTES = 20_000
SURE = (
    "mechanism 0.99: nothing else differs between the runs that fail and those that do not",
    "that it is what the story met 0.9: its engineers saw two HUPs and the endless log, but not the gap",
    "what it would do to yet another monitor: not known; what counts is its takeover against the gap",
)

CHANGE = (
    "  /var/log/app-error.log /var/log/app.log {",
    "      compress",
    "+     sharedscripts",
    "      postrotate",
    "          kill -HUP $(cat /run/app.pid)",
    "      endscript",
    "  }",
)
"""Of the stanza, as a diff."""


def verdicts(naive: Outcome, ours: Outcome) -> tuple[Verdict, ...]:
    """That the incident happens to the naive monitor, and none of it to ours."""
    gap = f"{gaps(naive)} apart" if naive.gaps_ms else "no gap"
    return (
        Verdict(
            "one rotation of two logs sends two HUPs",
            len(naive.hups) == 2,
            f"{len(naive.hups)} HUPs, {gap}",
        ),
        Verdict(
            "naive: doubled, and without end",
            naive.is_endless and naive.monitors_after > 1,
            f"{naive.monitors_after} monitors afterwards",
        ),
        Verdict(
            "naive: its log fills /var",
            naive.log_bytes_per_s > 10_000,
            f"{naive.log_bytes_per_s / 1e6:.1f} MB/s",
        ),
        Verdict("naive: TERM is not honoured", not naive.is_term_honoured, _yes(naive.is_term_honoured)),
        Verdict("gimli: one monitor, always", ours.monitors_most == 1, f"{ours.monitors_most} at most"),
        Verdict("gimli: the service is not touched", ours.is_service_kept, _same_pid(ours)),
        Verdict("gimli: the service is watched on", ours.is_service_watched, _watched(ours)),
        Verdict(
            "gimli: its log stays small",
            ours.log_bytes < _JOURNAL_MOST_BYTES,
            f"{ours.log_bytes:,} bytes in {ours.watched_s:.1f} s",
        ),
        Verdict("gimli: TERM is honoured", ours.is_term_honoured, _yes(ours.is_term_honoured)),
    )


def headline(naive: Outcome, ours: Outcome) -> str:
    """The whole in one line."""
    rate = f"{naive.log_bytes_per_s / 1e6:.1f} MB/s of log"
    return (
        f"{_count(len(naive.hups), 'HUP')}, {gaps(naive)} apart; "
        f"naive: {_count(naive.monitors_after, 'monitor')}, {rate}; "
        f"gimli: {_count(ours.monitors_after, 'monitor')}"
    )


def explanation(setup: Setup, naive: Outcome, ours: Outcome) -> tuple[str, ...]:
    """Who sent how many HUPs, how far apart, why, what came of it, and what to change."""
    senders = ", ".join(dict.fromkeys(hup.sender for hup in naive.hups))
    sentences = [f"logrotate sent {_count(len(naive.hups), 'HUP')}: from {senders}."]
    if naive.gaps_ms:
        sentences[0] = f"logrotate sent {len(naive.hups)} HUPs, {gaps(naive)} apart: from {senders}."
    if setup.script is Script.ONCE_PER_LOG:
        sentences.append(
            f"Its stanza names {len(setup.log_bytes)} logs and has no sharedscripts, so the postrotate "
            "script ran once per log."
        )
    if setup.empty is Empty.ROTATED and not setup.log_bytes[0]:
        sentences.append(
            "Between the two it compresses the first log. That one was empty, so nothing kept them apart; "
            "when the error log had content, gzip did."
        )
    if naive.takeover_ms and naive.gaps_ms:
        took_ms = min(naive.takeover_ms)
        if naive.gaps_ms[0] < took_ms:
            sentences.append(
                f"A copy of the naive monitor took {took_ms:.0f} ms to stand. The second HUP came before "
                "that, so the old monitor made a second copy, and each copy held the other for an intruder."
            )
    if naive.is_endless:
        sentences.append(
            f'They wrote {naive.log_bytes_per_s / 1e6:.1f} MB of "received TERM, terminating" per second: '
            f"10 GB of /var last {VAR_BYTES / naive.log_bytes_per_s / 3600:.1f} hours. "
            + ("" if naive.is_service_watched else "The service was unwatched: killed, it stayed down.")
        )
    sentences.append(_ours(ours))
    sentences.append(
        "Change the stanza: add `sharedscripts`, then the script runs once for all its logs. gimli does not "
        "need it; other programs that get this HUP may."
    )
    return tuple(sentences)


def figures(outcome: Outcome) -> dict[str, Any]:
    """An outcome as metrics."""
    return {
        "hups": len(outcome.hups),
        "gaps_ms": [round(gap, 3) for gap in outcome.gaps_ms],
        "senders": [hup.sender for hup in outcome.hups],
        "monitors_after": outcome.monitors_after,
        "monitors_most": outcome.monitors_most,
        "endless": outcome.is_endless,
        "log_bytes": outcome.log_bytes,
        "log_bytes_per_s": round(outcome.log_bytes_per_s),
        "watched_s": round(outcome.watched_s, 3),
        "takeovers": outcome.takeovers,
        "takeover_ms": [round(took, 3) for took in outcome.takeover_ms],
        "term_honoured": outcome.is_term_honoured,
        "service_kept": outcome.is_service_kept,
        "service_watched": outcome.is_service_watched,
    }


def tally(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Many outcomes of one setup as metrics: how many failed, and the spread."""
    found = [gap for outcome in outcomes for gap in outcome.gaps_ms]
    rates = [outcome.log_bytes_per_s for outcome in outcomes if outcome.is_endless]
    return {
        "runs": len(outcomes),
        "doubled": sum(outcome.monitors_after > 1 for outcome in outcomes),
        "endless": sum(outcome.is_endless for outcome in outcomes),
        "hups": max(len(outcome.hups) for outcome in outcomes),
        "gap_ms": (
            {
                "min": round(min(found), 1),
                "median": round(statistics.median(found), 1),
                "max": round(max(found), 1),
            }
            if found
            else None
        ),
        "log_bytes_per_s": round(statistics.median(rates)) if rates else 0,
    }


def gaps(outcome: Outcome) -> str:
    """The distances between HUPs."""
    return " and ".join(f"{gap:.1f} ms" for gap in outcome.gaps_ms) or "no time"


def _ours(ours: Outcome) -> str:
    if ours.takeovers:
        median_ms = statistics.median(ours.takeover_ms)
        how = f"took over in place {_times(ours.takeovers)}, {median_ms:.0f} ms each, "
    else:
        how = "reopened its logs, "
    return (
        f"gimli, sent the same {_count(len(ours.hups), 'HUP')}, {how}in the same process: there is no second "
        "one, and its journal names each HUP's sender and time."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _yes(is_honoured: bool) -> str:  # noqa: FBT001 - it is the whole of what is formatted
    return "ended" if is_honoured else "still alive afterwards"


def _same_pid(outcome: Outcome) -> str:
    return "same pid" if outcome.is_service_kept else "another pid, or gone"


def _watched(outcome: Outcome) -> str:
    return "killed, started again" if outcome.is_service_watched else "killed, and left so"
