"""What do the services of one monitor share?"""

from __future__ import annotations

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.journal import Journal
    from gimli.loop import Loop
    from gimli.monitor.deaths import Records
    from gimli.monitor.evidence import Evidence
    from gimli.monitor.kernel import Kernel
    from gimli.monitor.notify_socket import NotifySocket
    from gimli.monitor.senders import Senders


@value
class Site:
    """Their kernel, their places, and the parts of the monitor that they use."""

    kernel: Kernel
    loop: Loop
    journal: Journal
    evidence: Evidence
    state_dir: str
    instance_dir: str
    bell_path: str
    library: str | None
    descriptors: tuple[int, int]
    senders: Senders
    records: Records
    notify: NotifySocket
