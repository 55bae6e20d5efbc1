/// What an engine should not see, and what it should not change.
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "attempt.h"

namespace thaw::hostile {
namespace {

constexpr int kMaxEntries = 100'000;
constexpr int kMaxDepth = 12;

Outcome read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return by_result(-1);
  char buffer[64];
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  return got == 0 ? refused("empty") : by_result(got);
}

Outcome open_for_writing(const std::string& path) { return by_result(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK)); }

Outcome create_in(const std::string& directory) {
  const std::string path = directory + "/planted";
  return by_result(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
}

/// Such as a control file: opened and written, since many refuse only the second.
Outcome write_to(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return by_result(-1);
  return by_result(::write(fd, text.data(), text.size()));
}

Outcome make_device(unsigned kind, unsigned major_number, unsigned minor_number) {
  const char* path = "/tmp/device";
  if (::mknod(path, kind | 0600, makedev(major_number, minor_number)) != 0) return by_result(-1);
  return by_result(::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

Outcome list_directory(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return by_result(-1);
  int entries = 0;
  while (::readdir(directory) != nullptr) ++entries;
  return entries > 2 ? succeeded(std::to_string(entries - 2) + " entries") : refused("empty");
}

bool is_system(const std::string& path) {
  for (const char* known : {"/usr", "/proc", "/sys", "/lib", "/lib64", "/bin", "/sbin"})
    if (path == known) return true;
  return false;
}

/// Looks for a name that contains `word` below a directory.
bool find_name(const std::string& directory, const std::string& word, int depth, int& seen, std::string& found) {
  DIR* opened = depth > 0 ? ::opendir(directory.c_str()) : nullptr;
  if (opened == nullptr) return false;
  bool there = false;
  while (const dirent* entry = ::readdir(opened)) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || ++seen > kMaxEntries) continue;
    const std::string path = (directory == "/" ? "" : directory) + "/" + name;
    if (name.find(word) != std::string::npos) {
      found = path;
      there = true;
      break;
    }
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && !is_system(path) && find_name(path, word, depth - 1, seen, found)) {
      there = true;
      break;
    }
  }
  ::closedir(opened);
  return there;
}

Outcome search(const std::string& root, const std::string& word) {
  int seen = 0;
  std::string found;
  return find_name(root, word, kMaxDepth, seen, found) ? succeeded("found " + found) : refused("not among " + std::to_string(seen) + " files");
}

Outcome change_mapped(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return by_result(-1);
  void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return by_result(-1);
  static_cast<char*>(at)[0] = 'X';
  return succeeded("wrote through a mapping");
}

}  // namespace

Attempts host_attempts(const Params& params) {
  Attempts all;
  for (const char* path : {"/etc/shadow", "/root/.ssh/authorized_keys", "/root/.bashrc", "/etc/ssh/sshd_config", "/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem",
                           "/dev/port", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dri/card0", "/dev/kvm", "/dev/fuse",
                           "/dev/net/tun", "/dev/vsock", "/proc/keys", "/proc/sched_debug", "/proc/timer_list", "/sys/kernel/debug/sched/debug",
                           "/sys/firmware/acpi/tables/DSDT", "/sys/class/net/eth0/address", "/sys/kernel/security/lsm"})
    all.push_back({std::string("read ") + path, [=] { return read_file(path); }});
  for (const char* path : {"/root", "/home", "/var/lib", "/run/thaw", "/run/systemd", "/sys/fs/cgroup", "/proc/1/task/1/root/root", "/boot", "/opt", "/srv"})
    all.push_back({std::string("list ") + path, [=] { return list_directory(path); }});
  if (const std::string data = params.text("data_dir"); !data.empty()) {
    all.push_back({"list the data directory", [=] { return list_directory(data); }});
    all.push_back({"read the database of models and keys", [=] { return read_file(data + "/thaw.db"); }});
    all.push_back({"read the client's key", [=] { return read_file(data + "/client.json"); }});
    all.push_back({"list the audit log", [=] { return list_directory(data + "/audit"); }});
  }
  if (const std::string word = params.text("canary"); !word.empty()) {
    all.push_back({"find a file of the host's anywhere", [=] { return search("/", word); }});
    all.push_back({"find one through process 1's root", [=] { return search("/proc/1/root", word); }});
  }
  all.push_back({"make a device file of the first disk", [] { return make_device(S_IFBLK, 8, 0); }});
  all.push_back({"make a device file of the host's memory", [] { return make_device(S_IFCHR, 1, 1); }});
  for (const auto& [path, text] : std::map<std::string, std::string>{{"/proc/sysrq-trigger", "h"},
                                                                    {"/proc/sys/kernel/core_pattern", "|/tmp/x"},
                                                                    {"/proc/sys/kernel/modprobe", "/tmp/x"},
                                                                    {"/proc/sys/vm/drop_caches", "1"},
                                                                    {"/proc/sys/net/ipv4/ip_forward", "1"},
                                                                    {"/proc/self/uid_map", "0 0 1"},
                                                                    {"/sys/kernel/uevent_helper", "/tmp/x"},
                                                                    {"/sys/devices/system/cpu/cpu0/online", "1"},
                                                                    {"/sys/fs/cgroup/release_agent", "/tmp/x"},
                                                                    {"/sys/fs/cgroup/cgroup.procs", "0"}})
    all.push_back({"write to " + path, [path = path, text = text] { return write_to(path, text); }});
  return all;
}

Attempts write_attempts(const Params& params) {
  const std::string model = params.text("model");
  Attempts all{{"open the model for writing", [=] { return open_for_writing(model); }},
               {"open the model for writing by its descriptor",
                [=] {
                  const int fd = ::open(model.c_str(), O_PATH | O_CLOEXEC);
                  return open_for_writing("/proc/self/fd/" + std::to_string(fd));
                }},
               {"write to the model through a mapping", [=] { return change_mapped(model); }},
               {"truncate the model", [=] { return by_result(::truncate(model.c_str(), 0)); }},
               {"remove the model", [=] { return by_result(::unlink(model.c_str())); }},
               {"rename the model", [=] { return by_result(::rename(model.c_str(), (model + ".old").c_str())); }},
               {"open the model's file mode to all", [=] { return by_result(::chmod(model.c_str(), 0777)); }},
               {"touch the model", [=] { return by_result(::utimensat(AT_FDCWD, model.c_str(), nullptr, 0)); }}};
  for (const char* path : {"/", "/usr/bin", "/usr/lib", "/etc", "/thaw", "/thaw/model", "/thaw/engine", "/run", "/dev", "/proc", "/sys"})
    all.push_back({std::string("create a file in ") + path, [=] { return create_in(path); }});
  for (const char* path : {"/etc/passwd", "/etc/ld.so.cache", "/usr/bin/env", "/thaw/init", "/thaw/libthaw_lazy_map.so"})
    all.push_back({std::string("open ") + path + " for writing", [=] { return open_for_writing(path); }});
  return all;
}

Attempts neighbour_attempts(const Params& params) {
  const std::string canary = params.text("canary");
  Attempts all;
  for (const char* directory : {"/dev/shm", "/tmp", "/var/tmp", "/thaw/cache", "/thaw/run"})
    all.push_back({std::string("find another's file in ") + directory, [=] { return search(directory, canary); }});
  if (const std::string path = params.text("other_cache"); !path.empty()) {
    all.push_back({"list another tenant's compile cache", [=] { return list_directory(path); }});
    all.push_back({"write into another tenant's compile cache", [=] { return create_in(path); }});
    all.push_back({"reach it by a relative path", [=] { return list_directory("/thaw/cache/../../../../../.." + path); }});
  }
  if (const std::string path = params.text("other_model"); !path.empty()) all.push_back({"read another tenant's model", [=] { return read_file(path); }});
  if (const std::string path = params.text("other_secret"); !path.empty()) all.push_back({"read another's secret", [=] { return read_file(path); }});
  all.push_back({"signal a process that is not one's own", [] {
                   for (pid_t pid = 2; pid < 5'000; ++pid)
                     if (pid != ::getpid() && pid != ::getppid() && ::getpgid(pid) > 0 && ::getsid(pid) != ::getsid(0)) return succeeded("process " + std::to_string(pid));
                   errno = ESRCH;
                   return by_result(-1);
                 }});
  return all;
}

}  // namespace thaw::hostile
