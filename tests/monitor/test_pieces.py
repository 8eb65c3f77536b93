"""The kernel gives less than was asked for, now and then: it makes no difference in which pieces things come.

Interrupted calls (EINTR) are another matter: the monitor blocks its signals, and Python repeats its calls
(PEP 475). What remains is the library in a program, tests/libgimli.
"""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gimli import process
from gimli.control import protocol
from gimli.control.server import Server
from gimli.loop import Loop
from gimli.monitor.helper import Helper, Messages

messages = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=3),
    max_size=5,
)
cuts = st.lists(st.integers(0, 400), max_size=12)
handovers = st.sets(st.integers(0, 12))
"""After which pieces the monitor is replaced in place."""


def pieces_of(data: bytes, at: list[int]) -> list[bytes]:
    """``data``, cut."""
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in at)})
    return [data[begin:end] for begin, end in pairwise(bounds)]


@given(messages, cuts)
def test_a_line_is_a_message_however_it_comes(sent, at):
    stream = b"".join(json.dumps(message).encode() + b"\n" for message in sent)
    reader = Messages()
    assert [message for piece in pieces_of(stream, at) for message in reader.take(piece)] == sent
    assert reader.begun == b""


@given(messages, cuts, handovers)
@settings(max_examples=40)
def test_a_helper_is_understood_in_pieces_and_across_takeovers(sent, at, handed_on):
    """``cat`` says it: what the kernel has in its pipe is what was written so far."""
    stream = b"".join(json.dumps(message).encode() + b"\n" for message in sent)
    seen: list[dict] = []
    ends: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        fifo = os.path.join(directory, "fifo")
        os.mkfifo(fifo)
        loop = Loop()
        helper = Helper(loop, seen.append, ends.append)
        helper.start(("/bin/cat", fifo), b"", 20)
        with open(fifo, "wb", buffering=0) as way:
            for number, piece in enumerate(pieces_of(stream, at)):
                way.write(piece)
                assert select.select([helper._out_fd], [], [], 20)[0]
                loop.run_once()
                if number in handed_on:
                    packed = json.loads(json.dumps(helper.pack()))
                    loop = Loop()
                    helper = Helper(loop, seen.append, ends.append).restore(packed)
        while not ends:
            loop.run_once()
    assert seen == sent
    assert ends == [""]


@given(st.text(max_size=30), st.text(max_size=3000), cuts, handovers)
@settings(max_examples=40)
def test_a_request_and_its_answer_may_come_in_any_pieces_and_across_takeovers(asked, answer, at, handed_on):
    """The client's buffer takes a little at a time; the monitor is replaced in the middle of both."""
    request = protocol.pack({"schema": protocol.SCHEMA, "call": "ps", "asked": asked})
    heard: list[str] = []

    def handle(told, _connection):
        heard.append(told["asked"])
        return {"answer": answer}

    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        loop = Loop()
        server = Server(loop, os.path.join(directory, "socket"), handle)
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(server.path)
        turn(loop)
        for number, piece in enumerate(pieces_of(request, at)):
            peer.sendall(piece)
            turn(loop)
            if number in handed_on:
                packed = json.loads(json.dumps(server.pack()))
                for held in (server._listener, *(connection._peer for connection in server._connections)):
                    held.detach()  # as execve: the descriptors stay open, and nobody closes them
                loop = Loop()
                server = Server(loop, server.path, handle, packed["fd"])
                server.restore(packed["connections"])
        said = b""
        while piece := peer.recv(100):
            said += piece
            turn(loop)
        peer.close()
        server.close()
    assert heard == [asked]
    assert json.loads(said) == {"ok": True, "answer": answer}


def turn(loop: Loop) -> None:
    """Everything that is ready."""
    while loop._epoll.poll(0):
        loop.run_once()


@given(st.binary(max_size=5000), st.lists(st.integers(1, 700), max_size=30))
def test_a_file_of_the_kernel_is_read_to_its_end(content, sizes):
    """/proc gives an environment, or a list of children, in parts of its own choice."""
    real, given_sizes = os.read, iter(sizes)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        os.read = lambda fd, size: real(fd, min(size, next(given_sizes, size)))
        try:
            assert process.read_kernel_file(file.name) == content
        finally:
            os.read = real
