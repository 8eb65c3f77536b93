"""Which deaths get a report, and what the journal says of each."""

from __future__ import annotations

import signal

from gimli.monitor.deaths import Death, Records, journal_details

SECOND_NS = 1_000_000_000


def test_a_service_that_is_killed_over_and_over_gets_one_report_in_ten_seconds():
    records = Records()
    assert records.wants("web", signal.SIGKILL, 0)
    assert not records.wants("web", signal.SIGKILL, 9 * SECOND_NS)
    assert records.wants("web", signal.SIGKILL, 10 * SECOND_NS)


def test_a_thousand_services_killed_at_once_start_four_helpers():
    records = Records()
    assert sum(records.wants(f"s{number}", signal.SIGKILL, 5) for number in range(1000)) == 4


def test_every_fault_gets_one():
    records = Records()
    assert all(records.wants("web", signal.SIGSEGV, 0) for _ in range(20))


def test_the_journal_tells_the_oom_killer_and_our_own_orders_apart():
    kernel = {"pid": 0, "comm": "kernel"}
    assert journal_details(Death(), ordered=False) == {"sender": None}
    assert journal_details(Death(kernel, 128, oom=True, anon_rss_bytes=7), ordered=False) == {
        "sender": kernel,
        "oom": True,
        "anon_rss_bytes": 7,
    }
    assert journal_details(Death(), ordered=True)["ordered"] is True
