/// Ways that have led out of containers: namespaces, mounts, links, descriptors left open, the program's own file.
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "attempt.h"

namespace thaw::hostile {
namespace {

Outcome clone_with(unsigned long flags) {
  const long child = ::syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) ::_exit(0);
  return by_result(child);
}

Outcome clone3_with(std::uint64_t flags) {
  clone_args arguments{};
  arguments.flags = flags;
  arguments.exit_signal = SIGCHLD;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) ::_exit(0);
  return by_result(child);
}

Outcome enter(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? by_result(-1) : by_result(::setns(fd, 0));
}

Outcome leave_root() {
  ::mkdir("/tmp/root", 0700);
  if (::chroot("/tmp/root") != 0) return by_result(-1);
  for (int i = 0; i < 32; ++i) (void)!::chdir("..");
  return by_result(::chroot("."));
}

Outcome read_through_link(const std::string& target) {
  const std::string link = "/tmp/link";
  ::unlink(link.c_str());
  if (::symlink(target.c_str(), link.c_str()) != 0) return by_result(-1);
  return by_result(::open(link.c_str(), O_RDONLY | O_CLOEXEC));
}

Outcome hard_link(const char* target) { return by_result(::linkat(AT_FDCWD, target, AT_FDCWD, "/tmp/hard", AT_SYMLINK_FOLLOW)); }

/// Descriptors that whoever started this program left open (as runc's in CVE-2024-21626): a directory among them may lead to the host.
Outcome leaked_directory() {
  for (int fd = 0; fd < 1024; ++fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISDIR(info.st_mode)) continue;
    return succeeded("descriptor " + std::to_string(fd) + " is a directory");
  }
  errno = EBADF;
  return by_result(-1);
}

/// A program that runs cannot be written; but what a container's first program is, may be the host's (CVE-2019-5736).
Outcome write_program_of(const std::string& pid) {
  const std::string path = "/proc/" + pid + "/exe";
  const int held = ::open(path.c_str(), O_PATH | O_CLOEXEC);
  if (held < 0) return by_result(-1);
  return by_result(::open(("/proc/self/fd/" + std::to_string(held)).c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
}

Outcome open_relative_to(const char* directory, const char* path) {
  const int fd = ::open(directory, O_PATH | O_CLOEXEC);
  if (fd < 0) return by_result(-1);
  return by_result(::openat(fd, path, O_RDONLY | O_CLOEXEC));
}

/// Relative to where each descriptor of process 1 leads.
Outcome open_by_init_descriptors() {
  DIR* directory = ::opendir("/proc/1/fd");
  if (directory == nullptr) return by_result(-1);
  while (const dirent* entry = ::readdir(directory)) {
    const std::string path = std::string("/proc/1/fd/") + entry->d_name + "/etc/shadow";
    if (::open(path.c_str(), O_RDONLY | O_CLOEXEC) >= 0) return succeeded(path);
  }
  errno = ENOENT;
  return by_result(-1);
}

}  // namespace

Attempts namespace_attempts(const Params& /*params*/) {
  Attempts all;
  const std::map<std::string, unsigned long> kinds{{"user", CLONE_NEWUSER}, {"mount", CLONE_NEWNS},   {"network", CLONE_NEWNET},    {"pid", CLONE_NEWPID},
                                                   {"IPC", CLONE_NEWIPC},   {"UTS", CLONE_NEWUTS}, {"cgroup", CLONE_NEWCGROUP}};
  for (const auto& [name, flag] : kinds) {
    all.push_back({"make a " + name + " namespace (unshare)", [flag = flag] { return by_result(::unshare(static_cast<int>(flag))); }});
    all.push_back({"make a " + name + " namespace (clone)", [flag = flag] { return clone_with(flag); }});
    all.push_back({"make a " + name + " namespace (clone3)", [flag = flag] { return clone3_with(flag); }});
  }
  all.push_back({"make a user namespace with all others", [] { return by_result(::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)); }});
  for (const char* name : {"mnt", "user", "net", "pid"})
    all.push_back({std::string("enter process 1's ") + name + " namespace", [=] { return enter((std::string("/proc/1/ns/") + name).c_str()); }});
  all.push_back({"mount a tmpfs", [] { return by_result(::mount("none", "/tmp", "tmpfs", 0, nullptr)); }});
  all.push_back({"mount a proc", [] { return by_result(::mount("proc", "/tmp", "proc", 0, nullptr)); }});
  all.push_back({"mount a cgroup tree", [] { return by_result(::mount("cgroup", "/tmp", "cgroup", 0, "memory")); }});
  all.push_back({"bind the root elsewhere", [] { return by_result(::mount("/", "/tmp", nullptr, MS_BIND | MS_REC, nullptr)); }});
  all.push_back({"remount the root writable", [] { return by_result(::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND, nullptr)); }});
  all.push_back({"remount the models writable", [] { return by_result(::mount(nullptr, "/thaw/model", nullptr, MS_REMOUNT | MS_BIND, nullptr)); }});
  all.push_back({"unmount what covers /proc/kcore", [] { return by_result(::umount2("/proc/kcore", MNT_DETACH)); }});
  all.push_back({"unmount the models", [] { return by_result(::umount2("/thaw/model", MNT_DETACH)); }});
  all.push_back({"pivot the root", [] { return by_result(::syscall(SYS_pivot_root, ".", ".")); }});
  all.push_back({"change the root and walk out of it", leave_root});
  all.push_back({"open a file system (fsopen)", [] { return by_result(::syscall(SYS_fsopen, "tmpfs", 0)); }});
  all.push_back({"copy a mount (open_tree)", [] { return by_result(::syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE)); }});
  all.push_back({"move a mount (move_mount)", [] { return by_result(::syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/dev/shm", 0)); }});
  all.push_back({"make a mount writable (mount_setattr)", [] {
                   mount_attr attributes{};
                   attributes.attr_clr = MOUNT_ATTR_RDONLY;
                   return by_result(::syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attributes, sizeof attributes));
                 }});
  return all;
}

Attempts escape_attempts(const Params& params) {
  Attempts all{{"find a directory that was left open", leaked_directory},
               {"open the host's root by it", [] { return open_by_init_descriptors(); }},
               {"write to its own program", [] { return write_program_of("self"); }},
               {"write to process 1's program", [] { return write_program_of("1"); }},
               {"read /etc/shadow through a link", [] { return read_through_link("/etc/shadow"); }},
               {"read /etc/shadow by process 1's root", [] { return read_through_link("/proc/1/root/etc/shadow"); }},
               {"read /etc/shadow by process 1's directory", [] { return read_through_link("/proc/1/cwd/etc/shadow"); }},
               {"read /etc/shadow from far above", [] { return open_relative_to("/tmp", "../../../../../../../../etc/shadow"); }},
               {"read /etc/shadow from above the models", [] { return open_relative_to("/thaw/model", "../../../../../../etc/shadow"); }},
               {"link process 1's program into /tmp", [] { return hard_link("/proc/1/exe"); }},
               {"link the password file into /tmp", [] { return hard_link("/etc/passwd"); }},
               {"open a terminal", [] { return by_result(::open("/dev/tty", O_RDWR)); }},
               {"type into standard input", [] { return by_result(::syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x")); }}};
  for (const char* key : {"data_dir", "home"})
    if (const std::string path = params.text(key); !path.empty())
      all.push_back({"reach " + std::string(key) + " through a link", [=] { return read_through_link(path); }});
  return all;
}

Outcome swap_socket(const std::string& socket_path, const std::string& target) {
  if (::unlink(socket_path.c_str()) != 0) return by_result(-1);
  return by_result(::symlink(target.c_str(), socket_path.c_str()));
}

}  // namespace thaw::hostile
