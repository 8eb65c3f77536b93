"""Where are the reports, and how do they get there?

``STATE/reports/ID/`` is a report: ``facts.json``, ``core`` and, once analysed, ``report.json``. It is
made in ``STATE/.incoming/ID/`` and renamed when whole. ``STATE/index.sqlite`` is a cache that any reader
may rebuild: the directories are the truth.

The capture helper imports this package, so importing it loads no database and no model.
"""

from gimli.store.incoming import discard, incoming_dir, is_id, new_id, publish, store_error, sweep
from gimli.store.index import Alike, Entry, Group, Store
from gimli.store.reading import read_report

__all__ = [
    "Alike",
    "Entry",
    "Group",
    "Store",
    "discard",
    "incoming_dir",
    "is_id",
    "new_id",
    "publish",
    "read_report",
    "store_error",
    "sweep",
]
