"""Which processes belong to a service, however they were forked?

The kernel knows where each service has a control group of its own (cgroup v2): a process is born into its
parent's, and leaves it for nothing it does. Where no group can be made (no cgroup v2, no permission, a
container) the callers look at sessions and environments instead.

    CGROUP OF THE MONITOR / gimli.INSTANCE.CHECKSUM / SERVICE
"""

from __future__ import annotations

import os

from gimli.paths import checksum, unlink_if_there
from gimli.process import read_kernel_file

_OPEN_GROUP = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
CGROUP_NAME = "cgroup"
"""The file in the instance directory that says where they are: an adopting monitor may be born elsewhere."""


class Cgroups:
    """The control groups of one monitor's services.

    Args:
        root: the directory above them; None where there are none.
        path: the file that tells the next monitor of it.
    """

    def __init__(self, root: str | None, path: str = "") -> None:
        self._root = root
        self.path = path
        self._made: set[str] = set()
        """Services whose groups were made here, and not killed since."""

    def is_in_place(self) -> bool:
        """The next monitor will find them."""
        return self._root is None or os.path.exists(self.path)

    def renew(self) -> None:
        """Tell the next monitor of them.

        Raises:
            OSError: the file cannot be written.
        """
        if self._root is not None:
            with open(self.path, "w") as file:
                file.write(self._root)

    def open_group(self, service: str) -> int:
        """A descriptor of a service's group, to be born into; -1 where there is none.

        Linux 6.14 and later kill whoever is born from outside into a group that was ever killed as a whole:
        they compare how often that was with the count of another group, its parent's. So a group that may
        have been killed, be it by a monitor before us, is made anew.
        """
        if self._root is None:
            return -1
        path = os.path.join(self._root, service)
        try:
            if service in self._made and os.path.isdir(path):
                return os.open(path, _OPEN_GROUP)
            _remove_tree(path)
            os.mkdir(path, 0o755)
            self._made.add(service)
            return os.open(path, _OPEN_GROUP)
        except OSError:
            return -1  # somebody lives there

    def members(self, service: str) -> list[int] | None:
        """The processes of a service, also those of groups that they made below; None where nobody knows."""
        if self._root is None:
            return None
        path = os.path.join(self._root, service)
        try:
            if not _is_populated(path):
                return []
            found = []
            for directory, _, _ in os.walk(path):
                members = read_kernel_file(os.path.join(directory, "cgroup.procs"))
                found += [int(pid) for pid in members.split()]
        except (OSError, ValueError):
            return None
        # Processes of another pid namespace are shown as 0.
        return [pid for pid in found if pid > 0]

    def kill(self, service: str) -> None:
        """Kill all of a group in one step, so that none escapes by forking (cgroup.kill, Linux 5.14).

        Afterwards it is to be removed and made anew: who is born into it dies at once. The kernel counts the
        kills of a group, compares the count of the parent's with that of the group that the child is born
        into (CLONE_INTO_CGROUP), and takes a difference for a kill during the fork (seen on Linux 6.18;
        kernel/cgroup/cgroup.c, kill_seq in cgroup_css_set_fork() and cgroup_post_fork()).
        """
        if self._root is not None:
            self._made.discard(service)
            try:
                with open(os.path.join(self._root, service, "cgroup.kill"), "wb", buffering=0) as file:
                    file.write(b"1")
            except OSError:
                return  # no group, or an older kernel: who is found is killed one by one

    def remove(self, service: str) -> None:
        """Remove a group that is empty."""
        if self._root is not None:
            self._made.discard(service)
            _remove_tree(os.path.join(self._root, service))

    def close(self) -> None:
        """Remove what is left of them."""
        if self._root is not None:
            _remove_tree(self._root)
            unlink_if_there(self.path)


def find_cgroups(instance: str, instance_dir: str) -> Cgroups:
    """The groups of an instance, made new or found again."""
    told_path = os.path.join(instance_dir, CGROUP_NAME)
    try:
        root = read_kernel_file(told_path).decode()
        if os.path.isdir(root):
            return Cgroups(root, told_path)
    except OSError:
        pass
    own = own_group()
    if own is None:
        return Cgroups(None)
    # Two users, or two state directories, may each have an instance of the same name.
    root = os.path.join(own, f"gimli.{instance}.{checksum(instance_dir)}")
    made = Cgroups(root, told_path)
    try:
        os.makedirs(root, exist_ok=True)
        made.renew()
    except OSError:
        return Cgroups(None)
    return made


def own_group() -> str | None:
    """The directory of this process's own group, or None."""
    try:
        memberships = read_kernel_file("/proc/self/cgroup").decode().splitlines()
        mounts = read_kernel_file("/proc/self/mountinfo").decode(errors="replace").splitlines()
    except OSError:
        return None
    return parse_own_group(memberships, mounts)


def parse_own_group(memberships: list[str], mounts: list[str]) -> str | None:
    """The directory of a process's group in the unified hierarchy.

    Args:
        memberships: lines of /proc/PID/cgroup; cgroup v2 is the one that starts with ``0::``.
        mounts: lines of /proc/PID/mountinfo.

    Source: cgroups(7), proc_pid_mountinfo(5).
    """
    group = next((line[3:] for line in memberships if line.startswith("0::/")), None)
    if group is None:
        return None
    for line in mounts:
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or not after.startswith("cgroup2 ") or len(fields) < 5:
            continue
        mounted, point = fields[3].rstrip("/"), fields[4]
        if (group + "/").startswith(mounted + "/"):
            return (point + group[len(mounted) :]).rstrip("/")
    return None


def _is_populated(path: str) -> bool:
    return b"populated 1" in read_kernel_file(os.path.join(path, "cgroup.events"))


def _remove_tree(path: str) -> None:
    """Groups have files that cannot be removed, and go when they are empty; so only directories are."""
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            return  # somebody lives there
