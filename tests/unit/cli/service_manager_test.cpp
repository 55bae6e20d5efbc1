#include "cli/service_manager.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "unit/temp_dir.h"

namespace thaw::cli {
namespace {

/// What stands at NOTIFY_SOCKET.
class Manager {
 public:
  explicit Manager(const std::string& name) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(name.begin(), name.end(), address.sun_path);
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (name[0] == '/' ? 1 : 0));
    bound_ = bind(fd_, reinterpret_cast<const sockaddr*>(&address), size) == 0;
  }
  ~Manager() { close(fd_); }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;
  [[nodiscard]] bool bound() const { return bound_; }
  [[nodiscard]] std::string heard() const {
    char buffer[256];
    const ssize_t count = recv(fd_, buffer, sizeof buffer, 0);
    return count < 0 ? std::string() : std::string(buffer, static_cast<std::size_t>(count));
  }

 private:
  int fd_;
  bool bound_ = false;
};

Environment with(const std::string& socket) {
  return [socket](const char* name) -> std::optional<std::string> {
    if (std::string_view(name) == "NOTIFY_SOCKET" && !socket.empty()) return socket;
    return std::nullopt;
  };
}

TEST(ServiceManager, HearsWhatIsSaid) {
  const test::TempDir directory;
  for (const std::string& name : {directory.file("notify"), "@thaw-test-" + std::to_string(getpid())}) {
    const Manager manager(name);
    ASSERT_TRUE(manager.bound()) << name;
    EXPECT_TRUE(has_service_manager(with(name)));
    tell_service_manager(with(name), "READY=1");
    EXPECT_EQ(manager.heard(), "READY=1");
    tell_reloading(with(name));
    EXPECT_TRUE(manager.heard().starts_with("RELOADING=1\nMONOTONIC_USEC=")) << name;
  }
}

TEST(ServiceManager, IsNotMissed) {
  const test::TempDir directory;
  EXPECT_FALSE(has_service_manager(with("")));
  tell_service_manager(with(""), "READY=1");
  tell_service_manager(with(directory.file("nobody")), "READY=1");
  tell_service_manager(with("relative"), "READY=1");
  tell_service_manager(with("/" + std::string(200, 'x')), "READY=1");
}

}  // namespace
}  // namespace thaw::cli
