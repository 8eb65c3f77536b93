"""What goes wrong? Each deed is one thing that chance may do to the pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.vhid import Role
from pairsim.machine import LAN, SYNC

if TYPE_CHECKING:
    from collections.abc import Callable

    from pairsim.daemon import Daemon
    from pairsim.machine import Machine
    from pairsim.network import Direction, Link
    from pairsim.story import Story

    Deed = Callable[[Story], None]


def _daemon(story: Story) -> Daemon | None:
    return story.world.chance.choice(story.machines).process


def _while(story: Story) -> float:
    """For how long something lasts."""
    return story.world.chance.expovariate(1 / (1.2 * story.settings.dead_s))


# The daemon.


def kill(story: Story) -> None:
    """Kill -9, at any call or between two."""
    if daemon := _daemon(story):
        if story.world.likely(0.7):
            daemon.kill_before = _soon(story, daemon)
        else:
            story.world.say(daemon.machine.name, "is killed")
            daemon.die()


def freeze(story: Story) -> None:
    """SIGSTOP and SIGCONT, at any call or between two; a machine that is busy elsewhere."""
    chance = story.world.chance
    if daemon := _daemon(story):
        longest = chance.choice((0.3, 2, 6))
        freeze_s = story.settings.dead_s * longest * 10 ** chance.uniform(-1.5, 0)
        if story.world.likely(0.8):
            daemon.freeze_before, daemon.freeze_s = _soon(story, daemon), freeze_s
        else:
            story.world.say(daemon.machine.name, f"stands still for {freeze_s:.4f} s")
            daemon.freeze(freeze_s)


def _soon(story: Story, daemon: Daemon) -> int | str:
    """One of the next calls, or the next of a kind that matters."""
    if story.world.likely(0.5):
        is_master = daemon.node.leader.role is Role.MASTER
        return story.world.chance.choice(_MASTERS_CALLS if is_master else _BACKUPS_CALLS)
    return daemon.calls + 1 + int(10 ** story.world.chance.uniform(0, 1.7))


_MASTERS_CALLS = ("renew", "renew", "renew", "send", "send", "sendto", "release", "drop addresses")
_BACKUPS_CALLS = ("acquire", "acquire", "acquire", "renew", "send", "sendto", "take addresses")


def dawdle(story: Story) -> None:
    """Its timers come late for a while."""
    daemon = _daemon(story)
    if daemon is None:
        return
    daemon.late_s = story.settings.dead_s * 10 ** story.world.chance.uniform(-3, -0.3)
    story.world.say(daemon.machine.name, f"has timers up to {daemon.late_s:.4f} s late")

    def end() -> None:
        daemon.late_s = 0.0

    story.world.after(_while(story), "mended", end)


def stop(story: Story) -> None:
    """SIGTERM: it bows out."""
    daemon = _daemon(story)
    if daemon and not daemon.is_frozen and not daemon._is_inside:
        daemon.run(lambda: daemon.stop("received SIGTERM"))


# The host.


def reboot(story: Story) -> None:
    """Nothing of the kernel is left, and sometimes nothing of the disk."""
    machine = story.world.chance.choice(story.machines)
    story.world.say(machine.name, "is started again")
    if machine.process:
        machine.process.die()
    machine.boot()
    if story.world.likely(0.3):
        machine.epoch = 0


def blackout(story: Story) -> None:
    """Both hosts lose their power, and have it again at the same time."""
    story.world.say("both are started again")
    story.start_s = story.world.between(0.001, 2)
    for machine in story.machines:
        if machine.process:
            machine.process.die()
        machine.boot()
    story.start_s = None


def forget(story: Story) -> None:
    """The epoch is lost from a disk."""
    story.world.chance.choice(story.machines).epoch = 0


def serve(story: Story) -> None:
    """The service that is tracked fails, or works again."""
    machine = story.world.chance.choice(story.machines)
    set_service(machine, is_up=not machine.is_service_up)


def set_service(machine: Machine, *, is_up: bool) -> None:
    """And the tracker looks."""
    machine.is_service_up = is_up
    if machine.process:
        machine.process.find(service_is_up=is_up)


def break_guard(story: Story) -> None:
    """Somebody flushes the ruleset, or alters a rule of ours."""
    machine = story.world.chance.choice(story.machines)
    if daemon := machine.process:
        all_of_it = story.world.likely(0.5)
        story.world.say(machine.name, "has its guard", "removed" if all_of_it else "altered")
        machine.break_fence(all_of_it=all_of_it)
        daemon.fence_events.put("altered")


def refuse(story: Story) -> None:
    """Calls of the kernels fail, for a while."""
    weather, chance = story.weather, story.world.chance
    what = chance.choice(("sending", "addresses", "guard"))
    setattr(weather, what, chance.choice((0.2, 0.7, 1.0)))
    story.world.say("calls fail:", what)
    story.invariants.links_change()

    def end() -> None:
        story.invariants.links_change()
        setattr(weather, what, 0.0)

    story.world.after(_while(story), "mended", end)


# The links.


def partition(story: Story) -> None:
    """One link, in one direction or in both, for a while."""
    _spoil(story, lambda way: setattr(way, "is_cut", True), "is cut")


def separate(story: Story) -> None:
    """Both links, in the same directions."""
    for name in (LAN, SYNC):
        _spoil_link(story, story.links[name], lambda way: setattr(way, "is_cut", True), "is cut")


def lose(story: Story) -> None:
    """Some of what is sent is lost."""
    loss = story.world.chance.choice((0.05, 0.3, 0.6))
    _spoil(story, lambda way: setattr(way, "loss", loss), f"loses {loss:.0%}")


def disorder(story: Story) -> None:
    """Things overtake each other, and come twice."""
    jitter_s = story.settings.dead_s * 10 ** story.world.chance.uniform(-3, -0.7)

    def spoil(way: Direction) -> None:
        way.jitter_s, way.copies = jitter_s, 0.3

    _spoil(story, spoil, f"delays by up to {jitter_s:.4f} s")


def unplug(story: Story) -> None:
    """A cable is pulled out at one host, and plugged in again."""
    world = story.world
    machine, name = world.chance.choice(story.machines), world.chance.choice((LAN, LAN, SYNC))
    world.say(machine.name, "has no carrier on", name)
    story.invariants.links_change()
    machine.plug(name, carrier=False)
    story.invariants.links_change()

    def end() -> None:
        story.invariants.links_change()
        machine.plug(name, carrier=True)

    world.after(_while(story), "mended", end)


def replay(story: Story) -> None:
    """Somebody sends again what he has recorded."""
    world, link = story.world, story.links[story.world.chance.choice((LAN, SYNC))]
    if link.remembered:
        for _ in range(world.chance.choice((1, 3, 10))):
            data = world.chance.choice(link.remembered)
            link.deliver(world.chance.choice(story.machines), data)


def damage(story: Story) -> None:
    """Garbage comes, or something that was damaged on its way."""
    world, link = story.world, story.links[story.world.chance.choice((LAN, SYNC))]
    if link.remembered and world.likely(0.7):
        data = bytearray(world.chance.choice(link.remembered))
        data[world.chance.randrange(len(data))] ^= 1 << world.chance.randrange(8)
        data = data[: world.chance.choice((len(data), world.chance.randrange(len(data))))]
    else:
        data = bytearray(world.chance.randbytes(world.chance.choice((0, 1, 14, 60, 200))))
    link.deliver(world.chance.choice(story.machines), bytes(data))


def _spoil(story: Story, spoil: Callable[[Direction], None], what: str) -> None:
    _spoil_link(story, story.links[story.world.chance.choice((LAN, SYNC))], spoil, what)


def _spoil_link(story: Story, link: Link, spoil: Callable[[Direction], None], what: str) -> None:
    world = story.world
    names = world.chance.choice((["a"], ["b"], ["a", "b"], ["a", "b"]))
    world.say(f"{link.name} from {' and '.join(names)} {what}")
    for name in names:
        spoil(link.directions[name])
    story.invariants.links_change()

    def end() -> None:
        story.invariants.links_change()
        link.mend()
        world.say(f"{link.name} is mended")

    world.after(_while(story), "mended", end)


Mood = tuple[tuple["Deed", ...], tuple[int, ...]]


def _mood(**weights: int) -> Mood:
    return tuple(globals()[name] for name in weights), tuple(weights.values())


FREEZES = _mood(freeze=10, kill=3, dawdle=3, reboot=1, blackout=1)
"""The worst is a daemon that stands still or is gone: two hosts never answer."""

SPLITS = _mood(partition=6, separate=4, disorder=3, freeze=2, kill=1, stop=1, blackout=1, lose=2, serve=1)
"""The network falls apart."""

KERNELS = _mood(freeze=3, kill=2, refuse=4, break_guard=3, unplug=3, stop=2, serve=3, forget=1)
"""The hosts are in trouble."""

ANYTHING = _mood(
    **dict.fromkeys(("freeze", "kill", "lose", "partition", "disorder", "replay"), 3),
    **dict.fromkeys(("dawdle", "stop", "serve", "refuse", "break_guard", "unplug", "damage"), 2),
    **dict.fromkeys(("reboot", "blackout", "forget", "separate"), 1),
)
"""All of it."""
