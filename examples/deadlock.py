"""A small order service that deadlocks about a second after it starts: gimli says who, where and why.

    gimli run --watchdog 2s -- python examples/deadlock.py

Two threads share two locks. The writer books an order: it takes the ledger, then the index. The reader
answers a query: it takes the index, then, for an order it finds there, the ledger. Each order of the two
is harmless alone; together they wait for each other for ever. Both threads beat a pulse of their own, so
the hang is noticed although the main thread goes on beating.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from gimli import client

PULSE_INTERVAL_S = 1.0
ROUNDS_BEFORE_DEADLOCK = 10


@dataclass
class Order:
    """What a customer wants."""

    number: int
    customer: str
    cents: int


@dataclass
class Shop:
    """Orders by number, and the index of them by customer; each has a lock."""

    ledger: threading.Lock = field(default_factory=threading.Lock)
    index: threading.Lock = field(default_factory=threading.Lock)
    orders: dict[int, Order] = field(default_factory=dict)
    by_customer: dict[str, list[int]] = field(default_factory=dict)
    # In a real shop chance brings the two threads to the wrong places at once, on some night; the example
    # cannot wait for it: in its last round each thread stops at the barrier with its first lock in hand.
    rendezvous: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def commit(self, order: Order, *, last: bool) -> None:
        """Book an order, then make it findable."""
        with self.ledger:
            self.orders[order.number] = order
            if last:
                self.rendezvous.wait()
            with self.index:
                self.by_customer.setdefault(order.customer, []).append(order.number)

    def total(self, customer: str, *, last: bool) -> int:
        """What a customer owes: the orders are found in the index, their prices are in the ledger."""
        with self.index:
            numbers = self.by_customer.get(customer, [])
            if last:
                self.rendezvous.wait()
            with self.ledger:
                return sum(self.orders[number].cents for number in numbers)


def write_orders(shop: Shop) -> None:
    """Book an order every tenth of a second."""
    alive = client.pulse("writer", interval=PULSE_INTERVAL_S)
    for number in range(1, 1_000_000):
        alive.beat()
        order = Order(7720 + number, customer="ada", cents=1299 * number)
        shop.commit(order, last=number == ROUNDS_BEFORE_DEADLOCK)
        print(f"booked order {order.number} of {order.customer}", flush=True)
        time.sleep(0.1)


def answer_queries(shop: Shop) -> None:
    """Answer a query every tenth of a second."""
    alive = client.pulse("reader", interval=PULSE_INTERVAL_S)
    for query in range(1, 1_000_000):
        alive.beat()
        total = shop.total("ada", last=query == ROUNDS_BEFORE_DEADLOCK)
        print(f"ada owes {total / 100:.2f}", flush=True)
        time.sleep(0.1)


def main() -> None:
    """Run both threads; the main thread only says that the program lives."""
    client.attach()
    shop = Shop()
    for name, work in (("writer", write_orders), ("reader", answer_queries)):
        threading.Thread(target=work, args=(shop,), name=name, daemon=True).start()
    client.running()
    while True:
        client.beat()
        time.sleep(0.2)


if __name__ == "__main__":
    main()
