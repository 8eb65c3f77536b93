"""Which metrics does a status have? Pure: from the documents of the JSON contracts to Prometheus' text.

Names end in their unit, counters in ``_total``; a label tells apart what is of one kind. Source of the
format: Prometheus, "Exposition formats", version 0.0.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROLES = ("INIT", "BACKUP", "MASTER")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number.

    Args:
        name: of the metric.
        value: now.
        labels: which one of its kind.
        kind: ``gauge`` or ``counter``.
        about: what it says, for people.
    """

    name: str
    value: float
    about: str
    kind: str = "gauge"
    labels: Mapping[str, str] = field(default_factory=dict)


def of_pair(status: Mapping[str, Any]) -> Iterator[Sample]:
    """The metrics of ``gimli pair status --json``."""
    yield Sample(
        "gimli_pair_demotion", status["demotion"], "How unfit this host holds itself to be MASTER, 0 to 255."
    )
    for vhid in status["vhids"]:
        labels = {"vhid": str(vhid["vhid"]), "interface": vhid["interface"]}
        for role in ROLES:
            about = "1 for the role that this host has."
            yield Sample("gimli_pair_role", vhid["role"] == role, about, labels=labels | {"role": role})
        if peer := vhid["peer"]:
            about = "How long the other node has been silent."
            yield Sample("gimli_pair_peer_silent_seconds", peer["heard_s_ago"], about, labels=labels)
    for vhid in status["vhids"]:
        for kind, count in vhid["refused"].items():
            labels = {"vhid": str(vhid["vhid"]), "kind": kind}
            about = "Packets that were not believed."
            yield Sample("gimli_pair_packets_refused_total", count, about, "counter", labels)
    yield from _of_states(status["states"])
    guard = status["guard"]
    yield Sample("gimli_pair_guard_installed", guard["installed"], "Whether the guard's rules are in place.")
    for name, count in guard["counters"].items():
        about = "Frames that the guard has dropped."
        yield Sample("gimli_pair_guard_dropped_frames_total", count, about, "counter", {"counter": name})


def _of_states(states: Mapping[str, Any] | None) -> Iterator[Sample]:
    if states is None:
        return
    for key, about in (
        ("local", "Changes of connections that this kernel told of."),
        ("replicated", "Changes that the other node has acknowledged."),
        ("lost", "Changes that were given up; a whole resynchronisation follows."),
    ):
        yield Sample(f"gimli_pair_states_{key}_total", states[key], about, "counter")
    yield Sample("gimli_pair_states_held", states["held"], "Connections held for the other node.")
    yield Sample("gimli_pair_synchronised", states["synchronised"], "Whether all of the owner's are here.")
    yield Sample("gimli_pair_lag_seconds", states["lag_s"], "How long the last acknowledged change took.")
    yield Sample("gimli_pair_epoch", states["epoch"], "Of the owner of the connections.")


def format_text(samples: Iterable[Sample]) -> str:
    """Samples as Prometheus reads them; those of one name stand together."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    lines = []
    for name, group in by_name.items():
        lines += [f"# HELP {name} {group[0].about}", f"# TYPE {name} {group[0].kind}"]
        lines += [f"{name}{_labels(sample.labels)} {float(sample.value):.12g}" for sample in group]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
