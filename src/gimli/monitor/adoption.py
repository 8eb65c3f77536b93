"""Does a copy of this service run already? Pure: what a dead monitor left, and what /proc shows, come in.

    record says running, same boot, same start time  -> adopt it
    record says down, or starting and nobody wrote   -> start it
    record missing or damaged                        -> look for the service's mark in the environment of
                                                        processes: one -> adopt it, several -> refuse
    damaged, and no mark found                       -> refuse: a program may have overwritten its environment

Refusing is safe and says what to do; a second copy is not safe.
"""

from __future__ import annotations

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.monitor.records import Record
    from gimli.process import ProcessId


@value
class Adopt:
    """It runs."""

    process: ProcessId


@value
class Start:
    """It does not run."""

    because: str


@value
class Refuse:
    """It may run: start nothing."""

    why: str


Verdict = Adopt | Start | Refuse


def judge(
    record: Record,
    boot_id: str,
    living: ProcessId | None,
    marked: Sequence[ProcessId] | None,
    record_path: str,
) -> Verdict:
    """What to do with a service at the start of a monitor.

    Args:
        record: its run record.
        boot_id: of the running kernel.
        living: the process that has the record's pid now.
        marked: processes whose environment says that they are the main one of this service of this monitor;
            None where nobody could look.
        record_path: for the words of a refusal.
    """
    match record.kind:
        case "running" if record.boot_id != boot_id:
            return Start("the machine has been started again since")
        case "running" if living is not None and living == record.process:
            return Adopt(living)
        case "running":
            return Start("it has ended since" if living is None else "its pid belongs to another process now")
        case "down" | "starting":
            return Start("it did not run")
    if marked is None:
        return Refuse(f"{record_path} is {record.kind}, and nobody can see whether a copy still runs")
    if len(marked) == 1:
        return Adopt(marked[0])
    if marked:
        pids = ", ".join(str(process.pid) for process in marked)
        return Refuse(f"{record_path} is {record.kind}, and several processes could be it: pids {pids}")
    if record.kind == "missing":
        return Start("nothing is known of it")
    why = f"{record_path} is damaged, so that a copy may still run"
    return Refuse(f"{why}; when none does: rm {record_path}, then start it")
