"""How is a program of a service started: with which of the service's files, and in whose surroundings?"""

from __future__ import annotations

import os

from gimli.monitor.spawn import Surroundings
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Service
    from gimli.monitor.service_files import ServiceFiles
    from gimli.monitor.site import Site
    from gimli.monitor.spawn import Given
    from gimli.monitor.spawned import Spawned


def launch(config: Service, site: Site, files: ServiceFiles, given: Given) -> Spawned:
    """Start the next instance. Its files are in place (``ServiceFiles.prepare``).

    Raises:
        OSError: no process, no descriptor, or no run record could be made.
    """
    around = Surroundings(
        files.page.fd,
        files.output.fifo_path if files.output else None,
        site.bell_path,
        site.library,
        site.descriptors,
        given,
    )
    return site.kernel.spawn(config, around, files.record_path)


def launch_command(config: Service, site: Site, command: tuple[str, ...]) -> Spawned:
    """Start a probe, where the service runs and as it does, but not watched as it is.

    Raises:
        OSError: no process, or no descriptor.
    """
    around = Surroundings(-1, os.devnull, site.bell_path, None, site.descriptors)
    return site.kernel.spawn_command(replace(config, command=command, arg0=None, inherit_stdin=False), around)
