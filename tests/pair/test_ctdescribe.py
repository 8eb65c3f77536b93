import pytest

from gimli.pair import ctmessage
from gimli.pair.ctdescribe import describe
from tests.pair.connections import BEGUN, ESTABLISHED, ICMP, SCTP, UDP, Connection, End

WEB = Connection(End("198.51.100.9", 40122), End("192.0.2.10", 80), state=ESTABLISHED)


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (WEB, "tcp 198.51.100.9:40122 -> 192.0.2.10:80 ESTABLISHED"),
        (WEB.but(protocol=UDP, state=None), "udp 198.51.100.9:40122 -> 192.0.2.10:80"),
        (WEB.but(protocol=SCTP, state=4), "sctp 198.51.100.9:40122 -> 192.0.2.10:80 ESTABLISHED"),
        (
            WEB.but(protocol=ICMP, state=None, destination=End("192.0.2.10")),
            "icmp 198.51.100.9:40122 -> 192.0.2.10",
        ),
        (WEB.but(protocol=99, state=None, zone=7), "protocol 99 198.51.100.9:40122 -> 192.0.2.10:80 zone 7"),
        (
            Connection(End("2001:db8::1", 5), End("2001:db8::2", 80), state=99),
            "tcp [2001:db8::1]:5 -> [2001:db8::2]:80 state 99",
        ),
    ],
)
def test_a_connection_is_one_line(connection, words):
    message = connection.message(BEGUN)
    assert describe(message) == words
    assert describe(ctmessage.canonical(message)[1]) == words
