#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <thread>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/engine/engine.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;

/// Accepts one client and says one thing; silent when there is nothing to say.
class OneAnswer {
 public:
  OneAnswer(const std::string& path, std::string answer) : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), answer_(std::move(answer)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~OneAnswer() {
    thread_.join();
    ::close(listener_);
  }
  OneAnswer(const OneAnswer&) = delete;
  OneAnswer& operator=(const OneAnswer&) = delete;

 private:
  void serve() const {
    const int client = ::accept(listener_, nullptr, nullptr);
    char request[512];
    EXPECT_GT(::read(client, request, sizeof request), 0);
    EXPECT_EQ(std::string(request, 12), "GET /health ");
    for (const char c : answer_) {  // in the smallest pieces, until the client has had enough
      if (::send(client, &c, 1, MSG_NOSIGNAL) != 1) break;
    }
    while (::read(client, request, sizeof request) > 0) {  // until the other side has had enough
    }
    ::close(client);
  }

  int listener_;
  std::string answer_;
  std::thread thread_;
};

class ProbeTest : public ::testing::Test {
 protected:
  Readiness probe(const std::string& answer, base::Duration timeout = base::Seconds(10)) {
    const OneAnswer server(socket_, answer);
    const auto result = probe_ready(socket_, timeout);
    ::unlink(socket_.c_str());
    EXPECT_TRUE(result.ok());
    return result.ok() ? *result : Readiness::failed;
  }
  TemporaryDirectory directory_;
  std::string socket_ = directory_ / "e.sock";
};

TEST_F(ProbeTest, UnderstandsWhatEnginesAnswer) {
  EXPECT_EQ(probe("HTTP/1.1 200 OK\r\n\r\n{}"), Readiness::yes);
  EXPECT_EQ(probe("HTTP/1.1 503 Service Unavailable\r\n\r\n"), Readiness::no);
  EXPECT_EQ(probe("HTTP/1.1 404 Not Found\r\n\r\n"), Readiness::failed);
  EXPECT_EQ(probe("SSH-2.0-OpenSSH_9.2p1"), Readiness::failed);
}

TEST_F(ProbeTest, SilenceIsNotYetAndIsBounded) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(probe("", base::Millis(50)), Readiness::no);
  EXPECT_EQ(probe("HTTP/1.1 2", base::Millis(50)), Readiness::no);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(ProbeTest, NobodyThereIsNotYet) {
  EXPECT_EQ(*probe_ready(socket_, base::Millis(50)), Readiness::no);
  testing::write_file(socket_, "");
  EXPECT_EQ(*probe_ready(socket_, base::Millis(50)), Readiness::no);
  EXPECT_FALSE(probe_ready(directory_ / std::string(200, 'x'), base::Millis(50)).ok());
}

/// The stand-in for llama-server, as the other tests use it.
TEST_F(ProbeTest, SeesTheFakeEngineBecomeReady) {
  const std::string engine = std::string(THAW_BINARY_DIR) + "/fake-engine";
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl(engine.c_str(), engine.c_str(), "--host", socket_.c_str(), "--fake-start-delay-ms", "200", nullptr);
    ::_exit(127);
  }
  bool was_loading = false;
  Readiness readiness = Readiness::no;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (readiness == Readiness::no && std::chrono::steady_clock::now() < deadline) {
    was_loading = was_loading || ::access(socket_.c_str(), F_OK) == 0;
    readiness = *probe_ready(socket_, base::Seconds(5));
    ::poll(nullptr, 0, 2);  // the probe's own pace
  }
  EXPECT_EQ(readiness, Readiness::yes);
  EXPECT_TRUE(was_loading);
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace thaw::node
