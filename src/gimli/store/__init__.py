"""Where are the reports, and how do they get there?

``STATE/reports/ID/`` is a report: ``facts.json``, ``core`` and, once analysed, ``report.json``. It is
made in ``STATE/.incoming/ID/`` and renamed when whole. ``STATE/index.sqlite`` is a cache that any reader
may rebuild: the directories are the truth.

The monitor and the capture helper import this package: it has what makes a report. Who reads reports takes
``store.index`` and ``store.reading``.
"""

from gimli.store.incoming import discard, incoming_dir, is_id, new_id, publish, store_error, sweep

__all__ = [
    "discard",
    "incoming_dir",
    "is_id",
    "new_id",
    "publish",
    "store_error",
    "sweep",
]
