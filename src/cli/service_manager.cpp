#include "cli/service_manager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>

namespace thaw::cli {
namespace {

constexpr const char* kVariable = "NOTIFY_SOCKET";

void complain(const std::string& path, int error) {
  spdlog::warn("cannot tell the service manager at {}: {}", path, std::generic_category().message(error));
}

}  // namespace

bool has_service_manager(const Environment& environment) {
  const auto path = environment(kVariable);
  return path && !path->empty();
}

void tell_service_manager(const Environment& environment, std::string_view state) {
  if (!has_service_manager(environment)) return;
  const std::string path = *environment(kVariable);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((path[0] != '/' && path[0] != '@') || path.size() >= sizeof address.sun_path) return complain(path, EAFNOSUPPORT);
  std::copy(path.begin(), path.end(), address.sun_path);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract name: not terminated, so its length counts
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '/' ? 1 : 0));
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return complain(path, errno);
  const ssize_t sent =
      sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
  if (sent < 0) complain(path, errno);
  close(fd);
}

void tell_reloading(const Environment& environment) {
  if (!has_service_manager(environment)) return;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  tell_service_manager(environment,
                       fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1'000'000 + now.tv_nsec / 1000));
}

}  // namespace thaw::cli
