"""What does a journal entry of the pair say in words? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gimli.clock import format_duration
from gimli.process import sender_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Entry = Mapping[str, Any]

_SENTENCES: Mapping[str, Callable[[Entry], str]] = {
    "pair-started": lambda entry: f"the pair's daemon has started as pid {entry['pid']}",
    "pair-ended": lambda _: "the pair's daemon has ended; the guard stays, and keeps this host silent",
    "role": lambda entry: f"is {entry['role']}: {entry['why']}",
    "demotion": lambda entry: (
        f"demotion {entry['before']} -> {entry['demotion']}"
        + (f": {entry['because']}" if entry["because"] else "")
    ),
    "peer-deaf": lambda entry: f"{entry['peer']} is {entry['why']}",
    "packet-refused": lambda entry: (
        f"packet refused ({entry['kind']}): {entry['why']}; further ones are counted"
    ),
    "guard-altered": lambda entry: (
        f"somebody has altered the guard: {entry['what']}{'; mended' if entry['mended'] else ''}"
    ),
    "not-punctual": lambda entry: (
        f"when this host is busy the daemon may be late, and lose its role for it: {entry['why']}"
    ),
    "announce-failed": lambda entry: f"could not announce the addresses: {entry['why']}",
    "address-removed": lambda entry: f"somebody has removed {entry['address']}; it is taken again",
    "not-let-go": lambda entry: f"could not let go: {entry['why']}",
    "leftover-removed": lambda entry: f"removed what a daemon before had left: {entry['what']}",
    "hook-failed": lambda entry: f"the command of {entry['hook']} has failed: {entry['why']}",
    "sync-peer-met": lambda _: "state sync: the peer is there",
    "sync-peer-silent": lambda entry: (
        f"state sync: nothing of the peer for {format_duration(entry['since_s'])}"
    ),
    "sync-peer-heard": lambda _: "state sync: the peer is heard again",
    "sync-events-lost": lambda _: "state sync: the kernel has dropped events; everything is sent again",
    "sync-owner": lambda entry: (
        f"the connections are ours, epoch {entry['epoch']}; {entry['connections']} were held"
    ),
    "sync-replica": lambda _: "the connections are the peer's; copies are kept",
    "signal": lambda entry: f"received {entry['signal']} from {sender_in_words(entry['sender'])}",
}
EVENTS = frozenset(_SENTENCES) - {"signal"}
"""The pair's own."""


def describe(entry: Entry) -> str:
    """The sentence for an event; empty for one that is not the pair's."""
    sentence = _SENTENCES.get(entry["event"])
    if sentence is None:
        return ""
    whose = f"vhid {entry['vhid']}" if entry.get("vhid") else ""
    return f"{whose}{' ' if entry['event'] == 'role' else ': ' if whose else ''}{sentence(entry)}"
