"""Every cause is one switch: there before, gone after, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gimli.lab.network import causes
from gimli.lab.network.scenarios import PFSYNC_MULTICAST
from gimli.lab.network.topology import Release
from tests.lab.network.designs import pf

OLD = pf(release=Release.V4_6)
WAYS = [(cause, way) for cause in causes.CAUSES for way in cause.ways]


def test_the_incident_has_all_but_what_ended_with_4_6():
    names = {cause.name for cause in causes.CAUSES}
    assert {cause.name for cause in causes.present(OLD)} == names
    assert {cause.name for cause in causes.present(PFSYNC_MULTICAST)} == names - {"forwarding"}


@pytest.mark.parametrize(("cause", "way"), WAYS, ids=[way.remedy for _, way in WAYS])
def test_a_way_takes_its_cause_away_and_leaves_the_others(cause, way):
    changed = way.change(OLD)
    gone = {one.name for one in causes.present(OLD)} - {one.name for one in causes.present(changed)}
    # Without pfsync there is no sync cable that could be slow.
    assert gone - {"slow-sync"} == {cause.name} - {"slow-sync"}
    assert cause.name in gone
    assert way.change(changed) is not OLD
    assert (changed.name, changed.lasts_s, changed.faults) == (OLD.name, OLD.lasts_s, OLD.faults)


@pytest.mark.parametrize("remedy", causes.REMEDIES, ids=lambda remedy: remedy.name)
def test_a_remedy_changes_the_network_and_not_who_uses_it(remedy):
    changed = remedy.change(PFSYNC_MULTICAST)
    assert changed != PFSYNC_MULTICAST
    assert changed.traffic == PFSYNC_MULTICAST.traffic
    assert replace(changed, hosts=(), switches=()) == replace(PFSYNC_MULTICAST, hosts=(), switches=())


def test_static_entries_are_for_the_switch_of_the_balancers_only():
    changed = causes.with_static_entries(PFSYNC_MULTICAST)
    entries = {switch.name: switch.static for switch in changed.switches}
    assert entries == {
        "outside": (),
        "dmz": (("01:00:5e:00:02:64", ("lb1", "lb2")),),
        "inside": (),
    }


def test_a_rate_is_for_every_network_but_the_sync_cable():
    changed = causes.with_rate(100.0)(PFSYNC_MULTICAST)
    assert causes.inner_rate(changed) == causes.sync_rate(changed) == 100.0
    changed = causes.with_rate(500.0)(PFSYNC_MULTICAST)
    assert (causes.inner_rate(changed), causes.sync_rate(changed)) == (500.0, 100.0)


def test_all_causes_taken_away_leave_none():
    assert causes.present(causes.without(OLD, causes.CAUSES)) == ()
