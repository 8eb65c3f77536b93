"""Which hosts and cables does a network on this kernel have?

A host is a network namespace that lives as long as one sleeping process of ours, its holder: nothing has a
name in ``/run/netns``, and when we are killed the kernel kills the holders (PDEATHSIG), and with a host's
last process its namespace, its interfaces and its rules are gone. Cables are veth pairs, switches bridges.

    with Network() as network:
        left, right = network.host("left"), network.host("right")
        network.cable(left, "lan0", right, "lan0")
        left.run("ip", "addr", "add", "192.0.2.1/24", "dev", "lan0")
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from gimli.errors import GimliError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Self

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkRefused(GimliError):
    """The kernel or this user cannot make the network."""


class Host:
    """One network namespace.

    Args:
        name: for errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        # cat says nothing, needs nothing, and ends when we close its input.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call into libc, before any thread of ours exists
        )
        self.pid = self._holder.pid
        self._wait_until_apart()
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """Run a command in the namespace, and wait for it.

        Args:
            command: program and arguments.
            text: for its standard input.
            check: whether another exit status than 0 is an error.

        Returns:
            What it wrote to its standard output.

        Raises:
            NetworkRefused: it has failed; the error has its words.
        """
        done = subprocess.run(self.inside(*command), input=text, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise NetworkRefused(
                f"{self.name}: {' '.join(command)} has failed", why=(done.stderr or done.stdout).strip()
            )
        return done.stdout

    def start(
        self,
        *command: str,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command in the namespace; it is the caller's to end, and ends with us when we are killed.

        ``nsenter`` executes the command in its own place, so the pid is the command's.
        """
        return subprocess.Popen(
            self.inside(*command),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | environment if environment else None,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - as above
        )

    def inside(self, *command: str) -> list[str]:
        """The command that runs another one in this namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command]

    def sysctl(self, **values: int | str) -> None:
        """Set values below ``net``; two underscores stand for a slash: ``ipv4__ip_forward=1``."""
        for name, value in values.items():
            path = f"/proc/sys/net/{name.replace('__', '/')}"
            self.run("sh", "-c", 'echo "$1" >"$2"', "sh", str(value), path)

    def address(self, device: str, *addresses: str) -> None:
        """Give addresses, such as ``192.0.2.1/24``, to a device, at once usable."""
        for address in addresses:
            flags = ["nodad"] if ":" in address else []
            self.run("ip", "addr", "add", address, "dev", device, *flags)

    def close(self) -> None:
        """Let the namespace go; what still runs in it keeps it."""
        self._holder.kill()
        self._holder.communicate()

    def _wait_until_apart(self) -> None:
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        try:
            self._holder.stdin.write(b"\n")  # cat echoes it: unshare is done
            self._holder.stdin.flush()
            echoed = self._holder.stdout.read(1)
        except BrokenPipeError:
            echoed = b""
        if not echoed:
            _, said = self._holder.communicate()
            raise NetworkRefused(
                "cannot make a network namespace",
                why=said.decode(errors="replace").strip(),
                fix="it takes root (CAP_SYS_ADMIN), and a kernel with CONFIG_NET_NS",
            )


class Network:
    """Hosts, and what joins them; as a context it leaves nothing behind.

    Raises:
        NetworkRefused: not root, or a program is missing.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NetworkRefused(
                "cannot make network namespaces", why="you are not root", fix="run it with sudo"
            )
        for program in ("ip", "nsenter", "unshare"):
            if shutil.which(program) is None:
                raise NetworkRefused(
                    f"there is no {program}",
                    why="it makes the network",
                    fix="install it: apt-get install iproute2 util-linux",
                )
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """A new host without any interface but ``lo``."""
        made = Host(name)
        self.hosts.append(made)
        return made

    def switch(self, name: str, *, snooping: bool = False) -> Host:
        """A host with one bridge, ``br0``, that floods what it has not learnt."""
        made = self.host(name)
        made.run("ip", "link", "add", "name", "br0", "type", "bridge", "mcast_snooping", str(int(snooping)))
        made.run("ip", "link", "set", "dev", "br0", "up")
        return made

    def cable(self, left: Host, left_device: str, right: Host, right_device: str) -> None:
        """A veth pair, both ends up."""
        left.run(
            *("ip", "link", "add", "name", left_device, "type", "veth"),
            *("peer", "name", right_device, "netns", str(right.pid)),
        )
        left.run("ip", "link", "set", "dev", left_device, "up")
        right.run("ip", "link", "set", "dev", right_device, "up")

    def plug(self, host: Host, device: str, switch: Host, *addresses: str) -> str:
        """Connect a host to a switch.

        Returns:
            The name of the switch's port.
        """
        port = f"{host.name}.{device}"[:15]
        self.cable(host, device, switch, port)
        switch.run("ip", "link", "set", "dev", port, "master", "br0")
        host.address(device, *addresses)
        return port

    def close(self) -> None:
        """Let every namespace go."""
        while self.hosts:
            self.hosts.pop().close()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
