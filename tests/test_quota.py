"""Which reports go, which stay, and why."""

from __future__ import annotations

import json
import os
import time

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gimli import store
from gimli.cli import prune as cli
from gimli.errors import UsageError
from gimli.store.incoming import time_of
from gimli.store.index import Store
from gimli.store.pruning import prune, to_prune
from gimli.store.quota import DAY_S, Kept, Limits, choose, default_bytes

DISK = 100_000_000_000
MB = 1_000_000


def kept(number: int, **changes) -> Kept:
    usual = {
        "age_s": (100 - number) * 60.0,
        "size_bytes": 10 * MB,
        "core_bytes": 9 * MB,
        "cause": f"c{number}",
    }
    return Kept(**{"id": f"{number:010}", "is_in_use": False} | usual | changes)


def chosen(reports, **limits) -> list[tuple[int, str]]:
    return [(int(each.id), each.what) for each in choose(reports, Limits(**limits), DISK)]


def test_nothing_goes_while_all_is_within_the_limits():
    assert chosen([kept(number) for number in range(5)]) == []
    assert chosen([]) == []


def test_of_one_cause_the_first_and_the_last_core_stay():
    reports = [kept(number, cause="same" if number != 3 else "other") for number in range(6)]
    assert chosen(reports) == [(1, "core"), (2, "core"), (4, "core")]
    assert chosen([kept(number, cause="") for number in range(6)]) == [], "of no known cause"


def test_the_oldest_go_when_they_are_too_many_or_too_old():
    reports = [kept(number) for number in range(5)]
    assert chosen(reports, max_count=3) == [(0, "report"), (1, "report")]
    old = [kept(0, age_s=91 * DAY_S), kept(1, age_s=89 * DAY_S)]
    assert chosen(old) == [(0, "report")]
    (removal,) = choose(old, Limits(), DISK)
    assert removal.why == "it is 91 days old, and 90 days are kept"


def test_cores_go_before_reports_and_the_newest_last():
    reports = [kept(number) for number in range(4)]
    assert chosen(reports, max_bytes=25 * MB) == [(0, "core"), (1, "core")]
    everything = [(0, "report"), (1, "core"), (2, "core")]
    assert chosen(reports, max_bytes=12 * MB) == everything


def test_the_default_size_is_a_tenth_of_a_small_disk():
    assert default_bytes(1_000 * MB) == 100 * MB
    assert default_bytes(DISK) == 2_000 * MB


def stored(rows) -> list[Kept]:
    """Reports of any kind, oldest first."""
    return [
        Kept(f"{number:010}", age_s, size + core, core, "" if cause == 0 else str(cause), is_used)
        for number, (age_s, size, core, cause, is_used) in enumerate(sorted(rows, key=lambda row: -row[0]))
    ]


sizes = st.integers(0, 50 * MB)
rows = st.tuples(st.floats(0, 200 * DAY_S), sizes, st.just(0) | sizes, st.integers(0, 3), st.booleans())
reports_of_any_kind = st.lists(rows, max_size=25).map(stored)


@given(reports_of_any_kind, st.integers(0, 300 * MB), st.integers(0, 30))
def test_the_limits_are_kept_but_for_what_is_in_use(reports, max_bytes, max_count):
    removals = choose(reports, Limits(max_bytes, max_count), DISK)
    by_id = {report.id: report for report in reports}
    assert len({removal.id for removal in removals}) == len(removals)
    assert not any(by_id[removal.id].is_in_use for removal in removals)
    gone = {removal.id for removal in removals if removal.what == "report"}
    left = [report for report in reports if report.id not in gone]
    freed = sum(removal.size_bytes for removal in removals)
    used = [report for report in left if report.is_in_use]
    total = sum(report.size_bytes for report in reports) - freed
    assert total <= max(max_bytes, sum(report.size_bytes for report in used))
    assert len(left) <= max(max_count, len(left) if used else 0)
    assert all(report.age_s <= 90 * DAY_S or report.is_in_use for report in left)


# On disk.


def add(
    state: str, number: int, *, signature: str = "aaaa", core: int = 50_000, analysed: bool = True
) -> str:
    report_id = store.new_id(time.time() - 100 * DAY_S / (number + 1), bytes([number, 0]))
    directory = store.incoming_dir(state, report_id)
    document = {
        "schema": 1, "id": report_id, "service": "orders", "reason": "crash", "pid": 7, "command": [],
        "time": "2026-11-22T04:00:00.5+01:00", "signature": "aaaa", "summary": "null pointer",
    }  # fmt: skip
    with open(
        os.path.join(directory, "report.json" if analysed else "facts.json"), "w", encoding="utf-8"
    ) as file:
        json.dump(document, file)
    with open(os.path.join(directory, "core"), "wb") as file:
        file.write(os.urandom(50_000))
    store.publish(state, report_id)
    return report_id


def names(state: str) -> list[str]:
    return sorted(os.listdir(os.path.join(state, "reports")))


@pytest.fixture
def state(tmp_path) -> str:
    return str(tmp_path / "state")


def test_an_id_tells_its_time():
    assert time_of(store.new_id(1_800_000_000.9, b"\x01\x02")) == 1_800_000_000


def test_pruning_removes_what_was_chosen_and_the_index_knows(state):
    ids = [add(state, number) for number in range(5)]  # 100, 50, 33, 25 and 20 days old
    before = Store(state).entries()[2].size_bytes
    removals = [(each.id, each.what) for each in prune(state, Limits(), time.time())]
    assert removals == [
        (ids[0], "report"),
        (ids[2], "core"),
        (ids[3], "core"),
    ]
    assert names(state) == ids[1:]
    assert os.listdir(os.path.join(state, ".incoming")) == []
    assert Store(state).entries()[1].size_bytes < before
    assert prune(state, Limits(), time.time()) == ()


def test_a_report_that_waits_for_its_analysis_is_not_touched(state):
    report_id = add(state, 255, analysed=False)
    assert to_prune(state, Limits(max_count=0, max_bytes=0), time_of(report_id) + 60) == ()
    assert len(to_prune(state, Limits(max_count=0, max_bytes=0), time_of(report_id) + 7200)) == 1


def invoke(state: str, *arguments: str):
    return CliRunner().invoke(cli.command, [*arguments, "--state-dir", state], catch_exceptions=False)


def test_the_command_tells_what_goes_and_why(state):
    ids = [add(state, number) for number in range(3)]
    told = json.loads(invoke(state, "--dry-run", "--json", "--keep", "1").output)
    assert (told["schema"], told["dry_run"]) == (1, True)
    assert [row["id"] for row in told["removed"]] == ids[:2]
    assert told["freed_bytes"] == sum(row["size_bytes"] for row in told["removed"]) > 0
    assert names(state) == ids, "nothing was removed"
    text = invoke(state, "--older-than", "40d").output
    assert ids[0] in text
    assert "40 days are kept" in text
    assert names(state) == ids[2:]
    assert "nothing has to go" in invoke(state).stderr


def test_a_size_that_is_none_is_refused_with_words(state):
    with pytest.raises(UsageError, match="--max-size"):
        invoke(state, "--max-size", "lots")
