"""Which services does a monitor hold, from its first moment to its last?

    begin: adopt what a dead monitor left, start the rest    restore: go on after a takeover
    reconfigure by difference: new ones start, those that are gone stop, the others go on
    shut down: TERM, the stop interval, KILL

It knows services and their site; signals, sockets and the takeover itself are the monitor's (``runtime``).
"""

from __future__ import annotations

import json
import os

from gimli.monitor import config, events
from gimli.monitor.child import LIVE, State
from gimli.monitor.leftovers import look_around
from gimli.monitor.service import Supervised
from gimli.process import signal_name
from gimli.value import plain, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gimli.monitor.leftovers import Survey
    from gimli.monitor.site import Site


class Supervision:
    """The services of one monitor.

    Args:
        told: the configuration.
        site: what they share.
        on_change: called after each change of a service.
        packed: what :meth:`pack` has made, in the image before this one.
    """

    def __init__(
        self,
        told: config.Monitor,
        site: Site,
        on_change: Callable[[], None],
        packed: dict[str, Any] | None = None,
    ) -> None:
        self.services: dict[str, Supervised] = {}
        self.is_ending = False
        self._is_hasty = False
        self._retired: set[str] = set()
        self._added: list[str] = []
        self._returned: set[str] = set()
        self._told = told
        self._site = site
        self._on_change = on_change
        if packed is None:
            for made in told.services:
                self._add(made)
        else:
            self._restore(packed)

    def begin(self) -> None:
        """Adopt the instances that live, and start the others."""
        kernel = self._site.kernel
        known = {
            name: kernel.read_record(path)
            for name, path in kernel.records_in(self._site.instance_dir).items()
        }
        unsure = any(name not in known or known[name].kind == "damaged" for name in self.services)
        survey = look_around(kernel, self._site.bell_path) if unsure else None
        for service in tuple(self.services.values()):
            service.find_survivor(survey)
        marked = survey.services.keys() if survey else set()
        for name in sorted((known.keys() | marked) - self.services.keys()):
            if name and os.sep not in name:  # an environment can hold anything
                self._stop_leftover(name, survey)
        for service in tuple(self.services.values()):
            if service.config.autostart and not service.is_uncertain:
                service.start()

    def record_late(self, owed: list[Mapping[str, Any]]) -> None:
        """Make the reports that a dead monitor has not begun any more.

        Args:
            owed: the ``exited`` events of these deaths.
        """
        for entry in owed:
            service = self.services.get(entry["service"])
            if service:
                service.inquest.record_late(service.child, entry)
                continue
            what = f"the death of pid {entry['pid']} by {signal_name(entry['signo'])}"
            why = (
                "the monitor was killed before its report was begun, and gimli.toml does not name it any more"
            )
            self._site.journal.record("snapshot-failed", entry["service"], report=None, what=what, why=why)

    def shut_down(self, because: str) -> None:
        """Stop every service. Asked a second time: without waiting for the stop intervals."""
        self._is_hasty = self.is_ending
        self.is_ending = True
        for service in tuple(self.services.values()):
            # Each time: had one failed the first time, those after it were not asked.
            service.handle(events.StopWanted(because))
            if self._is_hasty:
                service.handle(events.StopExpired())

    def is_over(self) -> bool:
        """Nothing is left to hold. Asked after every round: it must not look at many services then."""
        if not self.is_ending and not self._told.foreground:
            return False
        states = {service.child.state for service in self.services.values()}
        if any(service.is_clearing or service.inquest.is_due for service in self.services.values()):
            return False
        if self.is_ending:
            return not states & LIVE and not self._site.evidence.is_capturing
        return states <= {State.DOWN, State.FAILED} and self._site.evidence.is_idle

    def exit_status(self) -> int:
        """Of ``gimli run`` the program's own; else 0."""
        if not self._told.foreground:
            return 0
        child = next(iter(self.services.values())).child
        if child.last_status is not None:
            return child.last_status.shell_status
        return 127 if child.state is State.FAILED else 0

    def close(self) -> None:
        """Release everything."""
        for service in self.services.values():
            service.close()
            self._site.kernel.remove_group(service.config.name)

    def pack(self, wanted: set[str]) -> dict[str, Any]:
        """What the next image of the monitor must know.

        Args:
            wanted: names of the services in its configuration; of the others, theirs is handed on.
        """
        return {
            # Each a document of its own: as objects, all of them at once would be 10 MB of a thousand.
            "services": [
                json.dumps(service.pack() | ({} if name in wanted else {"config": plain(service.config)}))
                for name, service in self.services.items()
            ],
            "is_ending": self.is_ending,
            "is_hasty": self._is_hasty,
            "retired": sorted(self._retired),
        }

    def interrupt(self) -> None:
        """Before the next image: stop what it could not go on with."""
        for service in tuple(self.services.values()):
            service.interrupt()

    def renew(self) -> None:
        """Somebody has removed the runtime directory, and it has been made again."""
        for service in self.services.values():
            service.renew()

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        return [fd for service in self.services.values() for fd in service.descriptors()]

    def _restore(self, packed: dict[str, Any]) -> None:
        self.is_ending = packed["is_ending"]
        self._is_hasty = packed["is_hasty"]
        wanted = {made.name: made for made in self._told.services}
        for document in packed["services"]:
            item = json.loads(document)
            made = wanted.pop(item["name"], None) or config.unpack_service(item["config"])
            self._add(made, item)
        self._added = list(wanted)
        for made in wanted.values():
            try:
                self._add(made)
            except OSError as error:
                # Whatever ends the new image now would end the watch over all the others.
                self._added.remove(made.name)
                why = f"cannot hold it: {error.strerror}; mend that, then: gimli upgrade"
                self._site.journal.record("failed", made.name, because=why)
        self._returned = {made.name for made in self._told.services} & set(packed["retired"])
        self._retired = self.services.keys() - {made.name for made in self._told.services}

    def resume(self) -> None:
        """After :meth:`_restore`, when everything stands: what has changed takes effect."""
        for service in tuple(self.services.values()):
            if service.config.name in self._retired:
                service.retire()
            service.resume()
        survey = look_around(self._site.kernel, self._site.bell_path) if self._added else None
        for name in self._added:
            self.services[name].find_survivor(survey)
        for name in (*self._added, *sorted(self._returned)):
            if self.services[name].config.autostart and not self.is_ending:
                self.services[name].start()

    def _add(self, made: config.Service, packed: dict[str, Any] | None = None) -> Supervised:
        service = Supervised(made, self._site, self._changed, packed)
        self.services[made.name] = service
        return service

    def _stop_leftover(self, name: str, survey: Survey | None) -> None:
        """The dead monitor held a service of another name: it must not run on with nobody to watch it."""
        log = config.Log(os.path.join(self._told.state_dir, "logs", f"{name}.log"))
        made = config.Service(name, ("?",), log, autostart=False)
        try:
            service = Supervised(made, self._site, self._changed)
        except OSError as error:
            self._site.journal.record("adoption-refused", name, why=f"cannot hold it: {error.strerror}")
            return
        service.find_survivor(survey)
        if service.pid is None and not service.is_clearing:
            service.close()
            return
        if service.pid is not None:
            service.config = replace(made, command=tuple(self._site.kernel.command_line(service.pid)))
        self.services[name] = service
        self._retired.add(name)
        service.retire()

    def _changed(self, service: Supervised) -> None:
        if self._is_hasty and service.child.state is State.STOPPING:
            service.handle(events.StopExpired())  # it was captured when haste was asked for
        name = service.config.name
        is_over = service.child.state not in LIVE and not service.is_clearing and service.snapshots.is_idle
        if name in self._retired and name in self.services and is_over:
            self._retired.discard(name)
            del self.services[name]
            service.close()
            self._site.kernel.remove_group(name)
        self._on_change()
