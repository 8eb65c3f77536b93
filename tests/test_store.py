from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import store
from gimli.errors import StoreError, UnknownReport
from gimli.store.index import Alike, Store

NOW_S = 1_800_000_000


def document(report_id, **changes):
    return {
        "schema": 1,
        "id": report_id,
        "service": "orders",
        "reason": "crash",
        "time": "2027-01-15T08:00:00+00:00",
        "pid": 41,
        "command": ["orders"],
        "signature": "a" * 12,
        "summary": "null pointer",
    } | changes


def add(state, number=0, *, name="report.json", **changes):
    """Publish a report as the capture helper does."""
    report_id = store.new_id(NOW_S + number, bytes([number, 0]))
    directory = store.incoming_dir(state, report_id)
    write(directory, name, document(report_id, **changes))
    store.publish(state, report_id)
    return report_id


def write(directory, name, content):
    """As the helpers write: whole, then renamed."""
    path = os.path.join(directory, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    os.replace(path + ".new", path)


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state")


@given(st.integers(0, 2**35 - 2), st.binary(min_size=2, max_size=8), st.binary(min_size=2, max_size=8))
def test_ids_sort_by_time_whatever_the_chance(now_s, chance, other):
    earlier, later = store.new_id(now_s, chance), store.new_id(now_s + 1, other)
    assert earlier < later
    assert store.is_id(earlier)
    assert len(earlier) == 10


@pytest.mark.parametrize("name", ["../../etc", "", "01KAP3V9Q", "01kap3v9qt", "01KAP3V9QTX", "01KAP3V9Q/"])
def test_what_is_not_an_id_cannot_lead_out_of_the_store(name):
    assert not store.is_id(name)


def test_a_report_is_in_the_store_whole_or_not_at_all(state):
    report_id = store.new_id(NOW_S, b"ab")
    directory = store.incoming_dir(state, report_id)
    write(directory, "report.json", document(report_id))
    assert Store(state).entries() == []
    assert store.publish(state, report_id) == os.path.join(state, "reports", report_id)
    assert not os.path.exists(directory)
    assert [entry.id for entry in Store(state).entries()] == [report_id]


def test_directories_of_the_store_are_private(state):
    report_id = add(state)
    for path in (state, os.path.join(state, "reports"), Store(state).path(report_id)):
        assert os.stat(path).st_mode & 0o777 == 0o700


def test_a_discarded_report_leaves_nothing(state):
    report_id = store.new_id(NOW_S, b"ab")
    directory = store.incoming_dir(state, report_id)
    write(directory, "core", "x")
    store.discard(state, report_id)
    assert os.listdir(os.path.dirname(directory)) == []


def test_leftovers_of_dead_captures_are_swept_and_live_ones_are_not(state):
    """The newest file counts: a capture may write for longer than its directory is unchanged."""
    old, live = (store.new_id(NOW_S, bytes([n, 0])) for n in (1, 2))
    for report_id in (old, live):
        write(store.incoming_dir(state, report_id), "core", "x")
        os.utime(os.path.join(state, ".incoming", report_id), (NOW_S, NOW_S))
    os.utime(os.path.join(state, ".incoming", old, "core"), (NOW_S, NOW_S))
    os.utime(os.path.join(state, ".incoming", live, "core"), (NOW_S + 3600, NOW_S + 3600))
    assert store.sweep(state, NOW_S + 3601, 3600) == [old]
    assert os.listdir(os.path.join(state, ".incoming")) == [live]


def test_a_report_is_never_published_over_another(state):
    report_id = add(state)
    write(store.incoming_dir(state, report_id), "report.json", document(report_id, summary="other"))
    with pytest.raises(StoreError, match="cannot store report"):
        store.publish(state, report_id)
    assert Store(state).load(report_id).summary == "null pointer"


def test_a_state_directory_that_is_a_file_is_said_to_be_one(state):
    with open(state, "w", encoding="utf-8"):
        pass
    with pytest.raises(StoreError) as caught:
        store.incoming_dir(state, store.new_id(NOW_S, b"ab"))
    assert "is a file" in caught.value.why
    with pytest.raises(StoreError) as caught:
        Store(state).entries()
    assert "--state-dir" in caught.value.fix


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "df -h"), (errno.EROFS, "read-only"), (errno.EACCES, "ls -ld")]
)
def test_an_error_of_the_disk_says_what_to_do(number, advice):
    error = store.store_error("cannot store", OSError(number, ""), "/state")
    assert error.why == os.strerror(number)
    assert advice in error.fix


def test_the_capture_helper_loads_no_database_and_no_model():
    code = (
        "import sys, gimli.store; print(*sorted({'sqlite3', 'dataclasses', 'typing'} & sys.modules.keys()))"
    )
    package = os.path.dirname(os.path.dirname(os.path.dirname(store.__file__)))
    code = f"import sys; sys.path.insert(0, {package!r}); {code}"
    # Not -S: an editable install needs its site directory; but without what a .pth file may import first.
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_the_latest_analysis_of_a_report_is_what_the_index_tells(state):
    """The index is compared with the directories at each question: nobody need announce anything."""
    report_id = add(state, name="facts.json")
    index = Store(state)
    assert index.entries()[0].summary != "deadlock"
    write(index.path(report_id), "report.json", document(report_id, summary="deadlock"))
    assert index.entries()[0].summary == "deadlock"


def test_a_report_without_analysis_is_made_of_its_facts_and_says_so(state):
    report_id = add(state, name="facts.json")
    assert any("raw facts" in note for note in Store(state).load(report_id).notes)
    write(Store(state).path(report_id), "report.json", "{")
    assert any("report.json is damaged" in note for note in Store(state).load(report_id).notes)


@pytest.mark.parametrize("broken", ["{", "[]", '{"schema": 2}', "[" * 100_000, "\0", '{"schema": 1}'])
def test_a_damaged_report_does_not_break_the_list(state, broken):
    good, bad = add(state, 1), add(state, 2)
    write(Store(state).path(bad), "report.json", broken)
    entries = Store(state).entries()
    assert [entry.id for entry in entries] == [good, bad]
    assert entries[1].damage
    assert entries[1].count == 1
    with pytest.raises(StoreError, match="is damaged"):
        Store(state).load(bad)


def test_values_that_no_database_takes_are_made_to_fit(state):
    """A report holds what a hostile program said: half a surrogate pair, a pid of 30 digits."""
    add(state, service="\ud800", pid=10**30, summary="\x00")
    (entry,) = Store(state).entries()
    assert entry.service == "?"


def test_the_size_is_what_the_disk_holds(state):
    report_id = add(state)
    index = Store(state)
    before = index.entries()[0].size_bytes
    with open(os.path.join(index.path(report_id), "core"), "wb") as core:
        core.truncate(1 << 30)
        core.write(b"x" * 10_000)
        os.fsync(core.fileno())
    index.add(index.path(report_id))
    assert 10_000 <= index.entries()[0].size_bytes - before < 1 << 20


def test_reports_of_one_signature_are_one_group(state):
    ids = [add(state, n, time=f"2027-01-15T08:00:0{n}+00:00") for n in range(3)]
    add(state, 4, signature="", summary="not analysed")
    add(state, 5, signature="", summary="not analysed")
    groups = Store(state).groups()
    assert [group.count for group in groups] == [3, 1, 1], "without a signature nothing is alike"
    assert (groups[0].first[-8:], groups[0].last[-8:]) == ("00+00:00", "02+00:00")
    assert groups[0].latest_id == ids[2]
    assert Store(state).alike(ids[1]) == Alike(2, 3, "2027-01-15T08:00:00+00:00")


def test_an_unambiguous_beginning_in_any_case_is_enough(state):
    first, second = add(state, 0), add(state, 40)
    index = Store(state)
    assert index.find("latest") == second
    assert index.find(first.lower()) == first
    # Crockford's reading: what was meant by I, L and O on the telephone.
    assert index.find(first.replace("1", "l").replace("0", "o")) == first
    with pytest.raises(UnknownReport) as caught:
        index.find(first[:3])
    assert second in caught.value.why


@pytest.mark.parametrize("text", ["", "latest", "nothing", "%", "7"])
def test_an_empty_store_says_so(state, text):
    with pytest.raises(UnknownReport, match="there is no report"):
        Store(state).find(text)


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, None])
def test_a_damaged_index_is_made_again_and_loses_no_report(state, damage):
    ids = [add(state, n) for n in range(3)]
    index = Store(state)
    index.entries()
    path = os.path.join(state, "index.sqlite")
    if damage is None:
        os.unlink(path)
    else:
        with open(path, "wb") as file:
            file.write(damage)
    assert [entry.id for entry in index.entries()] == ids
    assert sqlite3.connect(path).execute("SELECT count(*) FROM report").fetchone() == (3,)


def test_an_index_with_a_page_torn_in_the_middle_is_made_again(state):
    """The header is whole: only reading finds it."""
    ids = [add(state, n, summary="x" * 500) for n in range(30)]
    index = Store(state)
    index.entries()
    path = os.path.join(state, "index.sqlite")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(path) - 4096))
    assert [entry.id for entry in index.entries()] == ids


def test_an_index_of_another_version_is_made_again(state):
    report_id = add(state)
    with sqlite3.connect(os.path.join(state, "index.sqlite")) as other:
        other.execute("CREATE TABLE report (other TEXT)")
        other.execute("PRAGMA user_version = 99")
    assert [entry.id for entry in Store(state).entries()] == [report_id]


def test_a_table_that_others_have_changed_is_made_again(state):
    report_id = add(state)
    with sqlite3.connect(os.path.join(state, "index.sqlite")) as other:
        other.execute("CREATE TABLE report (other TEXT)")
        other.execute("PRAGMA user_version = 1")
    assert [entry.id for entry in Store(state).entries()] == [report_id]


def test_an_index_that_cannot_be_a_file_is_kept_in_memory(state):
    report_id = add(state)
    os.mkdir(os.path.join(state, "index.sqlite"))
    assert [entry.id for entry in Store(state).entries()] == [report_id]


def test_a_reader_without_permission_reads_a_copy(state, monkeypatch):
    """Tests may run as root, who may write anywhere: permission is refused where it is asked for."""
    add(state, 0)
    Store(state).entries()
    added = add(state, 1)
    monkeypatch.setattr(Store, "_is_writable", lambda _: False)
    assert Store(state).entries()[-1].id == added
    with sqlite3.connect(os.path.join(state, "index.sqlite")) as index:
        assert index.execute("SELECT count(*) FROM report").fetchone() == (1,), "the file was not touched"


def test_a_reader_does_not_wait_for_ever_for_a_lock(state, monkeypatch):
    report_id = add(state)
    Store(state).entries()
    add(state, 1)
    monkeypatch.setattr("gimli.store.index._LOCK_WAIT_S", 0)
    holder = sqlite3.connect(os.path.join(state, "index.sqlite"))
    holder.execute("BEGIN EXCLUSIVE")
    assert Store(state).entries()[0].id == report_id
    holder.close()


def test_a_report_that_was_removed_is_forgotten(state):
    ids = [add(state, n) for n in range(2)]
    index = Store(state)
    index.entries()
    os.rename(index.path(ids[0]), os.path.join(state, "elsewhere"))
    assert [entry.id for entry in index.entries()] == ids[1:]


def test_rebuilding_reads_every_report_again(state):
    report_id = add(state)
    index = Store(state)
    index.entries()
    with sqlite3.connect(os.path.join(state, "index.sqlite")) as other:
        other.execute("UPDATE report SET summary = 'wrong'")
    index.rebuild()
    assert index.entries()[0].summary == "null pointer"
    assert index.entries()[0].id == report_id


@pytest.mark.slow
def test_writers_in_several_processes_lose_nothing(state):
    add(state)
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import test_store
from gimli.store.index import Store
state, first = sys.argv[2], int(sys.argv[3])
for number in range(first, first + 10):
    Store(state).add(Store(state).path(test_store.add(state, number)))
"""
    here, source = (
        os.path.dirname(__file__),
        os.path.dirname(os.path.dirname(os.path.dirname(store.__file__))),
    )
    environment = os.environ | {"PYTHONPATH": source}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, here, state, str(start)], env=environment)
        for start in (10, 30, 50)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with sqlite3.connect(os.path.join(state, "index.sqlite")) as index:
        assert index.execute("SELECT count(*) FROM report").fetchone() == (31,)
