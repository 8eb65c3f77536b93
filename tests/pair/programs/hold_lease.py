"""Hold a lease as a daemon does: renew it, then advertise. ``hold_lease.py SECONDS``, in a node of the tests.

It says "held" once it does, and "lapsed" and what became of an advertisement when a renewal comes too late.
"""

import errno
import sys
import time

from gimli.pair import nft
from gimli.pair.address import Addresses, Place
from gimli.pair.guard import lease_of, ruleset
from gimli.pair.lease import LeaseLapsed, Leases
from gimli.pair.settings import Settings
from gimli.pair.wire import Sender
from tests.pair.frames import advertisement, mac_bytes
from tests.pair.wanted import GUARD, VIRTUAL_MAC

length_s = float(sys.argv[1])
nft.apply(ruleset(GUARD))
addresses = Addresses(
    Place(1, "lan0", ("192.0.2.1/24", "2001:db8::1/64"), VIRTUAL_MAC), Settings(sys.argv[2])
)
addresses.prepare()
leases, sender = Leases(), Sender("lan0")
lease = lease_of(GUARD, 1)
frame = advertisement(mac_bytes(VIRTUAL_MAC), 1)
leases.acquire([lease], length_s)
addresses.take()
print("held", flush=True)
try:
    while True:
        leases.renew([lease], length_s)
        assert sender.send(frame) is None
        time.sleep(length_s / 4)
except LeaseLapsed:
    unsent = sender.send(frame)
    print("lapsed", errno.errorcode[unsent.errno] if unsent else "sent", flush=True)
