"""Which reports may go? Pure.

Of many reports of one cause the first and the last core are kept: the others tell nothing new. What is too
old or one too many goes whole, the oldest first. When the reports are still too large, cores go before
reports, for a report without its core still has the stacks and what explains them.
"""

from __future__ import annotations

from gimli.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DAY_S = 86_400.0
_SIZE_BYTES_MAX = 2_000_000_000
_SHARE_OF_DISK = 10


@value
class Limits:
    """How much the reports of one state directory may be."""

    max_bytes: int | None = None
    """None: a tenth of the file system, and 2 GB at most."""
    max_count: int = 500
    max_age_s: float = 90 * DAY_S


@value
class Kept:
    """One report in the store."""

    id: str
    age_s: float
    size_bytes: int
    core_bytes: int
    """Of that, its core; 0 without one."""
    cause: str
    """Its signature; empty when it has none."""
    is_in_use: bool
    """It is being written or analysed: not to be touched."""


@value
class Removal:
    """What goes, and why."""

    id: str
    what: str
    """``core`` or ``report``."""
    size_bytes: int
    why: str


def default_bytes(disk_bytes: int) -> int:
    """The size that reports may have on a file system of that size."""
    return min(_SIZE_BYTES_MAX, disk_bytes // _SHARE_OF_DISK)


def choose(reports: Iterable[Kept], limits: Limits, disk_bytes: int) -> tuple[Removal, ...]:
    """What has to go for the limits to be kept.

    Args:
        reports: all of the store, oldest first.
        limits: what to keep to.
        disk_bytes: size of the file system.
    """
    kept = list(reports)
    removals = [*_too_old(kept, limits), *_too_many(kept, limits)]
    removals += _cores_between(_without(kept, removals))
    max_bytes = default_bytes(disk_bytes) if limits.max_bytes is None else limits.max_bytes
    left = _without(kept, removals)
    excess = sum(report.size_bytes for report in left) - max_bytes
    why = f"the reports have {_megabytes(excess + max_bytes)}, and {_megabytes(max_bytes)} are allowed"
    # The newest stays whole as long as anything else can go.
    for what in ("core", "report"):
        for report in (report for report in left if not report.is_in_use):
            size = report.core_bytes if what == "core" else report.size_bytes
            if excess <= 0:
                return _each_once(removals, kept)
            if size and (report is not left[-1] or what == "report"):
                removals.append(Removal(report.id, what, size, why))
                excess -= size
        left = _without(kept, removals)
    return _each_once(removals, kept)


def _cores_between(reports: Sequence[Kept]) -> list[Removal]:
    alike: dict[str, list[Kept]] = {}
    for report in reports:
        if report.cause and report.core_bytes:
            alike.setdefault(report.cause, []).append(report)
    return [
        Removal(
            report.id,
            "core",
            report.core_bytes,
            f"one of {len(cores)} cores of the same cause; the first and the last are kept",
        )
        for cores in alike.values()
        for report in cores[1:-1]
        if not report.is_in_use
    ]


def _too_old(reports: Sequence[Kept], limits: Limits) -> list[Removal]:
    return [
        Removal(
            report.id,
            "report",
            report.size_bytes,
            f"it is {report.age_s / DAY_S:.0f} days old, and {limits.max_age_s / DAY_S:.3g} days are kept",
        )
        for report in reports
        if report.age_s > limits.max_age_s and not report.is_in_use
    ]


def _too_many(reports: Sequence[Kept], limits: Limits) -> list[Removal]:
    excess = max(0, len(reports) - limits.max_count)
    why = f"there are {len(reports)} reports, and the limit is {limits.max_count}"
    return [
        Removal(report.id, "report", report.size_bytes, why)
        for report in reports[:excess]
        if not report.is_in_use
    ]


def _without(reports: Sequence[Kept], removals: Sequence[Removal]) -> list[Kept]:
    """What is left after them."""
    gone = {removal.id for removal in removals if removal.what == "report"}
    coreless = {removal.id for removal in removals if removal.what == "core"}
    return [
        replace(report, size_bytes=report.size_bytes - report.core_bytes, core_bytes=0)
        if report.id in coreless
        else report
        for report in reports
        if report.id not in gone
    ]


def _each_once(removals: Sequence[Removal], reports: Sequence[Kept]) -> tuple[Removal, ...]:
    """A report that goes whole takes its core with it: one reason is enough."""
    sizes = {report.id: report.size_bytes for report in reports}
    once: dict[str, Removal] = {}
    for removal in removals:
        if removal.id not in once or (removal.what == "report" and once[removal.id].what == "core"):
            once[removal.id] = removal
    whole = (
        replace(each, size_bytes=sizes[each.id]) if each.what == "report" else each for each in once.values()
    )
    return tuple(sorted(whole, key=lambda removal: removal.id))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.3g} MB" if size_bytes < 1e9 else f"{size_bytes / 1e6:.0f} MB"
