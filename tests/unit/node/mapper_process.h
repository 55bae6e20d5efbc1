#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/fd.h"

namespace thaw::node::test {

/// A process that maps a file, has touched every page of it, and then does nothing. Killed and reaped with the object.
class MapperProcess {
 public:
  /// With `group`, what it touches first is charged there. Returns when it has touched all.
  explicit MapperProcess(const std::string& path, const std::optional<Cgroup>& group = {}) {
    std::array<int, 2> go{};
    std::array<int, 2> ready{};
    if (::pipe2(go.data(), O_CLOEXEC) != 0 || ::pipe2(ready.data(), O_CLOEXEC) != 0) return;
    const Fd go_in(go[1]);
    const Fd ready_out(ready[0]);
    pid_ = ::fork();
    if (pid_ == 0) map_and_wait(path.c_str(), go[0], ready[1]);
    ::close(go[0]);
    ::close(ready[1]);
    if (group && !group->add(pid_).ok()) return;
    char byte = 'g';
    mapped_ = ::write(go_in.get(), &byte, 1) == 1 && ::read(ready_out.get(), &byte, 1) == 1;
  }
  ~MapperProcess() { end(); }
  MapperProcess(const MapperProcess&) = delete;
  MapperProcess& operator=(const MapperProcess&) = delete;

  [[nodiscard]] bool mapped() const { return mapped_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  /// In the child: system calls only, since the test's other threads are not there.
  [[noreturn]] static void map_and_wait(const char* path, int go, int ready) {
    char byte = 0;
    if (::read(go, &byte, 1) != 1) ::_exit(1);
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fd < 0 || ::fstat(fd, &status) != 0) ::_exit(2);
    const auto bytes = static_cast<std::size_t>(status.st_size);
    // As llama.cpp maps its weights.
    void* const mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mapping == MAP_FAILED) ::_exit(3);
    volatile const char* const first = static_cast<const char*>(mapping);
    for (std::size_t at = 0; at < bytes; at += 4096) byte = static_cast<char>(byte ^ first[at]);
    if (::write(ready, &byte, 1) != 1) ::_exit(4);
    for (;;) ::pause();
  }

  pid_t pid_ = -1;
  bool mapped_ = false;
};

}  // namespace thaw::node::test
