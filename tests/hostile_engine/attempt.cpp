#include "attempt.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace thaw::hostile {
namespace {

constexpr int kPatience_ms = 10'000;

std::string error_name(int number) {
  const char* name = ::strerrorname_np(number);
  return name == nullptr ? "error " + std::to_string(number) : name;
}

/// In a child, whose answer comes through a pipe: "0how" or "1how".
Outcome act_apart(const Attempt& attempt) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return refused("no pipe: " + error_name(errno));
  const pid_t child = ::fork();
  if (child < 0) {
    ::close(ends[0]);
    ::close(ends[1]);
    return refused("no process: " + error_name(errno));
  }
  if (child == 0) {
    ::setpgid(0, 0);
    const Outcome outcome = attempt.act();
    const std::string answer = (outcome.succeeded ? "1" : "0") + outcome.how;
    (void)!::write(ends[1], answer.data(), answer.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string answer;
  pollfd entry{ends[0], POLLIN, 0};
  if (::poll(&entry, 1, kPatience_ms) > 0) {
    char buffer[512];
    const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
    if (got > 0) answer.assign(buffer, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  ::kill(-child, SIGKILL);
  ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!answer.empty()) return {answer[0] == '1', answer.substr(1)};
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) return refused(std::string("killed by SIG") + ::sigabbrev_np(WTERMSIG(status)));
  return refused(WIFSIGNALED(status) ? "killed, or no answer in 10 s" : "no answer");
}

}  // namespace

std::string Params::text(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? std::string() : found->second;
}

long Params::number(const std::string& key, long otherwise) const {
  const std::string value = text(key);
  return value.empty() ? otherwise : std::strtol(value.c_str(), nullptr, 10);
}

Outcome succeeded(const std::string& how) { return {true, how}; }
Outcome refused(const std::string& how) { return {false, how}; }
Outcome by_result(long result) { return result == -1 ? refused(error_name(errno)) : succeeded("returned " + std::to_string(result)); }

std::string attack(const std::string& name, const Params& params) {
  static const std::map<std::string, Attempts (*)(const Params&)> known{
      {"network", network_attempts},     {"host", host_attempts},     {"write", write_attempts},         {"kernel", kernel_attempts},
      {"namespaces", namespace_attempts}, {"escape", escape_attempts}, {"neighbour", neighbour_attempts}, {"bombs", bomb_attempts}};
  const auto found = known.find(name);
  if (found == known.end()) return {};
  std::string report;
  const long only = params.number("only", -1);
  long number = 0;
  for (const Attempt& attempt : found->second(params)) {
    if (only >= 0 && only != number++) continue;
    if (params.number("list", 0) != 0) {
      report += "listed\t" + attempt.what + "\t\n";
      continue;
    }
    const Outcome outcome = act_apart(attempt);
    report += std::string(outcome.succeeded ? "SUCCEEDED" : "refused") + "\t" + attempt.what + "\t" + outcome.how + "\n";
  }
  return report;
}

}  // namespace thaw::hostile
