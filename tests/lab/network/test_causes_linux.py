"""What a Linux pair may fail by, what keeps it from that, and how it is told."""

from __future__ import annotations

import pytest

from gimli.lab.network import causes_linux, evidence, measure, words
from gimli.lab.network.trial import Trial
from gimli.pair.syncactions import Mode
from tests.lab.network.designs import (
    LINUX_FAILOVER,
    LINUX_PAIR,
    PFSYNC_MULTICAST,
    firewalls,
    linux,
    quick,
    run,
)

QUICK = quick()
HARMED = firewalls(linux(QUICK, liberal=False), guard=False)
"""Everything that it takes."""
WAYS = [(cause, way) for cause in causes_linux.CAUSES for way in cause.ways]


def names(topology):
    return {cause.name for cause in causes_linux.present(topology)}


def test_causes_of_pf_are_none_of_a_linux_pair():
    assert causes_linux.is_linux(LINUX_PAIR)
    assert not causes_linux.is_linux(PFSYNC_MULTICAST)
    assert names(LINUX_PAIR) == {"power fw1", "flooding", "kernel-replicas"}
    assert names(HARMED) == {"power fw1", "flooding", "no-guard", "minded-windows", "kernel-replicas"}
    assert {remedy.name for remedy in causes_linux.remedies(HARMED)} >= {"the guard", "static MAC entries"}
    assert not {remedy.name for remedy in causes_linux.remedies(LINUX_PAIR)} & {"the guard", "OpenBSD 7.4+"}


@pytest.mark.parametrize(("cause", "way"), WAYS, ids=[way.remedy for _, way in WAYS])
def test_a_way_takes_its_cause_away_and_leaves_the_others(cause, way):
    changed = way.change(HARMED)
    if way.remedy != "invalid packets pass":  # they are not minded then, though they do not fit
        assert names(HARMED) - names(changed) == {cause.name}
    assert changed != HARMED
    assert changed.traffic == HARMED.traffic


def test_what_protects_is_what_can_be_taken_away():
    names = [each.name for each in causes_linux.protections(LINUX_PAIR)]
    assert names == [
        "guard off",
        "liberal off",
        "guard and liberal off, cache",
        "guard and liberal off, kernel",
        "state sync off",
        "advbase 1",
    ]
    guard_off, *_, all_off = causes_linux.AGAINST_FLOODING
    assert not any(firewall.is_guarded for firewall in guard_off.change(LINUX_PAIR).firewalls)
    assert all_off.change(linux(QUICK, mode=Mode.CACHE)) == HARMED
    assert [each.name for each in causes_linux.protections(LINUX_FAILOVER)] == names[-2:], (
        "nothing is flooded"
    )


def test_the_story_goes_from_the_copy_to_the_reset():
    """Each link with its time, and the window that stays is the one that the good packet fails by."""
    played = run(HARMED)
    _, subject = evidence.choose(played)
    story = evidence.tell(run(HARMED, traced=subject.traced), subject.number)
    kinds = [moment.what for moment in story]
    assert kinds[:5] == ["copy", "misfit", "fault", "role", "drop"]
    assert kinds[-1] == "reset"
    copy, misfit, fault, role, drop = story[:5]
    assert copy.t_ms < misfit.t_ms < fault.t_ms < role.t_ms < drop.t_ms
    assert {copy.where, misfit.where, role.where, drop.where} == {"fw2"}
    assert copy.fields["reply"]["end"] == misfit.fields["reply"]["end"] == drop.fields["reply"]["end"]
    assert str(drop.fields["reply"]["end"]) in drop.text
    assert "more dropped until" in drop.text


@pytest.mark.slow
def test_an_explanation_says_what_it_withstands_and_what_not():
    trial = Trial(QUICK, [1])
    trial.play(lambda _: None)
    assert trial.is_protected
    safe, harmful = trial.withstood()
    assert harmful == ["guard and liberal off, kernel", "state sync off", "advbase 1"]
    assert safe == ["guard off", "liberal off", "guard and liberal off, cache"]
    said = words.withstood(safe, harmful)
    assert f"It does not withstand: {'; '.join(harmful)}." in said
    rows = {cure.change: cure for cure in trial.cures()}
    assert set(rows) == {*safe, *harmful}
    assert [rows[name].cures for name in safe] == [True] * 3
    assert not any(rows[name].cures for name in harmful)


def test_how_sure_it_is_says_what_is_the_programs_own():
    assert "the program's own code" in words.sure(LINUX_PAIR)[0]
    assert "gimli" not in words.sure(PFSYNC_MULTICAST)[0]


def test_a_run_in_words_says_what_the_guard_dropped():
    figures = measure.metrics(run(QUICK))
    assert f"the guard dropped {figures['guard_drops']:,} frames of another node" in words.headline(figures)
    assert any("before anything looked at them" in sentence for sentence in words.explanation(figures, ""))
