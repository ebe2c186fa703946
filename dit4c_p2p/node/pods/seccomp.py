"""The system calls that a pod's containers may make: a seccomp profile of ours. Pure.

The engine's own default allows AF_VSOCK (on a virtual machine, a way to its host that no firewall
sees) and io_uring (whose operations no filter sees), and 32-bit calls, among them ``socketcall``,
whose arguments a filter can't read. Here what is not named is refused, sockets are of four families
only, and only the machine's own architecture runs.

``ptrace`` and its like stay, for debuggers: in a pod they reach the app's own processes only.
Calls that need a capability that no container of a pod has are left out.

The JSON is what the Docker engine takes as ``seccomp=``.
"""

import errno
import json
import socket
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

Rule = dict[str, Any]

_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
    fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd
    getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl
    lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir
    mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv
    preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename
    renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync
    sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes write
    writev
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_setup
    io_submit poll ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime
    timerfd_settime
"""
_MEMORY = """
    brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create memfd_secret mincore
    mlock mlock2 mlockall mmap mprotect mremap mseal msync munlock munlockall munmap pkey_alloc
    pkey_free pkey_mprotect process_madvise process_mrelease remap_file_pages set_mempolicy
    set_mempolicy_home_node shmat shmctl shmdt shmget cachestat
"""
_PROCESSES = """
    alarm capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait
    futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups
    getitimer getpgid getpgrp getpid getpriority getppid getresgid getresuid getrlimit getrusage
    getsid gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self msgctl msgget msgrcv msgsnd mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink nanosleep pause pidfd_getfd pidfd_open pidfd_send_signal
    prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp semctl semget semop semtimedop set_robust_list set_thread_area
    set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid
    setresgid setresuid setreuid setrlimit setsid setuid sigaltstack tgkill tkill vfork wait4 waitid
"""
_NETWORK = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg
    sendmmsg sendmsg sendto setsockopt shutdown
"""
_SYSTEM = """
    adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep getrandom gettimeofday sysinfo
    time timer_create timer_delete timer_getoverrun timer_gettime timer_settime times uname
"""
_DEBUGGING = "kcmp process_vm_readv process_vm_writev ptrace"
_OF_ARCHITECTURES = {"amd64": ("arch_prctl",), "arm64": ("cacheflush", "sync_file_range2")}

# Programs that are told "there is no such call" do without; "not permitted" is an error to them.
# clone3 hides its flags from a filter, and clone is what is used then.
_UNKNOWN = ("clone3", "io_uring_enter", "io_uring_register", "io_uring_setup")

FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h).
_NEW_NAMESPACES = 0x7E020000
# PER_LINUX, PER_LINUX32, each with UNAME26; to ask which it is; no randomized addresses, for
# debuggers (linux/personality.h).
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000)


@cache
def seccomp_profile() -> str:
    """The profile, the same text each time."""
    rules = [
        _allow_system_calls(
            _system_call_words(_FILES, _WAITING, _MEMORY, _PROCESSES, _NETWORK, _SYSTEM, _DEBUGGING)
        )
    ]
    rules += _socket_rules()
    rules += [
        _allow_system_calls(("personality",), _argument_equals(value)) for value in _PERSONALITIES
    ]
    rules.append(
        _allow_system_calls(
            ("clone",),
            {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
        )
    )
    rules += [
        {**_allow_system_calls(names), "includes": {"arches": [architecture]}}
        for architecture, names in _OF_ARCHITECTURES.items()
    ]
    rules.append(
        {"names": list(_UNKNOWN), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS, "args": []}
    )
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            # Without what an architecture could run besides: other calls have other numbers there.
            "archMap": [
                {"architecture": name, "subArchitectures": []}
                for name in ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
            ],
            "syscalls": rules,
        },
        separators=(",", ":"),
    )


def _socket_rules() -> Iterator[Rule]:
    for family in FAMILIES:
        yield _allow_system_calls(("socket",), _argument_equals(int(family)))
    yield _allow_system_calls(("socketpair",), _argument_equals(int(socket.AF_UNIX)))


def _allow_system_calls(names: Sequence[str], *arguments: Rule) -> Rule:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _argument_equals(value: int) -> Rule:
    """The first argument is this."""
    return {"index": 0, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ"}


def _system_call_words(*texts: str) -> list[str]:
    return sorted(word for text in texts for word in text.split())
