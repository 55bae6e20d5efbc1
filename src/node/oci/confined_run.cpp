#include "node/oci/confined_run.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include <fmt/format.h>

#include "node/oci/image_json.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/process.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr auto kWatch = base::Millis(100);
constexpr auto kKillWait = base::Seconds(5);
constexpr std::uint64_t kMemoryBytes = 2ULL << 30;  // their buffers; the page cache of what they write is given back
constexpr std::uint32_t kPids = 512;                // threads of Go's runtime
constexpr std::size_t kMaxErr = 64ULL << 10;

base::Result<Fd> memory_file(const char* name) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return base::errno_error("cannot make a file in memory", errno);
  return fd;
}

std::string read_back(int fd, std::size_t at_most, bool end) {
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size <= 0) return {};
  const auto length = std::min(at_most, static_cast<std::size_t>(size));
  std::string text(length, '\0');
  const ssize_t got = ::pread(fd, text.data(), length, end ? size - static_cast<off_t>(length) : 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

/// util-linux does what a program cannot do to itself: it is part of every Debian.
std::vector<std::string> with_walls(const ConfinedProgram& program) {
  const std::string id = std::to_string(program.uid);
  std::vector<std::string> argv;
  if (program.network_namespace.empty())
    argv = {"/usr/bin/unshare", "--net", "--"};
  else
    argv = {"/usr/bin/nsenter", "--net=" + program.network_namespace, "--"};
  argv.insert(argv.end(), {"/usr/bin/prlimit", "--fsize=" + std::to_string(program.max_file_bytes), "--core=0", "--nofile=4096", "--",
                           "/usr/bin/setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--no-new-privs", "--inh-caps=-all",
                           "--pdeathsig=KILL", "--"});
  argv.insert(argv.end(), program.argv.begin(), program.argv.end());
  return argv;
}

/// Until it ends, somebody wants it ended, or its time is over: why it is to be killed.
base::Status wait_for(const ConfinedProgram& program, int pidfd, const std::stop_token& stop) {
  for (const base::TimePoint until = now() + program.timeout; !wait_ended(pidfd, kWatch);) {
    if (stop.stop_requested()) return Error{ErrorKind::unavailable, "the server ends"};
    if (now() >= until)
      return Error{ErrorKind::timeout, fmt::format("{} was not done after {:.0f} s; raise node.containerImages.timeout", program.argv.front(),
                                                   base::to_s(program.timeout))};
    if (program.watch) THAW_RETURN_IF_ERROR(program.watch());
  }
  return {};
}

base::Result<Exit> run_in(const ConfinedProgram& program, const SpawnOptions& options, const Cgroup* cgroup, const std::stop_token& stop) {
  THAW_ASSIGN_OR_RETURN(const pid_t pid, spawn(options));
  THAW_ASSIGN_OR_RETURN(const Fd pidfd, open_pidfd(pid));
  base::Status status = cgroup != nullptr ? cgroup->add(pid) : base::Status();
  if (!status.ok() && wait_ended(pidfd.get(), base::Duration::zero())) status = {};  // it was faster
  if (status.ok()) status = wait_for(program, pidfd.get(), stop);
  if (!status.ok()) {
    if (cgroup != nullptr) cgroup->kill_all();
    ::kill(-pid, SIGKILL);
    wait_ended(pidfd.get(), kKillWait);
  }
  auto exit = reap(pidfd.get());
  if (!status.ok()) return status.error();
  return exit;
}

}  // namespace

std::string last_words(const std::string& err) {
  std::string text = err;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const std::size_t line = text.rfind('\n');
  if (line != std::string::npos) text.erase(0, line + 1);
  // time="…" level=fatal msg="…" (skopeo), "   ⨯ …" (umoci)
  if (const std::size_t at = text.find("msg=\""); at != std::string::npos) {
    text.erase(0, at + 5);
    if (text.ends_with('"')) text.pop_back();
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\\' && i + 1 < text.size()) ++i;
      plain += text[i];
    }
    text = plain;
  }
  for (const char* mark : {"   ⨯ ", "   • "})
    if (text.starts_with(mark)) text.erase(0, std::string(mark).size());
  constexpr std::size_t kMost = 600;
  if (text.size() > kMost) text = text.substr(0, 200) + " … " + text.substr(text.size() - 380);
  return text.empty() ? "it gave no reason" : text;
}

base::Result<ConfinedOutput> run_confined(const ConfinedProgram& program, const Cgroup* cgroup, const std::stop_token& stop) {
  THAW_ASSIGN_OR_RETURN(const Fd out, memory_file("out"));
  THAW_ASSIGN_OR_RETURN(const Fd err, memory_file("err"));
  SpawnOptions options{
      .argv = with_walls(program), .env = program.env, .output_fd = out.get(), .directory = program.directory, .error_fd = err.get()};
  options.env.insert(options.env.end(), {search_path_variable(), "HOME=" + program.temporary, "TMPDIR=" + program.temporary, "LANG=C.UTF-8"});
  if (cgroup != nullptr) {
    THAW_RETURN_IF_ERROR(cgroup->create());
    THAW_RETURN_IF_ERROR(cgroup->limit({.memory_bytes = kMemoryBytes, .pids = kPids, .background = true}));
  }
  auto exit = run_in(program, options, cgroup, stop);
  if (cgroup != nullptr) THAW_RETURN_IF_ERROR(cgroup->remove(kKillWait));
  if (!exit.ok()) return exit.error();
  ConfinedOutput output{read_back(out.get(), kMaxManifest_bytes + 1, false), read_back(err.get(), kMaxErr, true)};
  if (!exit->signalled && exit->code == 0) return output;
  if (exit->signalled || output.err.empty())
    return Error{ErrorKind::unavailable, fmt::format("{} ended with {}", program.argv.front(), exit->text())};
  return Error{ErrorKind::unavailable, last_words(output.err)};
}

}  // namespace thaw::node
