"""Which signals does a daemon of ours receive, and from whom?

All are blocked and read from a signalfd, so that none interrupts anything and each comes with its
sender. Python has no signalfd of its own; the C library's is called directly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct

from gimli.value import value

HANDLED: tuple[int, ...] = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGALRM,
    signal.SIGWINCH,
)
FORWARDED_BY_INIT = frozenset({signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGALRM})
_SIGINFO = struct.Struct("<IiiII108x")  # struct signalfd_siginfo: signo, errno, code, pid, uid
_SFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_SIGSET_BYTES = 128  # sizeof(sigset_t) in glibc and musl


@value
class Received:
    """One signal, with the sender the kernel names; pid 0 is the kernel itself."""

    signo: int
    code: int
    pid: int
    uid: int


class SignalReader:
    """Blocks signals and reads them from ``fd``."""

    def __init__(self, handled: tuple[int, ...] = HANDLED) -> None:
        self.previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        libc = ctypes.CDLL(None, use_errno=True)
        mask = ctypes.create_string_buffer(_SIGSET_BYTES)
        libc.sigemptyset(mask)
        for signo in handled:
            libc.sigaddset(mask, int(signo))
        self.fd: int = libc.signalfd(-1, mask, _SFD_NONBLOCK_CLOEXEC)
        if self.fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), "signalfd")

    def read(self) -> list[Received]:
        """All signals that are pending."""
        received: list[Received] = []
        while True:
            try:
                raw = os.read(self.fd, _SIGINFO.size)
            except BlockingIOError:
                return received
            signo, _, code, pid, uid = _SIGINFO.unpack(raw)
            received.append(Received(signo, code, pid, uid))
