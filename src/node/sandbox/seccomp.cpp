#include "node/sandbox/seccomp.h"

#include <array>
#include <cerrno>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

namespace thaw::node {
namespace {

namespace json = boost::json;

// Names that an architecture or libseccomp does not know are skipped by runc, so one list serves all.
constexpr std::array kAllowed{
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget", "capset", "chdir", "chmod", "chown", "clock_getres",
    "clock_gettime", "clock_nanosleep", "close", "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
    "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync",
    "fgetxattr", "flistxattr", "flock", "fork", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue", "futex_wait", "futex_waitv",
    "futex_wake", "get_mempolicy", "get_robust_list", "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "geteuid", "getgid",
    "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid",
    "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getxattr", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "ioctl", "ioprio_get", "ioprio_set", "kill", "lchown", "lgetxattr", "link", "linkat", "listen",
    "listxattr", "llistxattr", "lseek", "lstat", "madvise", "mbind", "membarrier", "memfd_create", "mincore", "mkdir", "mkdirat", "mlock", "mlock2",
    "mlockall", "mmap", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause",
    "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "prctl", "pread64", "preadv", "preadv2",
    "prlimit64", "process_mrelease", "pselect6", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recvfrom",
    "recvmmsg", "recvmsg", "remap_file_pages", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "select", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_mempolicy",
    "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid", "setpriority",
    "setregid", "setresgid", "setresuid", "setreuid", "setrlimit", "setsid", "setsockopt", "setuid", "shutdown", "sigaltstack", "signalfd", "signalfd4",
    "socketpair", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times",
    "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes", "vfork", "wait4", "waitid", "write", "writev"};

// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h): a namespace of its own would give an engine capabilities.
constexpr std::uint64_t kNamespaceFlags = 0x7E020000;
// Socket families below this: AF_UNIX 1, AF_INET 2, AF_INET6 10, AF_NETLINK 16. Not AF_PACKET 17, nor AF_VSOCK 40, which reaches a hypervisor
// past the network namespace.
constexpr std::uint64_t kFirstRefusedFamily = 17;

json::object argument(unsigned index, std::uint64_t value, const char* op, std::uint64_t value_two = 0) {
  return {{"index", index}, {"value", value}, {"valueTwo", value_two}, {"op", op}};
}

json::object rule(json::array names, const char* action, json::array args = {}) {
  json::object out{{"names", std::move(names)}, {"action", action}};
  if (!args.empty()) out["args"] = std::move(args);
  return out;
}

}  // namespace

json::value seccomp_profile(bool own_kernel) {
  json::array rules;
  rules.push_back(rule(json::array(kAllowed.begin(), kAllowed.end()), "SCMP_ACT_ALLOW"));
  rules.push_back(rule({"socket"}, "SCMP_ACT_ALLOW", {argument(0, kFirstRefusedFamily, "SCMP_CMP_LT")}));
  rules.push_back(rule({"clone"}, "SCMP_ACT_ALLOW", {argument(0, kNamespaceFlags, "SCMP_CMP_MASKED_EQ", 0)}));
  for (const std::uint64_t persona : {0x0ULL, 0x0008ULL, 0x20000ULL, 0x20008ULL, 0xffffffffULL})
    rules.push_back(rule({"personality"}, "SCMP_ACT_ALLOW", {argument(0, persona, "SCMP_CMP_EQ")}));
  json::object clone3 = rule({"clone3"}, own_kernel ? "SCMP_ACT_ALLOW" : "SCMP_ACT_ERRNO");
  if (!own_kernel) clone3["errnoRet"] = ENOSYS;
  rules.push_back(std::move(clone3));

#if defined(__x86_64__)
  const char* architecture = "SCMP_ARCH_X86_64";
#elif defined(__aarch64__)
  const char* architecture = "SCMP_ARCH_AARCH64";
#else
#error "name this architecture as libseccomp does"
#endif
  return json::object{{"defaultAction", "SCMP_ACT_ERRNO"},
                      {"defaultErrnoRet", EPERM},
                      {"architectures", json::array{architecture}},
                      {"syscalls", std::move(rules)}};
}

}  // namespace thaw::node
