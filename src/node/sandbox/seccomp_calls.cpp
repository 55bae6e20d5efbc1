#include "node/sandbox/seccomp_calls.h"

#include <array>

namespace thaw::node {
namespace {

constexpr std::array kAllowed{
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget", "capset", "chdir", "chmod", "chown", "clock_getres",
    "clock_gettime", "clock_nanosleep", "close", "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
    "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync",
    "fgetxattr", "flistxattr", "flock", "fork", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue", "futex_wait", "futex_waitv",
    "futex_wake", "get_mempolicy", "get_robust_list", "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "geteuid", "getgid",
    "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid",
    "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getxattr", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "ioctl", "ioprio_get", "ioprio_set", "kill", "lchown", "lgetxattr", "link", "linkat",
    "listen", "listxattr", "llistxattr", "lseek", "lstat", "madvise", "map_shadow_stack", "mbind", "membarrier", "memfd_create", "mincore", "mkdir",
    "mkdirat", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "nanosleep",
    "newfstatat", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "poll", "ppoll", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6", "pwrite64", "pwritev",
    "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg", "rename", "renameat", "renameat2",
    "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "select", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_mempolicy", "set_robust_list", "set_thread_area", "set_tid_address",
    "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid",
    "setrlimit", "setsid", "setsockopt", "setuid", "shutdown", "sigaltstack", "signalfd", "signalfd4", "socketpair", "splice", "stat", "statfs",
    "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times", "tkill", "truncate",
    "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes", "vfork", "wait4", "waitid", "write", "writev"};

constexpr std::array kConditional{
    "clone", "clone3", "personality", "socket"};

// Other processes' memory, mounts and namespaces, keys, the kernel's own affairs, and what has been a way out of sandboxes before: io_uring, bpf,
// userfaultfd, perf_event_open. System V's and POSIX's queues are nobody's here: C++ and Python share memory by shm_open(3).
constexpr std::array kRefused{
    "_sysctl", "add_key", "adjtimex", "afs_syscall", "bpf", "chroot", "clock_adjtime", "clock_settime", "epoll_ctl_old", "epoll_wait_old",
    "fanotify_init", "fanotify_mark", "file_getattr", "file_setattr", "fremovexattr", "fsconfig", "fsetxattr", "fsmount", "fsopen", "fspick",
    "futimesat", "getpmsg", "getxattrat", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "kcmp", "keyctl", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "listmount",
    "listns", "listxattrat", "lookup_dcookie", "lremovexattr", "lsetxattr", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
    "memfd_secret", "migrate_pages", "mknod", "mknodat", "modify_ldt", "mount", "mount_setattr", "move_mount", "move_pages", "mq_getsetattr",
    "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "name_to_handle_at",
    "open_by_handle_at", "open_tree", "open_tree_attr", "perf_event_open", "pidfd_getfd", "pivot_root", "process_madvise", "process_vm_readv",
    "process_vm_writev", "ptrace", "putpmsg", "quotactl", "quotactl_fd", "remap_file_pages", "removexattr", "removexattrat", "request_key", "seccomp",
    "security", "semctl", "semget", "semop", "semtimedop", "set_mempolicy_home_node", "setdomainname", "sethostname", "setns", "settimeofday",
    "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "statmount", "sysfs", "syslog", "tuxcall", "umount2", "unshare", "userfaultfd",
    "ustat", "vhangup", "vmsplice", "vserver"};

constexpr std::array kFatal{
    "acct", "create_module", "delete_module", "finit_module", "get_kernel_syms", "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load",
    "nfsservctl", "query_module", "reboot", "swapoff", "swapon", "uselib"};

}  // namespace

std::span<const char* const> allowed_calls() { return kAllowed; }
std::span<const char* const> conditional_calls() { return kConditional; }
std::span<const char* const> refused_calls() { return kRefused; }
std::span<const char* const> fatal_calls() { return kFatal; }

}  // namespace thaw::node
