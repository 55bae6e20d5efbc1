// Opens many streamed chat completions at once and counts their events.
//
//   bench-sse --port P --body JSON [--key KEY] --streams N --seconds S    {"events":…,"seconds":…,"begun":…} counted
//   once every stream has
//                                                                         begun, or after 10 s: a proxy may starve some
//                                                                         for ever
//   bench-sse --port P --body JSON [--key KEY] --streams N --hold yes     "ready" once every stream has had an event;
//   then holds
//                                                                         them, reading on, until standard input ends

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <array>
#include <chrono>

#include "client.h"

namespace {

using Clock = std::chrono::steady_clock;
using thaw::bench::fail;

constexpr int kOpenTimeoutMs = 30'000;
constexpr int kBeginTimeoutMs = 10'000;  ///< where it is the rate that counts
constexpr std::size_t kReadBytes = 64U << 10;

struct Stream {
  int fd = -1;
  std::uint64_t events = 0;
  char last = '\0';
  std::string head;  ///< until the status is known
};

class Streams {
 public:
  Streams(int port, const std::string& request, int count)
      : epoll_(::epoll_create1(EPOLL_CLOEXEC)), streams_(static_cast<std::size_t>(count)) {
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      Stream& stream = streams_[i];
      stream.fd = thaw::bench::connect_to(port);
      if (stream.fd < 0) fail("cannot connect to port " + std::to_string(port) + ": " + std::strerror(errno));
      if (!thaw::bench::write_all(stream.fd, request)) fail("cannot send a request");
      ::fcntl(stream.fd, F_SETFL, O_NONBLOCK);
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = i;
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, stream.fd, &event);
    }
  }

  /// Reads until `at`.
  void read_until(Clock::time_point at) {
    while (Clock::now() < at) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(at - Clock::now()).count();
      read_some(static_cast<int>(left));
    }
  }
  void read_some(int timeout_ms) {
    std::array<epoll_event, 512> ready{};
    const int count = ::epoll_wait(epoll_, ready.data(), static_cast<int>(ready.size()), timeout_ms);
    for (int i = 0; i < count; ++i) read(streams_[ready[static_cast<std::size_t>(i)].data.u64]);
  }
  [[nodiscard]] bool all_begun() const { return begun_ == streams_.size(); }
  [[nodiscard]] std::size_t begun() const { return begun_; }
  [[nodiscard]] std::uint64_t events() const { return events_; }

 private:
  void read(Stream& stream) {
    const ssize_t count = ::read(stream.fd, buffer_.data(), buffer_.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) fail("a stream ended after " + std::to_string(stream.events) + " events");
    const std::string_view data(buffer_.data(), static_cast<std::size_t>(count));
    if (stream.head.size() < kStatus.size()) {
      stream.head.append(data.substr(0, 512));
      if (stream.head.substr(0, kStatus.size()) != kStatus.substr(0, stream.head.size()))
        fail("not a 200: " + stream.head);
    }
    note(stream, data);
  }

  /// An event ends with an empty line. Heads and chunk framing hold none: their lines end in CR LF.
  void note(Stream& stream, std::string_view data) {
    const std::uint64_t before = stream.events;
    std::size_t at = 0;
    while ((at = data.find('\n', at)) != std::string_view::npos) {
      if ((at == 0 ? stream.last : data[at - 1]) == '\n') ++stream.events;
      ++at;
    }
    stream.last = data.back();
    events_ += stream.events - before;
    if (before == 0 && stream.events > 0) ++begun_;
  }

  static constexpr std::string_view kStatus = "HTTP/1.1 200";
  int epoll_;
  std::vector<Stream> streams_;
  std::array<char, kReadBytes> buffer_{};
  std::size_t begun_ = 0;
  std::uint64_t events_ = 0;
};

void allow_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool input_ended() {
  pollfd input{0, POLLIN, 0};
  return ::poll(&input, 1, 0) > 0;
}

}  // namespace

int main(int argc, char** argv) {
  const thaw::bench::Arguments arguments(argc, argv);
  allow_descriptors();
  const std::string request = thaw::bench::request_of(arguments.text("--body"), arguments.text("--key", ""));
  Streams streams(arguments.number("--port", 0), request, arguments.number("--streams", 1));
  const bool hold = !arguments.text("--hold", "").empty();
  const auto give_up = Clock::now() + std::chrono::milliseconds(hold ? kOpenTimeoutMs : kBeginTimeoutMs);
  while (!streams.all_begun()) {
    streams.read_some(100);
    if (Clock::now() <= give_up) continue;
    if (!hold) break;
    fail("only " + std::to_string(streams.begun()) + " streams have begun after 30 s");
  }
  if (hold) {
    std::puts("ready");
    std::fflush(stdout);
    while (!input_ended()) streams.read_some(100);
    return 0;
  }
  const auto begin = Clock::now();
  const std::uint64_t before = streams.events();
  streams.read_until(begin + std::chrono::seconds(arguments.number("--seconds", 5)));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::printf("{\"events\":%llu,\"seconds\":%.3f,\"begun\":%zu}\n",
              static_cast<unsigned long long>(streams.events() - before), seconds, streams.begun());
}
