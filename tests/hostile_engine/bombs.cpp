/// Takes all that there is of something. What stops it is a limit, reached soon.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <vector>

#include "attempt.h"

namespace thaw::hostile {
namespace {

Outcome stopped(const char* what, long at, long bound) {
  const char* name = ::strerrorname_np(errno);
  const std::string how = std::string(name == nullptr ? "?" : name) + " after " + std::to_string(at) + " " + what;
  return at < bound ? refused(how) : succeeded(how);
}

Outcome fork_bomb(long bound) {
  long made = 0;
  while (made < bound) {
    const pid_t child = ::fork();
    if (child < 0) break;
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
    ++made;
  }
  return stopped("processes", made, bound);
}

Outcome descriptor_bomb(long bound) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  long opened = 0;
  while (opened < bound && ::open("/dev/null", O_RDONLY) >= 0) ++opened;
  return stopped("descriptors", opened, bound);
}

Outcome raise_limits() {
  for (const auto resource : {RLIMIT_NOFILE, RLIMIT_CORE}) {
    rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
    if (resource == RLIMIT_NOFILE) limit = {1'000'000, 1'000'000};
    if (::setrlimit(resource, &limit) == 0) return succeeded("a hard limit was raised");
  }
  return by_result(-1);
}

/// Writes into a new file; the file goes at the end.
Outcome disk_bomb(const std::string& directory, long bound_mib) {
  const std::string path = directory + "/bomb";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return by_result(-1);
  std::vector<char> part(1 << 20, 'x');
  long written = 0;
  errno = ENOSPC;  // a write that is cut short says nothing
  while (written < bound_mib && ::write(fd, part.data(), part.size()) == static_cast<ssize_t>(part.size())) ++written;
  const Outcome outcome = stopped("MiB", written, bound_mib);
  ::unlink(path.c_str());
  return outcome;
}

Outcome inode_bomb(const std::string& directory, long bound) {
  const std::string place = directory + "/files";
  if (::mkdir(place.c_str(), 0700) != 0) return by_result(-1);
  long made = 0;
  for (; made < bound; ++made) {
    const int fd = ::open((place + "/" + std::to_string(made)).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) break;
    ::close(fd);
  }
  const Outcome outcome = stopped("files", made, bound);
  for (long i = 0; i < made; ++i) ::unlink((place + "/" + std::to_string(i)).c_str());
  ::rmdir(place.c_str());
  return outcome;
}

}  // namespace

Attempts bomb_attempts(const Params& params) {
  const long processes = params.number("processes", 20'000);
  const long disk_mib = params.number("disk_mib", 4'096);
  const long files = params.number("files", 100'000);
  Attempts all{{"fork without end", [=] { return fork_bomb(processes); }},
               {"open files without end", [] { return descriptor_bomb(200'000); }},
               {"raise the limits", raise_limits}};
  for (const char* directory : {"/tmp", "/thaw/run", "/dev"}) {
    all.push_back({std::string("fill ") + directory, [=] { return disk_bomb(directory, disk_mib); }});
    if (files > 0) all.push_back({std::string("use up the files of ") + directory, [=] { return inode_bomb(directory, files); }});
  }
  return all;
}

long write_through(const std::string& directory, long mib) {
  const std::string path = directory + "/through";
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_DIRECT | O_DSYNC, 0600);
  if (fd < 0) fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_DSYNC, 0600);
  if (fd < 0) return -errno;
  constexpr std::size_t kPart = 1 << 20;
  void* const part = ::mmap(nullptr, kPart, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::memset(part, 'x', kPart);
  const auto begun = std::chrono::steady_clock::now();
  long error = 0;
  for (long i = 0; i < mib && error == 0; ++i)
    if (::write(fd, part, kPart) != static_cast<ssize_t>(kPart)) error = -errno;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun).count();
  ::munmap(part, kPart);
  ::close(fd);
  ::unlink(path.c_str());
  return error != 0 ? error : took;
}

void memory_bomb() {
  constexpr std::size_t kPart = 16UL << 20;
  for (;;) {
    void* at = ::mmap(nullptr, kPart, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) ::pause();
    std::memset(at, 0x5A, kPart);
  }
}

}  // namespace thaw::hostile
