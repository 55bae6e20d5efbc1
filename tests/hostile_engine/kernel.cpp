/// System calls that an engine has no business with.
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "attempt.h"

namespace thaw::hostile {
namespace {

template <typename... Arguments>
Outcome call(long number, Arguments... arguments) {
  return by_result(::syscall(number, arguments...));
}

/// Attaches to a child, which is allowed where tracing is at all.
Outcome trace_child() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const Outcome outcome = by_result(::ptrace(PTRACE_ATTACH, child, nullptr, nullptr));
  ::kill(child, SIGKILL);
  return outcome;
}

Outcome read_memory_of(pid_t pid) {
  char here[8];
  iovec local{here, sizeof here};
  iovec remote{reinterpret_cast<void*>(0x400000), sizeof here};
  return by_result(::process_vm_readv(pid, &local, 1, &remote, 1, 0));
}

Outcome open_by_handle() {
  alignas(8) char handle[32]{};
  const unsigned bytes = 8;
  std::memcpy(handle, &bytes, sizeof bytes);
  const int type = 1;
  std::memcpy(handle + 4, &type, sizeof type);
  handle[8] = 2;  // the inode of many a file system's root, as CVE-2014-3519 ("shocker") had it
  return call(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY);
}

Outcome raise_capabilities() {
  struct {
    std::uint32_t version;
    int pid;
  } head{0x20080522, 0};
  std::uint32_t data[6]{~0U, ~0U, ~0U, ~0U, ~0U, ~0U};
  return call(SYS_capset, &head, data);
}

/// Whether a program that is another user's by its mode gives that user's rights.
Outcome run_setuid(const char* path) {
  if (::access(path, X_OK) != 0) return by_result(-1);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::execl(path, path, "--version", nullptr);
    ::_exit(127);
  }
  // The new program's user, as long as it is there.
  uid_t uid = ::getuid();
  for (int i = 0; i < 200; ++i) {
    char line[64];
    const std::string file = "/proc/" + std::to_string(child) + "/status";
    const int fd = ::open(file.c_str(), O_RDONLY);
    char text[4096]{};
    if (fd >= 0 && ::read(fd, text, sizeof text - 1) > 0)
      if (const char* at = std::strstr(text, "\nUid:"); at != nullptr && std::sscanf(at, "\nUid: %63s %u", line, &uid) == 2 && uid != ::getuid()) break;
    if (fd >= 0) ::close(fd);
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) break;
    ::usleep(1000);
  }
  ::kill(child, SIGKILL);
  return uid != ::getuid() ? succeeded("ran as uid " + std::to_string(uid)) : refused("it ran with this user's own rights");
}

#if defined(__x86_64__)
/// getpid by the i386 way into the kernel, past filters that look at 64-bit numbers.
Outcome call_32_bit() {
  long result = 20;  // __NR_getpid of i386
  asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
  return result > 0 ? succeeded("returned " + std::to_string(result)) : refused("error " + std::to_string(-result));
}
#endif

}  // namespace

Attempts kernel_attempts(const Params& /*params*/) {
  Attempts all{
      {"trace process 1", [] { return by_result(::ptrace(PTRACE_ATTACH, 1, nullptr, nullptr)); }},
      {"trace a child", trace_child},
      {"be traced", [] { return by_result(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); }},
      {"read process 1's memory", [] { return read_memory_of(1); }},
      {"open process 1's memory", [] { return by_result(::open("/proc/1/mem", O_RDWR)); }},
      {"take a descriptor of process 1's",
       [] {
         const long pidfd = ::syscall(SYS_pidfd_open, 1, 0);
         return pidfd < 0 ? by_result(-1) : call(SYS_pidfd_getfd, pidfd, 0, 0);
       }},
      {"load a module", [] { return call(SYS_init_module, "", 0L, ""); }},
      {"load a module from a file", [] { return call(SYS_finit_module, 0, "", 0); }},
      {"remove a module", [] { return call(SYS_delete_module, "dummy", O_NONBLOCK); }},
      {"load another kernel", [] { return call(SYS_kexec_load, 0L, 0L, nullptr, 0L); }},
      {"reboot", [] { return call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, nullptr); }},
      {"swap to a file", [] { return call(SYS_swapon, "/tmp/x", 0); }},
      {"account processes", [] { return call(SYS_acct, "/tmp/x"); }},
      {"load a BPF program",
       [] {
         bpf_attr attributes{};
         attributes.map_type = BPF_MAP_TYPE_ARRAY;
         attributes.key_size = attributes.value_size = 4;
         attributes.max_entries = 1;
         return call(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
       }},
      {"watch the processor's counters",
       [] {
         perf_event_attr attributes{};
         attributes.size = sizeof attributes;
         attributes.type = PERF_TYPE_SOFTWARE;
         attributes.config = PERF_COUNT_SW_CPU_CLOCK;
         attributes.exclude_kernel = 1;
         return call(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
       }},
      {"handle page faults", [] { return call(SYS_userfaultfd, O_CLOEXEC | 1); }},
      {"open an io_uring",
       [] {
         io_uring_params ring{};
         return call(SYS_io_uring_setup, 4, &ring);
       }},
      {"join a key ring", [] { return call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr); }},
      {"add a key", [] { return call(SYS_add_key, "user", "x", "y", 1L, KEY_SPEC_PROCESS_KEYRING); }},
      {"open a file by its handle", open_by_handle},
      {"ask for a file's handle",
       [] {
         alignas(8) char handle[144]{};
         const unsigned bytes = 128;
         std::memcpy(handle, &bytes, sizeof bytes);
         int mount = 0;
         return call(SYS_name_to_handle_at, AT_FDCWD, "/", handle, &mount, 0);
       }},
      {"switch off address randomisation", [] { return by_result(::personality(ADDR_NO_RANDOMIZE)); }},
      {"let data be executed", [] { return by_result(::personality(READ_IMPLIES_EXEC)); }},
      {"read the kernel's log", [] { return call(SYS_syslog, 3, nullptr, 0); }},
      {"set the clock",
       [] {
         timespec now{};
         ::clock_gettime(CLOCK_REALTIME, &now);
         return by_result(::clock_settime(CLOCK_REALTIME, &now));
       }},
      {"change the host's name", [] { return by_result(::sethostname("owned", 5)); }},
      {"compare kernel pointers", [] { return call(SYS_kcmp, 1, ::getpid(), 0, 0L, 0L); }},
      {"move pages of process 1", [] { return call(SYS_migrate_pages, 1, 0L, nullptr, nullptr); }},
      {"take all capabilities", raise_capabilities},
      {"become root", [] { return by_result(::setresuid(0, 0, 0)); }},
      {"become the group root", [] { return by_result(::setresgid(0, 0, 0)); }},
      {"join other groups",
       [] {
         const gid_t group = 0;
         return call(SYS_setgroups, 1, &group);
       }},
      {"allow gaining rights again", [] { return by_result(::prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); }},
      {"drop the filter of system calls", [] { return by_result(::prctl(PR_SET_SECCOMP, 0, nullptr)); }},
      {"gain rights by a setuid program", [] { return run_setuid("/usr/bin/su"); }},
  };
#if defined(SYS_iopl)
  all.push_back({"reach the processor's ports", [] { return call(SYS_iopl, 3); }});
  all.push_back({"call by the x32 way", [] { return call(SYS_getpid | 0x40000000); }});
#endif
#if defined(__x86_64__)
  all.push_back({"call by the 32-bit way", call_32_bit});
#endif
  return all;
}

}  // namespace thaw::hostile
