"""Play one host's part: ``python -m gimli.lab.network.real``; what it is comes by standard input."""

from __future__ import annotations

from gimli.lab.network import topology
from gimli.lab.network.real import firewall, linux, programs, station


def main() -> None:
    """A firewall's filter and its part in the election, or another host's program."""
    part = station.read_part()
    config = next(host for host in part.topology.hosts if host.name == part.host)
    if isinstance(config, topology.Firewall):
        (linux if config.model is topology.Model.LINUX else firewall).main(part, config)
    else:
        programs.main(part, config)


if __name__ == "__main__":
    main()
