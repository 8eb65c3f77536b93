"""Adoption: whatever a dead monitor left, at most one copy runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.adoption import Adopt, Refuse, Start, judge
from gimli.monitor.records import Record
from gimli.process import ProcessId

BOOT = "this-boot"
WHO = ProcessId(100, 7)
OTHER = ProcessId(100, 8)
RUNNING = Record("running", WHO, BOOT)


@pytest.mark.parametrize(
    ("record", "living", "marked", "kind"),
    [
        (RUNNING, WHO, (), Adopt),
        (RUNNING, None, (), Start),  # it has ended
        (RUNNING, OTHER, (), Start),  # the pid was reused
        (Record("running", WHO, "another boot"), WHO, (), Start),  # pid and start time agree by chance
        (Record("down"), None, (), Start),
        (Record("starting"), None, (), Start),  # the lock was free: nobody was forked
        (Record("missing"), None, (), Start),
        (Record("missing"), None, (WHO,), Adopt),  # somebody cleaned the runtime directory
        (Record("damaged"), None, (WHO,), Adopt),
        (Record("damaged"), None, (WHO, OTHER), Refuse),
        (Record("missing"), None, (WHO, OTHER), Refuse),
        (Record("damaged"), None, (), Refuse),  # it may have overwritten its environment
        (Record("damaged"), None, None, Refuse),  # nobody could look
        (Record("missing"), None, None, Refuse),
        (Record("down"), None, None, Start),
    ],
)
def test_the_verdict(record, living, marked, kind):
    assert isinstance(judge(record, BOOT, living, marked, "/run/a.run"), kind)


def test_a_refusal_names_the_file_and_what_to_do():
    verdict = judge(Record("damaged"), BOOT, None, (), "/run/a.run")
    assert isinstance(verdict, Refuse)
    assert "rm /run/a.run" in verdict.why


processes = st.builds(ProcessId, st.integers(1, 3), st.integers(1, 3))
records = st.one_of(
    st.sampled_from([Record(kind) for kind in ("missing", "down", "starting", "damaged")]),
    st.builds(Record, st.just("running"), processes, st.sampled_from([BOOT, "other"])),
)


@given(records, st.none() | processes, st.none() | st.lists(processes, max_size=3))
def test_what_lives_under_its_own_name_is_never_started_again(record, living, marked):
    verdict = judge(record, BOOT, living, marked, "/run/a.run")
    if isinstance(verdict, Start):
        assert record.process is None or record.boot_id != BOOT or living != record.process
        assert record.process is not None or record.kind in {"down", "starting"} or marked == []
