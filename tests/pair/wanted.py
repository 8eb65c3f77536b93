"""The guard that most tests set up: two vhids, one on a virtual MAC and one without, both families."""

from gimli.pair.guard import Guard, Guarded, Vhid

VIRTUAL_MAC = "00:00:5e:00:01:01"
GUARD = Guard(
    (
        Vhid(1, "lan0", ("192.0.2.1", "192.0.2.7", "2001:db8::1"), VIRTUAL_MAC),
        Vhid(2, "dmz0", ("10.1.0.1",)),
    ),
    (Guarded("lan0", ("192.0.2.0/24",)), Guarded("dmz0", ("10.1.0.0/24", "2001:db8:1::/64"))),
)
