"""Monitors with one fault each, as others have it: the simulation must notice every one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gimli.monitor import adoption, machine, records
from gimli.monitor.aftermath import Aftermath
from gimli.monitor.child import State
from gimli.monitor.events import StopWanted
from gimli.monitor.leftovers import Survey
from gimli.monitor.machine import Row
from gimli.monitor.service import Supervised
from gimli.monitor.snapshots import Snapshots
from gimli.monitor.supervision import Supervision
from gimli.monitor.takeover import Takeover
from simulation.computer import MonitorProcess
from simulation.kernel import VirtualKernel
from simulation.monitor_shell import Replaced, Shell

if TYPE_CHECKING:
    import pytest


class ForkingShell(Shell):
    """Takes over as the original did: a new process goes on, and the old one ends."""

    def execute(self, configuration: dict[str, Any] | None, *, wished_again: bool) -> str:
        """By fork, with every descriptor and the lock."""
        document = json.dumps(self._pack(configuration, wished_again=wished_again)).encode()
        old, new = self.me, MonitorProcess(self._computer)
        new.fds, new.pending, new.bell = dict(old.fds), old.pending, old.bell
        new.fds.pop(self._signals.fd).closed()
        old.fds.clear()
        self._computer.lock_holder = new
        old.die("its child goes on")
        self._computer.monitor = new
        raise Replaced(document, new)


def takeover_by_fork(_: pytest.MonkeyPatch) -> type[Shell]:
    """A new process instead of the same one."""
    return ForkingShell


def hangups_are_not_coalesced(patch: pytest.MonkeyPatch) -> type[Shell]:
    """Every HUP begins a takeover of its own, as in incident 1."""

    def wish(self: Takeover) -> None:
        if not self._is_cancelled:
            self._is_under_way = True
            self._steps.reread(self._reread)

    patch.setattr(Takeover, "wish", wish)
    return Shell


def term_is_ignored_while_capturing(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A stop that comes during a snapshot is forgotten."""
    row = Row(State.CAPTURING, machine.effects.nothing, "a mutant")
    patch.setitem(machine.TABLE[State.CAPTURING], StopWanted, row)
    return Shell


def adoption_trusts_a_pid(patch: pytest.MonkeyPatch) -> type[Shell]:
    """Whoever has the recorded pid is taken for the service."""
    real = adoption.judge

    def judge(record: Any, boot_id: str, living: Any, *rest: Any) -> Any:
        if record.kind == "running" and living is not None:
            return adoption.Adopt(living)
        return real(record, boot_id, living, *rest)

    patch.setattr(adoption, "judge", judge)
    return Shell


def damage_counts_as_down(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A record that cannot be read is taken for one of a service that is down."""
    real = records.parse_record

    def parse(raw: bytes | None) -> Any:
        found = real(raw)
        return records.Record("down") if found.kind == "damaged" else found

    patch.setattr(records, "parse_record", parse)
    return Shell


def record_is_down_before_the_journal(patch: pytest.MonkeyPatch) -> type[Shell]:
    """The record says down while the journal has not told the end yet: a fault that gimli had."""
    real = Supervised._instance_over

    def instance_over(self: Supervised) -> None:
        real(self)
        self.files.record_down()

    patch.setattr(Supervised, "_instance_over", instance_over)
    return Shell


def no_descriptor_means_no_process(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A pidfd that cannot be opened is taken for a process that has ended: a fault that gimli had."""
    real = VirtualKernel.pidfd_of

    def pidfd_of(self: VirtualKernel, wanted: Any) -> int | None:
        try:
            return real(self, wanted)
        except OSError:
            return None

    patch.setattr(VirtualKernel, "pidfd_of", pidfd_of)
    return Shell


def a_refusal_is_forgotten(patch: pytest.MonkeyPatch) -> type[Shell]:
    """The end of a monitor takes away the record of what may still run: a fault that gimli had."""
    real = Supervised.close

    def close(self: Supervised) -> None:
        self.is_uncertain = False
        real(self)

    patch.setattr(Supervised, "close", close)
    return Shell


def one_report_waits_at_most(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A death takes the place of the one before it, whose report waits: a fault that gimli had."""
    real = Snapshots.take

    def take(self: Snapshots, request: dict[str, Any]) -> None:
        self._waiting = ()
        real(self, request)

    patch.setattr(Snapshots, "take", take)
    return Shell


def who_comes_back_is_forgotten(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A service that leaves the configuration and returns while it stops: a fault that gimli had."""
    real = Supervision._restore

    def restore(self: Supervision, packed: dict[str, Any]) -> None:
        real(self, packed)
        self._returned = set()

    patch.setattr(Supervision, "_restore", restore)
    return Shell


def damage_is_not_mended(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A service found by its mark is adopted, its record left as it is: a fault that gimli had."""
    patch.setattr(VirtualKernel, "write_running", lambda *_: None)
    return Shell


def a_takeover_forgets_deaths(patch: pytest.MonkeyPatch) -> type[Shell]:
    """A program is killed in the moment before a takeover, and has no report: a fault that gimli had."""
    patch.setattr(Supervised, "interrupt", lambda service: service.signs.interrupt())
    return Shell


def what_a_dead_monitor_left_is_met(patch: pytest.MonkeyPatch) -> type[Shell]:
    """The main process has ended unseen, and its workers meet the next instance: a fault that gimli had."""
    patch.setattr(Aftermath, "begin_unseen", lambda aftermath, *_: aftermath._on_gone(None))
    return Shell


def one_look_is_enough(patch: pytest.MonkeyPatch) -> type[Shell]:
    """What has ended when it was to be held may have forked: a fault that gimli had."""
    patch.setattr(Aftermath, "_look_in", lambda *_: None)
    real = Aftermath._look

    def look(self: Aftermath) -> Any:
        left, doubtful = real(self)
        return left & self._held.keys(), doubtful

    patch.setattr(Aftermath, "_look", look)
    return Shell


def the_number_of_a_session_is_enough(patch: pytest.MonkeyPatch) -> type[Shell]:
    """Who has a session of that number is taken for one of the service's: a fault that gimli had."""
    patch.setattr(VirtualKernel, "holds", lambda *_: True)
    return Shell


def a_worker_may_be_the_main_process(patch: pytest.MonkeyPatch) -> type[Shell]:
    """Who has the environment and leads a session is taken for the main process: a fault that gimli had."""
    real = VirtualKernel.survey

    def survey(self: VirtualKernel, *arguments: Any) -> Survey:
        found = real(self, *arguments)
        leaders = {
            name: [pid for pid in pids if pid in found.sessions.get(pid, ())]
            for name, pids in found.services.items()
        }
        return Survey(found.services, leaders, found.sessions)

    patch.setattr(VirtualKernel, "survey", survey)
    return Shell


def a_killed_monitor_forgets_deaths(patch: pytest.MonkeyPatch) -> type[Shell]:
    """Killed between a death and the beginning of its report, it leaves none: a fault that gimli had."""
    patch.setattr(Supervision, "record_late", lambda *_: None)
    return Shell


MUTANTS = (
    takeover_by_fork,
    hangups_are_not_coalesced,
    term_is_ignored_while_capturing,
    adoption_trusts_a_pid,
    damage_counts_as_down,
    record_is_down_before_the_journal,
    no_descriptor_means_no_process,
    a_refusal_is_forgotten,
    one_report_waits_at_most,
    who_comes_back_is_forgotten,
    damage_is_not_mended,
    a_takeover_forgets_deaths,
    what_a_dead_monitor_left_is_met,
    one_look_is_enough,
    the_number_of_a_session_is_enough,
    a_worker_may_be_the_main_process,
    a_killed_monitor_forgets_deaths,
)
