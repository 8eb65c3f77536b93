"""Which system call is a thread in?

Told from the registers of a stopped thread: in the middle of a call it has the call's number and arguments,
and a result that says "restart me", which no call returns to a program. /proc/PID/task/TID/syscall would cost
a file per thread, and for one that was stopped on its way out of a call names one that is over.

Source: syscall(2), the calling conventions; include/linux/errno.h, ERESTARTSYS and its like. The names are
those of arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import struct

from gimli.capture.registers import ARCHITECTURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.capture.registers import Architecture, Registers

# EINTR, ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK.
_INTERRUPTED = frozenset({-4, -512, -513, -514, -516})
_X86_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9, by index in struct user_regs_struct
_X86_RESULT, _X86_NUMBER = 10, 15  # rax, orig_rax

_FD_FIRST = frozenset(
    {
        "read",
        "write",
        "close",
        "fstat",
        "lseek",
        "ioctl",
        "pread64",
        "pwrite64",
        "readv",
        "writev",
        "sendfile",
        "connect",
        "accept",
        "accept4",
        "sendto",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "shutdown",
        "bind",
        "listen",
        "getsockname",
        "getpeername",
        "setsockopt",
        "getsockopt",
        "fcntl",
        "flock",
        "fsync",
        "fdatasync",
        "ftruncate",
        "getdents",
        "getdents64",
        "fchdir",
        "fchmod",
        "fchown",
        "fstatfs",
        "readahead",
        "fsetxattr",
        "fgetxattr",
        "flistxattr",
        "fremovexattr",
        "epoll_ctl",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "fadvise64",
        "inotify_add_watch",
        "sync_file_range",
        "vmsplice",
        "splice",
        "tee",
        "fallocate",
        "timerfd_settime",
        "timerfd_gettime",
        "signalfd",
        "signalfd4",
        "preadv",
        "pwritev",
        "preadv2",
        "pwritev2",
        "recvmmsg",
        "sendmmsg",
        "syncfs",
        "setns",
        "finit_module",
        "copy_file_range",
        "io_uring_enter",
        "pidfd_send_signal",
        "pidfd_getfd",
        "openat",
        "mkdirat",
        "newfstatat",
        "unlinkat",
        "renameat",
        "linkat",
        "readlinkat",
        "fchmodat",
        "faccessat",
        "utimensat",
        "dup",
        "dup2",
        "dup3",
        "mq_timedsend",
        "mq_timedreceive",
        "io_uring_register",
    }
)


def describe(
    architecture: Architecture | None, thread: Registers | None, files: dict[int, str]
) -> dict[str, Any] | None:
    """The call a stopped thread is blocked in, as facts.json has it; None when it is in none.

    Args:
        architecture: of the process.
        thread: the registers it was stopped with.
        files: what the process' descriptors are open on.
    """
    if architecture is None or thread is None or architecture.machine != ARCHITECTURES["x86_64"].machine:
        # On aarch64 the result overwrites the first argument, and the number is in a register set of its own.
        return None
    words = struct.unpack("<27q", thread.general)
    number = words[_X86_NUMBER]
    if number < 0 or words[_X86_RESULT] not in _INTERRUPTED:
        return None
    arguments = [words[index] & (2**64 - 1) for index in _X86_ARGUMENTS]
    name = X86_64.get(number)
    # A descriptor is an int: the upper half of its register is undefined.
    file = files.get(arguments[0] & 0x7FFFFFFF) if name in _FD_FIRST else None
    return {"number": number, "name": name or f"system call {number}", "arguments": arguments, "file": file}


def _table(blocks: dict[int, str]) -> dict[int, str]:
    """Names by number, from runs of names that begin at a number."""
    return {
        first + index: name for first, names in blocks.items() for index, name in enumerate(names.split())
    }


X86_64 = _table(
    {
        0: """
            read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction
            rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield
            mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm
            setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind
            listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit
            wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync
            fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink
            symlink readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo
            times ptrace getuid syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid
            setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid
            setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend
            sigaltstack utime mknod uselib personality ustat statfs fstatfs sysfs getpriority setpriority
            sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max
            sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall vhangup
            modify_ldt pivot_root _sysctl prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday
            mount umount2 swapon swapoff reboot sethostname setdomainname iopl ioperm create_module
            init_module delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg
            afs_syscall tuxcall security gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr
            fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex
            sched_setaffinity sched_getaffinity set_thread_area io_setup io_destroy io_getevents io_submit
            io_cancel get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old
            remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create
            timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime
            clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes vserver mbind
            set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
            mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init
            inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat
            newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll
            unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice move_pages utimensat
            epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4
            signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo
            perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at
            open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev
            kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create
            kexec_file_load bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2
            pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq
        """,
        424: """
            pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen
            fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2
            process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule
            landlock_restrict_self memfd_secret process_mrelease futex_waitv set_mempolicy_home_node
            cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount
            lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
            removexattrat
        """,
    }
)
