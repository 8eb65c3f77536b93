"""What is said of a network's runs, in words. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from gimli.lab.network import causes_linux, switching
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
        + (
            f"the guard dropped {metrics['guard_drops']:,} frames of another node"
            if metrics["guard_drops"]
            else f"{metrics['copies_on_backup']:,} copies reached the backup"
        )
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
        sentence = f"The backup saw {metrics['copies_on_backup']:,} frames that were not for it."
        if metrics["backward_moves"]:
            sentence += (
                f" Windows moved back {metrics['backward_moves']:,} times, by "
                f"{metrics['backward_bytes_most']:,} bytes at most."
            )
        if metrics["bad_state_drops"]:
            sentence += (
                f" {metrics['bad_state_drops']:,} good packets did not fit their state and were dropped."
            )
        sentences.append(sentence)
    elif metrics["guard_drops"]:
        sentences.append(
            f"{metrics['guard_drops']:,} frames of another node came to a firewall that was not MASTER; the "
            "guard dropped them before anything looked at them."
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
    seeds = "one seed" if len(base) == 1 else f"{len(base)} seeds: median, range"
    return (
        f"{spread(base, 'frozen')} of {base[0]['connections']} connections froze longer than 1 s, "
        f"{spread(base, 'application_resets')} RST from the application; {seeds}"
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
    if not runs:
        return "-"
    return f"{sum(run['lost_at_fault'] for run in runs)} of {sum(run['open_at_fault'] for run in runs)}"


def tried(
    sets: Sequence[Sequence[str]], alone: Sequence[Metrics], at_s: float, pulled: Sequence[Metrics]
) -> tuple[str, ...]:
    """What a search over sets of causes has found, and what the story's cure did.

    Args:
        sets: of causes, each enough by itself.
        alone: runs of the first of them.
        at_s: when the sync cable was pulled.
        pulled: runs in which it was; none where there is no such cable.
    """
    sentences = []
    if len(sets) == 1 and sets[0]:
        sentences.append(
            f"{' + '.join(sets[0])}: enough by themselves ({spread(alone, 'frozen')} froze), and no smaller "
            "set of them fails."
        )
    elif len(sets) == 1:
        sentences.append("It fails without any of the causes that are known here.")
    elif sets:
        sentences.append("Each of these is enough by itself: " + "; ".join(map(" + ".join, sets)) + ".")
    else:
        sentences.append("No set of the causes that are known here fails.")
    if pulled:
        sentences.append(
            f"The sync cable pulled in the middle of the run, at {at_s:g} s: {spread(pulled, 'frozen')} "
            f"froze, {spread(pulled, 'frozen_after_fault')} of them after it."
        )
    return tuple(sentences)


def withstood(safe: Sequence[str], harmful: Sequence[str]) -> tuple[str, ...]:
    """What keeps a network well in which nothing fails.

    Args:
        safe: what can be taken away without harm.
        harmful: what can not.
    """
    sentences = ["Nothing fails as it is: no connection froze, and no application reset one."]
    if safe:
        sentences.append(f"It withstands each of these as well: {'; '.join(safe)}.")
    if harmful:
        sentences.append(f"It does not withstand: {'; '.join(harmful)}.")
    return tuple(sentences)


_SURE_OF_LINUX = (
    (
        "The pair is the program's own code on virtual time: elections, lease, state sync, runtime. "
        "Connection tracking was written from Linux's sources, and is held against a real kernel packet by "
        "packet; that frames to a group MAC are tracked and not forwarded was read there, and measured."
    ),
    (
        "Assumed: the NIC hands on every frame to a group MAC, as that of a virtual machine or a port of a "
        "bridge does. One that filters them shows the backup fewer of them, or none."
    ),
)


def sure(topology: Topology) -> tuple[str, ...]:
    """How sure what is, what is not known, and what would tell: of incident 2, where its causes are."""
    if causes_linux.is_linux(topology):
        return _SURE_OF_LINUX
    if not switching.floods(topology) or not switching.sync_networks(topology):
        return (
            (
                "Simulated: TCP, pf's tracking and pfsync as they were read in standards and sources, the "
                "election by the pair's own machines. What is told follows from them; a network that is "
                "there may differ in how much."
            ),
        )
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
