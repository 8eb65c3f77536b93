"""Which instance did a dead monitor leave? Asks the kernel for what ``adoption`` judges."""

from __future__ import annotations

from gimli.monitor import adoption
from gimli.monitor.spawned import Spawned
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.kernel import Kernel
    from gimli.monitor.leftovers import Survey
    from gimli.monitor.records import Record


@value
class Finding:
    """What is to be done, and what that is known from."""

    verdict: adoption.Verdict
    record: Record
    pidfd: int | None
    """Of the process to adopt; None where it has ended this instant."""
    dead: Spawned
    """Where nothing is adopted: the main process whose leftovers may live; pid 0 where none is known."""


def find_survivor(kernel: Kernel, service: str, record_path: str, survey: Survey | None) -> Finding:
    """The instance of a service that is still there.

    Args:
        kernel: who knows.
        service: its name.
        record_path: its run record.
        survey: of all processes; None where every record is certain, or nobody could look.
    """
    record = kernel.read_record(record_path)
    pidfd = None
    try:
        found = kernel.identify(record.process.pid) if record.process else None
        marked = kernel.living(survey.mains.get(service, ())) if survey else None
        verdict = adoption.judge(record, kernel.boot_id, found, marked, record_path)
        if isinstance(verdict, adoption.Adopt):
            pidfd = kernel.pidfd_of(verdict.process)
    except OSError as error:
        # No descriptor, no memory: that says nothing of the process, which may live.
        why = f"a copy may still run, it cannot be seen: {error.strerror}"
        verdict = adoption.Refuse(f"{why}; then, once more: gimli start {service}")
    return Finding(verdict, record, pidfd, _who_is_dead(verdict, record, kernel.boot_id))


def _who_is_dead(verdict: adoption.Verdict, record: Record, boot_id: str) -> Spawned:
    pid, leader = 0, 0
    if record.process and record.boot_id == boot_id:
        pid, leader = record.process.pid, record.leader
    if isinstance(verdict, adoption.Adopt):
        pid = verdict.process.pid
    return Spawned(pid, -1, -1, adopted=True, leader=leader)
