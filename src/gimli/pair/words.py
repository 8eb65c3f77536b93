"""What does a journal entry of the pair say in words? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gimli.clock import format_duration
from gimli.process import sender_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS = frozenset(
    {
        *("pair-started", "pair-ended", "role", "demotion", "peer-deaf", "packet-refused", "guard-altered"),
        *("announce-failed", "not-let-go", "leftover-removed", "hook-failed"),
        "address-removed",
        *("sync-peer-met", "sync-peer-silent", "sync-peer-heard", "sync-events-lost"),
        *("sync-owner", "sync-replica"),
    }
)


def describe(entry: Mapping[str, Any]) -> str:
    """The sentence for an event; empty for one that is not the pair's."""
    vhid = f"vhid {entry['vhid']}" if "vhid" in entry else ""
    match entry["event"]:
        case "pair-started":
            return f"the pair's daemon has started as pid {entry['pid']}"
        case "pair-ended":
            return "the pair's daemon has ended; the guard stays, and keeps this host silent"
        case "role":
            return f"{vhid} is {entry['role']}: {entry['why']}"
        case "demotion":
            because = f": {entry['because']}" if entry["because"] else ""
            return f"demotion {entry['before']} -> {entry['demotion']}{because}"
        case "peer-deaf":
            return f"{vhid}: {entry['peer']} is {entry['why']}"
        case "packet-refused":
            return f"{vhid}: packet refused ({entry['kind']}): {entry['why']}; further ones are counted"
        case "guard-altered":
            return f"somebody has altered the guard: {entry['what']}{'; mended' if entry['mended'] else ''}"
        case "not-punctual":
            return f"on a busy host the daemon may be late, and lose its role for it: {entry['why']}"
        case "announce-failed":
            return f"{vhid}: could not announce the addresses: {entry['why']}"
        case "address-removed":
            return f"{vhid}: somebody has removed {entry['address']}; it is taken again"
        case "not-let-go":
            return f"could not let go: {entry['why']}"
        case "leftover-removed":
            return f"removed what a daemon before had left: {entry['what']}"
        case "hook-failed":
            return f"{vhid}: the command of {entry['hook']} has failed: {entry['why']}"
        case "sync-peer-met":
            return "state sync: the peer is there"
        case "sync-peer-silent":
            return f"state sync: nothing of the peer for {format_duration(entry['since_s'])}"
        case "sync-peer-heard":
            return "state sync: the peer is heard again"
        case "sync-owner":
            return f"the connections are ours, epoch {entry['epoch']}; {entry['connections']} were held"
        case "sync-replica":
            return "the connections are the peer's; copies are kept"
        case "sync-events-lost":
            return "state sync: the kernel has dropped events; everything is sent again"
        case "signal":
            return f"received {entry['signal']} from {sender_in_words(entry['sender'])}"
    return ""
