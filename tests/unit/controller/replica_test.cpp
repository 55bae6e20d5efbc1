#include "controller/replica.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "harness.h"

namespace thaw::controller::test {
namespace {

using net::Task;

/// The engine's end: a Unix socket that accepts.
class Engine {
 public:
  Engine() {
    char name[] = "/tmp/thaw-replica-XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/engine.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size());
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 512), 0);
  }
  ~Engine() {
    for (const int fd : accepted_) close(fd);
    close(listener_);
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  void accept_one() { accepted_.push_back(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)); }
  void say(std::string_view text) { EXPECT_EQ(write(accepted_.back(), text.data(), text.size()), static_cast<ssize_t>(text.size())); }
  /// Closes the oldest connection that is open.
  void close_one() {
    close(accepted_.front());
    accepted_.erase(accepted_.begin());
  }

 private:
  std::string directory_, path_;
  int listener_ = -1;
  std::vector<int> accepted_;
};

class ReplicaTest : public ControllerTest {
 protected:
  ReplicaTest() : replica_(base::InstanceId(1), base::ModelName("m"), {}) {
    replica_.became_ready({base::InstanceId(1), engine_.path(), {}}, {});
  }
  Replica::SocketPtr fresh() {
    auto connection = replica_.connect(*loop_);
    EXPECT_TRUE(connection.ok());
    EXPECT_FALSE(connection->reused);
    engine_.accept_one();
    return std::move(connection->socket);
  }

  Engine engine_;
  Replica replica_;
};

TEST_F(ReplicaTest, AConnectionIsUsedAgain) {
  play([&]() -> Task<void> {
    auto socket = fresh();
    const int fd = socket->fd();
    replica_.keep(std::move(socket));
    auto again = replica_.connect(*loop_);
    EXPECT_TRUE(again.ok() && again->reused);
    EXPECT_EQ(again->socket->fd(), fd);
    auto other = fresh();
    EXPECT_NE(other->fd(), fd) << "what is in use is nobody else's";
    co_return;
  });
}

TEST_F(ReplicaTest, AConnectionThatTheEngineClosedIsPassedOver) {
  play([&]() -> Task<void> {
    for (auto& socket : std::array{fresh(), fresh(), fresh()}) replica_.keep(std::move(socket));
    engine_.close_one();
    engine_.close_one();
    co_await pause();
    auto alive = replica_.connect(*loop_);
    EXPECT_TRUE(alive.ok() && alive->reused);
    EXPECT_FALSE(alive->socket->hung_up());
    fresh();
  });
}

TEST_F(ReplicaTest, NothingIsKeptOnceItIsClosed) {
  play([&]() -> Task<void> {
    auto in_use = fresh();
    replica_.keep(fresh());
    replica_.close();
    replica_.keep(std::move(in_use));
    fresh();
    co_return;
  });
}

TEST_F(ReplicaTest, FreshIsFresh) {
  play([&]() -> Task<void> {
    replica_.keep(fresh());
    const auto connection = replica_.connect_fresh(*loop_);
    EXPECT_TRUE(connection.ok());
    EXPECT_FALSE(connection->reused);
    co_return;
  });
}

TEST_F(ReplicaTest, CutEndsWhatIsInUseAndKeepsWhatHadCome) {
  play([&]() -> Task<void> {
    auto in_use = fresh();
    engine_.say("last words");
    replica_.cut();
    std::array<char, 32> buffer{};
    EXPECT_EQ(co_await in_use->read(buffer), 10);
    EXPECT_EQ(co_await in_use->read(buffer), 0) << "although the engine's end is open";
  });
}

TEST_F(ReplicaTest, AnEngineThatDoesNotListenIsAnError) {
  play([&]() -> Task<void> {
    replica_.became_ready({base::InstanceId(1), "/nowhere/engine.sock", {}}, {});
    const auto connection = replica_.connect(*loop_);
    EXPECT_FALSE(connection.ok());
    co_return;
  });
}

TEST_F(ReplicaTest, AnAddressThatIsNoneIsAnErrorOfEachConnection) {
  play([&]() -> Task<void> {
    replica_.became_ready({base::InstanceId(1), "tcp:127.0.0.1:80@/nowhere", {}}, {});
    const auto connection = replica_.connect(*loop_);
    EXPECT_FALSE(connection.ok());
    EXPECT_NE(connection.error().message.find("/nowhere"), std::string::npos) << connection.error().message;
    co_return;
  });
}

}  // namespace
}  // namespace thaw::controller::test
