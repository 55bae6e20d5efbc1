// Time to first token: one streamed chat completion on a new connection, until the first event that carries text.
//
//   bench-ttft --port P --body JSON [--key KEY]                  counted from before connect()
//   bench-ttft --port P --body JSON -- COMMAND...                counted from before COMMAND, a server, is spawned; tries every millisecond until it
//                                                                connects and answers 200 (a server that loads answers 503); ends COMMAND afterwards
//
// Prints {"ttft_ms":…,"tries":…,"id":"<x-request-id>"}.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <chrono>
#include <optional>
#include <thread>

#include "client.h"

namespace {

using Clock = std::chrono::steady_clock;
using thaw::bench::fail;

constexpr auto kGiveUp = std::chrono::seconds(60);
constexpr auto kBetweenTries = std::chrono::milliseconds(1);
constexpr auto kStopGrace = std::chrono::seconds(5);
constexpr std::size_t kMaxAnswerBytes = 1U << 20;

/// The server under test; ended with this object.
class Server {
 public:
  explicit Server(const std::vector<std::string>& command) {
    std::vector<char*> argv;
    for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) fail("cannot fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(127);
      const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      for (const int fd : {0, 1, 2}) ::dup2(null, fd);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~Server() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGTERM);
    for (const auto give_up = Clock::now() + kStopGrace; !ended();) {
      if (Clock::now() > give_up) ::kill(pid_, SIGKILL);
      std::this_thread::sleep_for(kBetweenTries);
    }
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  bool ended() {
    if (pid_ != 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = 0;
    return pid_ == 0;
  }

 private:
  pid_t pid_ = 0;
};

struct Answer {
  int status = 0;
  std::string id;
};

/// Whether an event with text is in what came: a chat's first event has a role and no text.
bool has_text(std::string_view answer) {
  constexpr std::string_view kContent = "\"content\":\"";
  for (std::size_t at = 0; (at = answer.find(kContent, at)) != std::string_view::npos; ++at) {
    const std::size_t text = at + kContent.size();
    if (text < answer.size() && answer[text] != '"') return true;
  }
  return false;
}

std::string header(std::string_view answer, std::string_view name) {
  const std::string line = "\r\n" + std::string(name) + ": ";
  const std::size_t at = answer.find(line);
  if (at == std::string_view::npos) return {};
  const std::size_t begin = at + line.size();
  return std::string(answer.substr(begin, answer.find("\r\n", begin) - begin));
}

/// One try. Nothing: no connection, or it broke. Reads to the first text, or to the head of a refusal.
std::optional<Answer> try_once(int port, const std::string& request) {
  const int fd = thaw::bench::connect_to(port);
  if (fd < 0) return std::nullopt;
  std::optional<Answer> result;
  std::string answer;
  if (thaw::bench::write_all(fd, request)) {
    char buffer[16384];
    ssize_t count = 0;
    while (!result && answer.size() < kMaxAnswerBytes && (count = ::read(fd, buffer, sizeof buffer)) > 0) {
      answer.append(buffer, static_cast<std::size_t>(count));
      if (answer.find("\r\n\r\n") == std::string::npos) continue;
      const int status = std::atoi(answer.c_str() + answer.find(' '));
      if (status != 200 || has_text(answer)) result = Answer{status, header(answer, "x-request-id")};
    }
  }
  ::close(fd);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const thaw::bench::Arguments arguments(argc, argv);
  const int port = arguments.number("--port", 0);
  const std::string request = thaw::bench::request_of(arguments.text("--body"), arguments.text("--key", ""));
  const bool spawns = !arguments.command.empty();

  const auto begin = Clock::now();
  std::optional<Server> server;
  if (spawns) server.emplace(arguments.command);
  for (int tries = 1;; ++tries) {
    const std::optional<Answer> answer = try_once(port, request);
    const double ttft_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    if (answer && answer->status == 200) {
      std::printf("{\"ttft_ms\":%.3f,\"tries\":%d,\"id\":\"%s\"}\n", ttft_ms, tries, answer->id.c_str());
      return 0;
    }
    const std::string last = answer ? "status " + std::to_string(answer->status) : "no answer";
    if (!spawns) fail("no text from port " + std::to_string(port) + ": " + last);
    if (server->ended()) fail("the server ended: " + arguments.command[0]);
    if (Clock::now() - begin > kGiveUp) fail("no text within 60 s: " + last);
    std::this_thread::sleep_for(kBetweenTries);
  }
}
