"""Which reports are there, and which of them are of one cause?

The directories are the truth; ``index.sqlite`` remembers what was read of each, with a stamp of the file
it was read from. Every question first compares the stamps and reads anew what has changed, so the index
is never out of step, and may be deleted at any time:

    reports/*/  --stat--> stamps --differ?--> read report.json, else facts.json --> row

A damaged index is made again. One that cannot be written (a reader without permission, a full disk, a
lock held too long) is copied to memory and brought up to date there. A damaged report is a row that says
what is wrong with it.
"""

from __future__ import annotations

import os
from contextlib import closing

from gimli.errors import StoreError
from gimli.store import slips
from gimli.store.incoming import REPORTS, is_id, store_error
from gimli.store.reading import read_report, size_bytes, stamp
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Connection
    from typing import TypeVar

    from gimli.report import Report

    T = TypeVar("T")

_INDEX = "index.sqlite"
_SCHEMA = 1
_LOCK_WAIT_S = 5.0
_LATEST = "latest"
_INT64_MAX = (1 << 63) - 1

_CREATE = """
CREATE TABLE report (
    id TEXT PRIMARY KEY, service TEXT NOT NULL, reason TEXT NOT NULL, time TEXT NOT NULL,
    pid INTEGER NOT NULL, signature TEXT NOT NULL, summary TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, damage TEXT NOT NULL,
    cause TEXT NOT NULL,  -- the signature; the id of a report without one, which is alone of its kind
    stamp TEXT NOT NULL   -- of the file that this row was read from
) WITHOUT ROWID;
CREATE INDEX report_by_cause ON report (cause);
"""
_INSERT = "INSERT OR REPLACE INTO report VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "id, service, reason, time, pid, signature, summary, size_bytes, damage"
_LIST = f"""
SELECT {_COLUMNS}, (SELECT count(*) FROM report AS other WHERE other.cause = report.cause)
FROM report WHERE :service IS NULL OR service = :service ORDER BY id DESC LIMIT :limit
"""  # noqa: S608 - no part of it comes from outside
# SQLite takes the bare columns of a group from the row that has the max(): the latest report of the cause.
_GROUP = """
SELECT signature, service, reason, summary, count(*),
    (SELECT time FROM report AS other WHERE other.cause = report.cause ORDER BY id LIMIT 1), time, max(id)
FROM report WHERE :service IS NULL OR service = :service GROUP BY cause ORDER BY max(id)
"""


@value
class Entry:
    """One report as the index has it."""

    id: str
    service: str
    reason: str
    time: str
    pid: int
    signature: str
    summary: str
    size_bytes: int
    damage: str
    """Why it cannot be read; empty when it can."""
    count: int
    """Reports of the same signature, this one included."""


@value
class Group:
    """All reports of one signature."""

    signature: str
    service: str
    reason: str
    summary: str
    count: int
    first: str
    last: str
    latest_id: str


@value
class Alike:
    """Where a report stands among those of its signature."""

    ordinal: int
    count: int
    first: str


class Store:
    """The reports of one state directory. Any number of processes may read and add at once."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self._reports = os.path.join(state_dir, REPORTS)
        self._index = os.path.join(state_dir, _INDEX)

    def path(self, report_id: str) -> str:
        """The directory of a report."""
        return os.path.join(self._reports, report_id)

    def add(self, report_dir: str) -> None:
        """Index a report now, or read it anew: it was published, analysed, or its core was removed.

        For the first two that is optional: every question below finds a new document by itself.
        """
        assert os.path.dirname(os.path.abspath(report_dir)) == os.path.abspath(self._reports), report_dir
        self._ask(lambda _: None, anew=os.path.basename(os.path.abspath(report_dir)))

    def entries(self, service: str | None = None, limit: int | None = None) -> list[Entry]:
        """The reports, oldest first; with ``limit`` only the newest ones."""
        wanted = {"service": service, "limit": -1 if limit is None else limit}
        rows = self._ask(lambda index: index.execute(_LIST, wanted).fetchall())
        return [Entry(*row) for row in reversed(rows)]

    def groups(self, service: str | None = None) -> list[Group]:
        """The causes, the one with the latest report last."""
        rows = self._ask(lambda index: index.execute(_GROUP, {"service": service}).fetchall())
        return [Group(*row) for row in rows]

    def alike(self, report_id: str) -> Alike:
        """How many reports have this one's signature, and which of them it is."""
        query = """
            SELECT sum(id <= :id), count(*), time, min(id) FROM report
            WHERE cause = (SELECT cause FROM report WHERE id = :id)
        """
        ordinal, count, first, _ = self._ask(lambda index: index.execute(query, {"id": report_id}).fetchone())
        return Alike(ordinal or 1, count or 1, first or "")

    def find(self, text: str, service: str | None = None) -> str:
        """The id that is meant by an unambiguous beginning of it, or by ``latest``, of a service or of all.

        Raises:
            UnknownReport: none is meant, or several; says which command may have been meant.
        """
        if text == _LATEST:
            entries = self.entries(service, limit=1)
            if not entries:
                raise slips.no_reports(self.state_dir, service)
            return entries[0].id
        wanted = slips.as_id(text)
        entries = self.entries(service)
        found = [entry.id for entry in entries if wanted and entry.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise slips.ambiguous(text, found)
        raise slips.unknown(text, entries, self.state_dir)

    def load(self, report_id: str) -> Report:
        """The report: analysed, or made of the facts alone with a note that says so.

        Raises:
            StoreError: neither file can be read.
        """
        return read_report(self.path(report_id))

    def rebuild(self) -> None:
        """Forget the index and read every report."""
        self._forget()
        self._ask(lambda _: None)

    def _ask(self, question: Callable[[Connection], T], *, anew: str = "") -> T:
        """Answer from the index on disk, made again if it is damaged; from memory if that cannot be."""
        import sqlite3  # noqa: PLC0415 - the capture helper imports this package and never asks

        if self._is_writable():
            for _ in range(2):
                try:
                    with closing(sqlite3.connect(self._index, timeout=_LOCK_WAIT_S)) as index:
                        self._bring_up_to_date(index, anew)
                        return question(index)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        break  # locked, full, unwritable: the file may be good, and others use it
                    self._forget()
        with closing(self._in_memory()) as memory:
            self._bring_up_to_date(memory)
            return question(memory)

    def _is_writable(self) -> bool:
        """Whether an index may be kept. A store without reports has none, so that asking creates nothing."""
        if not os.path.isdir(self._reports) or not os.access(self.state_dir, os.W_OK):
            return False
        return os.access(self._index, os.W_OK) or not os.path.lexists(self._index)

    def _in_memory(self) -> Connection:
        """A copy of the index, if it can at least be read: it spares the reading of every report."""
        import sqlite3  # noqa: PLC0415 - as above

        memory = sqlite3.connect(":memory:")
        try:
            uri = f"file:{_quoted(os.path.abspath(self._index))}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S)) as index:
                rows = index.execute("SELECT * FROM report").fetchall()
            # Row by row: Connection.backup() waits for ever for a lock.
            _prepare(memory)
            with memory:
                memory.executemany(_INSERT, rows)
        except sqlite3.DatabaseError:
            memory.close()
            memory = sqlite3.connect(":memory:")
        return memory

    def _bring_up_to_date(self, index: Connection, anew: str = "") -> None:
        """Read what is new or changed, forget what is gone; write only if there is something to write."""
        _prepare(index)
        stamps = self._stamps()
        known = dict(index.execute("SELECT id, stamp FROM report"))
        gone = known.keys() - stamps.keys()
        changed = [name for name, stamp in stamps.items() if known.get(name) != stamp or name == anew]
        if not gone and not changed:
            return
        rows = [(*_describe(self.path(report_id), report_id), stamps[report_id]) for report_id in changed]
        with index:
            index.execute("BEGIN IMMEDIATE")
            index.executemany("DELETE FROM report WHERE id = ?", [(report_id,) for report_id in gone])
            index.executemany(_INSERT, rows)

    def _stamps(self) -> dict[str, str]:
        """Every report's id with a stamp of its document, which changes when the document does."""
        try:
            with os.scandir(self._reports) as entries:
                return {
                    entry.name: stamp(entry.path) for entry in entries if is_id(entry.name) and entry.is_dir()
                }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise store_error(f"cannot read the reports in {self._reports}", error, self.state_dir) from error

    def _forget(self) -> None:
        for path in (self._index, self._index + "-journal"):
            try:
                os.unlink(path)
            except OSError:
                continue  # a directory, or gone: connecting to it fails as it should


def _prepare(index: Connection) -> None:
    """Make the table, also over one of another version of gimli."""
    if index.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
        # Not in WAL mode: its reader needs write permission for the -shm file.
        make = f"DROP TABLE IF EXISTS report; {_CREATE} PRAGMA user_version = {_SCHEMA};"
        index.executescript(f"BEGIN IMMEDIATE; {make} COMMIT;")


def _is_damage(error: Exception) -> bool:
    """Whether the file is no index, as opposed to one that cannot be used now."""
    import sqlite3  # noqa: PLC0415 - as above

    # A table of other columns (SQLITE_ERROR) is as useless as a broken file.
    damaged = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in damaged


def _describe(report_dir: str, report_id: str) -> tuple[object, ...]:
    """A report's row, without its stamp. What it holds came from a program: it is made to fit the columns."""
    size = size_bytes(report_dir)
    try:
        found = read_report(report_dir)
    except StoreError as error:
        return report_id, "", "", "", 0, "", "", size, error.why, report_id
    texts = (found.service, found.reason, found.time)
    pid = min(max(found.pid, 0), _INT64_MAX)
    signature = _clean(found.signature)
    cause = signature or report_id
    return (report_id, *map(_clean, texts), pid, signature, _clean(found.summary), size, "", cause)


def _clean(text: str) -> str:
    """JSON may hold half a surrogate pair, which no database and no terminal takes."""
    return text.encode(errors="replace").decode()


def _quoted(path: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only a reader without permission needs it

    return quote(path)
