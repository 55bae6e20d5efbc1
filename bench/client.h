#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

/// What the benchmarks' clients share: their command line, and a request on a new connection to a server on this machine.
namespace thaw::bench {

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);  // NOLINT(concurrency-mt-unsafe): one thread
}

/// --name VALUE ... [-- COMMAND ...]
class Arguments {
 public:
  Arguments(int argc, char** argv) {
    int i = 1;
    for (; i < argc && std::string_view(argv[i]) != "--"; i += 2) {
      if (i + 1 == argc) fail(std::string(argv[i]) + " lacks its value");
      named_.emplace_back(argv[i], argv[i + 1]);
    }
    for (++i; i < argc; ++i) command.emplace_back(argv[i]);
  }
  [[nodiscard]] std::string text(std::string_view name, const std::string& otherwise) const {
    for (const auto& [key, value] : named_)
      if (key == name) return value;
    return otherwise;
  }
  [[nodiscard]] std::string text(std::string_view name) const {
    const std::string value = text(name, "");
    if (value.empty()) fail(std::string(name) + " is missing");
    return value;
  }
  [[nodiscard]] int number(std::string_view name, int otherwise) const {
    const std::string value = text(name, "");
    return value.empty() ? otherwise : std::atoi(value.c_str());
  }

  std::vector<std::string> command;

 private:
  std::vector<std::pair<std::string, std::string>> named_;
};

/// A chat completion; `key` may be empty.
inline std::string request_of(const std::string& body, const std::string& key) {
  std::string out = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
  if (!key.empty()) out += "Authorization: Bearer " + key + "\r\n";
  return out + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// A connected socket, or -1 with errno.
inline int connect_to(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

inline bool write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t count = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace thaw::bench
