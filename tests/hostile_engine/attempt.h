#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

/// An engine that has been taken over. It answers requests like any other; a prompt "attack NAME key=value …" makes it try what somebody in its
/// place would try, and its answer tells of every attempt what was tried and what came of it. tests/e2e/attacks.test.js asks it.
namespace thaw::hostile {

/// key=value of the prompt.
class Params {
 public:
  explicit Params(std::map<std::string, std::string> values) : values_(std::move(values)) {}
  [[nodiscard]] std::string text(const std::string& key) const;
  [[nodiscard]] long number(const std::string& key, long otherwise) const;

 private:
  std::map<std::string, std::string> values_;
};

/// What came of one attempt. An error number that comes back is a refusal; so is the end of who tried.
struct Outcome {
  bool succeeded = false;
  std::string how;
};

Outcome succeeded(const std::string& how);
Outcome refused(const std::string& how);
/// By the result of a system call: -1 is a refusal by errno.
Outcome by_result(long result);

/// Runs in a process of its own, for at most ten seconds: it may crash, be killed, hang or spoil its process.
struct Attempt {
  std::string what;
  std::function<Outcome()> act;
};

using Attempts = std::vector<Attempt>;

Attempts network_attempts(const Params& params);
Attempts host_attempts(const Params& params);
Attempts write_attempts(const Params& params);
Attempts kernel_attempts(const Params& params);
Attempts namespace_attempts(const Params& params);
Attempts escape_attempts(const Params& params);
Attempts neighbour_attempts(const Params& params);
Attempts bomb_attempts(const Params& params);

/// Takes memory in this very process until it is killed.
[[noreturn]] void memory_bomb();

/// Writes so much into a new file there, past the page cache or at least through to the disk; the file goes at the end. Milliseconds, or below 0: errno.
long write_through(const std::string& directory, long mib);
/// Puts a link to `target` where this engine's socket was: whoever connects to the engine goes there.
Outcome swap_socket(const std::string& socket_path, const std::string& target);

/// Makes all the attempts of the attack `name`, one after the other: a line each, "refused" or "SUCCEEDED", tab, what, tab, how. Empty: no such attack.
/// With only=N the one of that number alone, with list=1 none: "listed".
std::string attack(const std::string& name, const Params& params);

}  // namespace thaw::hostile
