"""Which deaths get a report, and what the journal says of each."""

from __future__ import annotations

import signal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.deaths import Death, Records, find_unreported, journal_details, parse_details

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


def exited(at_s: float, service: str = "web", **more: Any) -> dict[str, Any]:
    """As it stands in the journal."""
    entry = {
        "monotonic_ns": round(at_s * SECOND_NS),
        "service": service,
        "event": "exited",
        "pid": 7,
        "signo": 9,
    }
    return entry | {"unreported": True} | more


def snapshot(at_s: float, service: str = "web", pid: int = 0) -> dict[str, Any]:
    """The beginning of a report; without a pid, of a death."""
    return {"monotonic_ns": round(at_s * SECOND_NS), "service": service, "event": "snapshot", "pid": pid}


def unreported(*entries: dict[str, Any], now_s: float = 1000) -> list[dict[str, Any]]:
    return find_unreported(entries, round(now_s * SECOND_NS))


def test_a_death_is_owed_until_its_report_is_begun():
    death = exited(1)
    assert unreported(death) == [death]
    assert unreported(death, snapshot(1.02)) == []
    assert unreported(death, snapshot(1.02, "db"), snapshot(1.02, pid=7)) == [death]
    assert unreported(exited(1), exited(2), snapshot(3)) == [exited(2)], "one report is of one death"


def test_what_is_no_news_is_not_owed():
    assert unreported(exited(1, unreported=False), exited(1, signo=None, code=3)) == []


def test_what_nobody_wanted_is_not_owed_for_ever():
    """One KILL in ten seconds gets a report: for the others there will be none, however long one looks."""
    assert unreported(exited(1), exited(100)) == [exited(100)]


def test_a_journal_of_another_boot_owes_nothing():
    """Its clock began at another time."""
    assert unreported(exited(5000), now_s=10) == []


@given(st.none() | st.just({"pid": 4, "comm": "sh"}), st.booleans(), st.none() | st.integers(0))
def test_what_the_journal_says_of_a_death_is_read_again(sender, oom, size):
    death = Death(sender, None, oom, size if oom else None)
    assert parse_details(journal_details(death, ordered=False)) == death


junk = st.dictionaries(
    st.sampled_from(["monotonic_ns", "service", "pid", "signo", "unreported", "sender", "anon_rss_bytes"]),
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
)


@given(st.lists(st.tuples(st.sampled_from(["exited", "snapshot", "started"]), junk), max_size=8))
def test_any_journal_is_read(entries):
    """A disk, or a hand, can have left anything in it."""
    for entry in find_unreported([{"event": event, **found} for event, found in entries], SECOND_NS):
        parse_details(entry)
        assert isinstance(entry["pid"], int)
