"""What is said of a network's runs, in words. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from gimli.lab.network.topology import Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.lab.network.topology import Topology

Metrics = dict[str, Any]

HEADS = ("frozen", "RST", "a failover loses")
"""Of the table of cures, beside the change and its price."""


def headline(metrics: Metrics) -> str:
    """One run in one line."""
    return (
        f"{metrics['frozen']} of {metrics['connections']} connections froze longer than 1 s, "
        f"{metrics['application_resets']} RST from the application; "
        f"{metrics['copies_on_backup']:,} copies reached the backup"
    )


def explanation(metrics: Metrics, told: str) -> tuple[str, ...]:
    """One run in sentences."""
    sentences = [
        (
            f"{metrics['answered']} requests were answered; {metrics['frozen']} connections stood still, "
            f"the longest for {metrics['longest_freeze_s']:.1f} s; {metrics['lost']} were lost."
        )
    ]
    if metrics["copies_on_backup"]:
        sentences.append(
            f"The backup saw {metrics['copies_on_backup']:,} frames that were not for it. Windows moved back "
            f"{metrics['backward_moves']:,} times, by {metrics['backward_bytes_most']:,} bytes at most, and "
            f"{metrics['bad_state_drops']:,} good packets were dropped as BAD state."
        )
    if metrics["forwarded_by_backup"]:
        sentences.append(
            f"A firewall that was not MASTER forwarded {metrics['forwarded_by_backup']:,} packets, "
            f"and {metrics['ttl_ended']:,} went round until their TTL ended."
        )
    if told:
        sentences.append(f"The story is that of {told}.")
    return tuple(sentences)


def many(base: Sequence[Metrics]) -> str:
    """The runs as it is, in one line."""
    return (
        f"{spread(base, 'frozen')} of {base[0]['connections']} connections froze longer than 1 s, "
        f"{spread(base, 'application_resets')} RST from the application  ({len(base)} seeds, median, range)"
    )


def spread(runs: Sequence[Metrics], what: str) -> str:
    """The median, and from least to most where they differ."""
    values = [run[what] for run in runs]
    median = statistics.median(values)
    if min(values) == max(values):
        return f"{median:g}"
    return f"{median:g} ({min(values)}-{max(values)})"


def left(runs: Sequence[Metrics]) -> str:
    """What still fails."""
    return (
        f"{spread(runs, 'frozen')} froze, {spread(runs, 'application_resets')} RST, "
        f"{spread(runs, 'bad_state_drops')} BAD state"
    )


def lost(runs: Sequence[Metrics]) -> str:
    """What a failover costs, all runs together."""
    return f"{sum(run['lost_at_fault'] for run in runs)} of {sum(run['open_at_fault'] for run in runs)}"


def sets(found: Sequence[Sequence[str]], alone: Sequence[Metrics]) -> str:
    """What a search over sets of causes has found."""
    if not found:
        return "No set of causes fails."
    if len(found) > 1:
        return "Each of these is enough by itself: " + "; ".join(" + ".join(one) for one in found) + "."
    return (
        f"{' + '.join(found[0])}: enough by themselves ({spread(alone, 'frozen')} froze), and no smaller "
        "set of them fails."
    )


def pulled(at_s: float, runs: Sequence[Metrics]) -> str:
    """What the story's cure did."""
    return (
        f"The sync cable pulled in the middle of the run, at {at_s:g} s: "
        f"{spread(runs, 'frozen')} froze, {spread(runs, 'frozen_after_fault')} of them after it."
    )


def middle_s(topology: Topology) -> float:
    """When two thirds of the connections have begun."""
    return round(topology.traffic.begins_s + topology.traffic.over_s * 2 / 3, 1)


def sure(topology: Topology) -> tuple[str, ...]:
    """How sure what is, what is not known, and what would tell. The figures are those of facts/network.md."""
    releases = {firewall.pf.release for firewall in topology.firewalls}
    if releases & {Release.V4_4, Release.V4_5, Release.V4_6}:
        first = (
            "A backup up to 4.6 forwards copies: read in the sources, 0.95. If the story's release was that "
            "old, the storm is its likelier cause, 0.8; the story names no release."
        )
    else:
        first = (
            "The mechanism: 0.95 in OpenBSD 4.7 to 7.3 with plain routing and floating states, read in the "
            "sources and seen with real TCP through a model of pf. That it is what the story met: 0.6 when "
            "connections move more than 67 kB at once, 0.15 for small requests only."
        )
    return (
        first,
        (
            "Not known: the story's release and link speeds. How many freeze depends on how late pfsync is "
            "against the network, and both are assumed here."
        ),
        (
            "A capture on the DMZ would tell: copies with a TTL one lower to 01:00:5e:... mean that the "
            "backup forwards; without them it is the windows. So would `netstat -s` on the backup "
            "(forwarded, cantforward), the digits of the master's BAD state log (3: this; 1: a window), "
            "`pfctl -vvss` showing lo/high of a state going down, and updates from the backup that carry "
            "the master's creator id."
        ),
        (
            "The cable that was pulled stops the windows' effect, and not forwarding: the story's cure "
            "speaks for the windows, or for states that the forwarding pf needed, since without one the "
            "backup's rules would have dropped the copy."
        ),
    )
