"""Which files does a service have in the runtime directory, and does everybody hold the same ones?

``NAME.page`` is its heartbeat page, ``NAME.out`` the FIFO of its output, ``NAME.run`` its run record. Program
and monitor hold page and FIFO open, and the next monitor finds them by name; who cleans the directory takes
the names away, not the files.
"""

from __future__ import annotations

from gimli.monitor.config import Log
from gimli.monitor.pace import Pace
from gimli.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.monitor.config import Service
    from gimli.monitor.output import Output
    from gimli.monitor.site import Site
    from gimli.process import ProcessId


class ServiceFiles:
    """The files of one service.

    Args:
        config: the service.
        site: what it shares with the others.
        tell: writes an event of this service to the journal.
        packed: what :meth:`pack` has made, in the image of the monitor before this one.

    Raises:
        OSError: a file cannot be made.
    """

    __slots__ = ("_config", "_log", "_pace", "_site", "_tell", "output", "page")

    def __init__(
        self,
        config: Service,
        site: Site,
        tell: Callable[..., None],
        packed: dict[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._site = site
        self._tell = tell
        self.page = site.kernel.open_page(self._path("page"), packed["page_fd"] if packed else None)
        self._log = config.log
        """Where the program that runs writes to."""
        self.output: Output | None = None
        if packed and config.log.file is None:
            self._log = Log(**packed["log"])  # the program that runs writes there; the next inherits
        if not packed or packed["output"]:  # else it is opened for the next program, which can wait
            try:
                self._open_output(packed["output"] if packed else None)
            except OSError:
                self.page.close()
                raise

    @property
    def record_path(self) -> str:
        """Where it says who runs (``records``)."""
        return self._path("run")

    def prepare(self) -> None:
        """Have everything in place for the next instance, by its name.

        Where the output goes may have changed by a takeover, while the program before wrote on.

        Raises:
            OSError: a file cannot be made, or there is no room for it.
        """
        self._log = self._config.log
        if self._log.file is None:
            self._close_output()
        elif self.output is None:
            self._open_output()
        if self._site.kernel.is_nameless(self.page.fd):
            self.page.switch_to(None)
        if self.output and self._site.kernel.is_nameless(self.output.fd):
            self._switch_output(self.output, None)
        self.page.reset()

    def take_nameless(self, pid: int) -> None:
        """Where the runtime directory was cleaned, what has the names is not what the process holds."""
        kernel = self._site.kernel
        if (fd := kernel.reopen_nameless(pid, self.page.path)) is not None:
            self.page.switch_to(fd)
        if self.output and (fd := kernel.reopen_nameless(pid, self.output.fifo_path)) is not None:
            self._switch_output(self.output, fd)

    def record_running(self, found: ProcessId, leader: int = 0) -> None:
        """This process is the service; ``leader``, of its session, was its main process before."""
        self._site.kernel.write_running(self.record_path, found, leader)

    def record_doubt(self) -> None:
        """Nobody knows whether the service runs."""
        self._site.kernel.write_doubt(self.record_path)

    def is_recorded(self) -> bool:
        """There is a run record, whatever it says."""
        return self._site.kernel.read_record(self.record_path).kind != "missing"

    def record_down(self) -> None:
        """The service does not run."""
        self._site.kernel.write_down(self.record_path)

    def drain(self) -> None:
        """Take the output that is there."""
        if self.output:
            self.output.drain()

    def prepare_log(self) -> None:
        """Have the log's file there. After the start: to make a thousand files takes its time."""
        if self.output:
            self.output.file.prepare()

    def reopen_log(self) -> None:
        """Logrotate has renamed the file."""
        if self.output:
            self.output.file.reopen()

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know."""
        return {
            "log": plain(self._log),
            "page_fd": self.page.fd,
            "output": self.output.pack() if self.output else None,
        }

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        return [self.page.fd, *([self.output.fd] if self.output else [])]

    def close(self, *, keeps_record: bool) -> None:
        """Close them, and take them out of the runtime directory; page and record stay where that is said."""
        self._close_output()
        self.page.close()
        for path in () if keeps_record else (self.page.path, self.record_path):
            self._site.kernel.remove(path)

    def _path(self, suffix: str) -> str:
        return f"{self._site.instance_dir}/{self._config.name}.{suffix}"

    def _open_output(self, packed: dict[str, Any] | None = None) -> None:
        if self._log.file is None:
            return
        site, identity = self._site, self._config.identity
        self.output = site.kernel.open_output(
            self._path("out"),
            self._log,
            identity.uid if identity else None,
            self._tell,
            site.loop.after,
            packed,
        )
        self._pace = Pace(site.loop, self.output)

    def _switch_output(self, output: Output, fd: int | None) -> None:
        self._pace.close()
        try:
            output.switch_to(fd)
        finally:
            self._pace = Pace(self._site.loop, output)

    def _close_output(self) -> None:
        if self.output:
            self._pace.close()
            self.output.close()
            self.output = None
