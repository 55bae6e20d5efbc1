#include "net/loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <endian.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/socket.h"
#include "net/task.h"
#include "net/worker.h"

namespace thaw::net {
namespace {

using base::Millis;

class LoopTest : public testing::Test {
 protected:
  LoopTest() : loop_(std::move(Loop::create()).value()) {}

  /// Two connected sockets on the loop.
  std::array<std::unique_ptr<Socket>, 2> pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()), 0);
    return {std::move(Socket::adopt(*loop_, fds[0])).value(), std::move(Socket::adopt(*loop_, fds[1])).value()};
  }
  base::TimePoint in(int ms) { return Loop::clock() + Millis(ms); }

  std::unique_ptr<Loop> loop_;
};

Task<void> read_once(Loop& loop, Socket& socket, ssize_t& result, std::string& text) {
  std::array<char, 64> buffer{};
  do result = co_await socket.read(buffer);
  while (result == -EAGAIN);
  if (result > 0) text.assign(buffer.data(), static_cast<std::size_t>(result));
  loop.stop();
}

TEST_F(LoopTest, ReadWaitsForData) {
  auto sockets = pair();
  ssize_t result = 0;
  std::string text;
  spawn(read_once(*loop_, *sockets[0], result, text));
  loop_->post([&] {
    const iovec part{const_cast<char*>("hi"), 2};
    EXPECT_EQ(sockets[1]->try_write({&part, 1}), 2);
  });
  loop_->run();
  EXPECT_EQ(text, "hi");
}

TEST_F(LoopTest, ReadEndsAtTheDeadline) {
  auto sockets = pair();
  ssize_t result = 0;
  std::string text;
  sockets[0]->set_deadline(in(5));
  spawn(read_once(*loop_, *sockets[0], result, text));
  loop_->run();
  EXPECT_EQ(result, -ETIMEDOUT);
}

TEST_F(LoopTest, ReadEndsWhenCancelled) {
  auto sockets = pair();
  ssize_t result = 0;
  std::string text;
  spawn(read_once(*loop_, *sockets[0], result, text));
  loop_->post([&] { sockets[0]->cancel(); });
  loop_->run();
  EXPECT_EQ(result, -ECANCELED);
}

TEST_F(LoopTest, ReadEndsWhenThePeerCloses) {
  auto sockets = pair();
  ssize_t result = -1;
  std::string text;
  spawn(read_once(*loop_, *sockets[0], result, text));
  loop_->post([&] { sockets[1].reset(); });
  loop_->run();
  EXPECT_EQ(result, 0);
  EXPECT_TRUE(sockets[0]->hung_up());
}

TEST_F(LoopTest, HangUpIsToldToWhoeverDoesNotRead) {
  auto sockets = pair();
  bool told = false;
  sockets[0]->on_hang_up([&] {
    told = true;
    loop_->stop();
  });
  loop_->post([&] { sockets[1].reset(); });
  loop_->run();
  EXPECT_TRUE(told);
}

Task<void> write_much(Socket& socket, const std::string& data, int& result) { result = co_await socket.write_all(data); }

Task<void> read_all(Loop& loop, Socket& socket, std::size_t size, std::size_t& got) {
  while (got < size) {
    if (co_await socket.readable() != 0) break;
    const ssize_t count = socket.try_read({loop.scratch(), Loop::kScratchBytes});
    if (count == -EAGAIN) continue;
    if (count <= 0) break;
    got += static_cast<std::size_t>(count);
  }
  loop.stop();
}

TEST_F(LoopTest, AWriterWaitsForASlowReader) {
  auto sockets = pair();
  const std::string data(8 << 20, 'x');
  int result = -1;
  std::size_t got = 0;
  spawn(write_much(*sockets[0], data, result));
  EXPECT_EQ(result, -1) << "8 MiB fit no socket buffer";
  spawn(read_all(*loop_, *sockets[1], data.size(), got));
  loop_->run();
  EXPECT_EQ(result, 0);
  EXPECT_EQ(got, data.size());
}

TEST_F(LoopTest, TimersFireInOrderAndOnlyAtTheirLastDeadline) {
  std::vector<int> fired;
  Timer later(*loop_, [&] {
    fired.push_back(2);
    loop_->stop();
  });
  Timer moved(*loop_, [&] { fired.push_back(1); });
  Timer never(*loop_, [&] { fired.push_back(9); });
  moved.arm(in(2));
  moved.arm(in(12));  // later again: the first entry must not fire it
  never.arm(in(1));
  never.disarm();
  later.arm(in(30));
  loop_->run();
  EXPECT_EQ(fired, (std::vector<int>{1, 2}));
}

TEST_F(LoopTest, ATimerMayDestroyItself) {
  auto timer = std::make_unique<Timer>(*loop_, [] {});
  auto* raw = &timer;
  timer = std::make_unique<Timer>(*loop_, [loop = loop_.get(), raw] {
    loop->stop();
    raw->reset();  // and this closure with it
  });
  timer->arm(in(1));
  loop_->run();
  EXPECT_EQ(timer, nullptr);
}

TEST_F(LoopTest, PostsFromThreadsAllArrive) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  int seen = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i)
        loop_->post([&] {
          if (++seen == kThreads * kEach) loop_->stop();
        });
    });
  loop_->run();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(seen, kThreads * kEach);
}

Task<void> offload(Loop& loop, Worker& worker, std::thread::id& where, int& value) {
  value = co_await worker.run([&where] {
    where = std::this_thread::get_id();
    return 42;
  });
  loop.stop();
}

TEST_F(LoopTest, AWorkerTakesWorkOffTheLoop) {
  Worker worker(*loop_, 1);
  std::thread::id where;
  int value = 0;
  spawn(offload(*loop_, worker, where, value));
  loop_->run();
  EXPECT_EQ(value, 42);
  EXPECT_NE(where, std::this_thread::get_id());
}

Task<void> close_both_on_data(std::unique_ptr<Socket>& mine, std::unique_ptr<Socket>& other, Loop& loop) {
  std::array<char, 8> buffer{};
  ssize_t count = -EAGAIN;
  while (count == -EAGAIN) count = co_await mine->read(buffer);
  other.reset();  // may have an event in the very same batch
  loop.stop();
}

TEST_F(LoopTest, ASocketMayBeDestroyedWithAnEventPendingInTheBatch) {
  auto first = pair();
  auto second = pair();
  spawn(close_both_on_data(first[0], second[0], *loop_));
  const iovec part{const_cast<char*>("x"), 1};
  first[1]->try_write({&part, 1});
  second[1]->try_write({&part, 1});
  loop_->run();
  EXPECT_EQ(second[0], nullptr);
}

TEST_F(LoopTest, ListenerHandsOutConnections) {
  std::unique_ptr<Socket> accepted;
  std::string peer;
  auto listener = Listener::open(*loop_, "127.0.0.1", 0, [&](int fd, std::string from) {
    accepted = std::move(Socket::adopt(*loop_, fd)).value();
    peer = std::move(from);
    loop_->stop();
  });
  ASSERT_TRUE(listener.ok()) << listener.error().message;
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* in = reinterpret_cast<struct sockaddr*>(&address);
  // The listener's own address, with its port.
  struct Port { std::uint16_t family, port; std::uint32_t host; std::uint64_t zero; };
  const Port target{AF_INET, htobe16((*listener)->port()), htobe32(0x7f000001), 0};
  std::memcpy(&address, &target, sizeof target);
  size = sizeof target;
  std::thread connecting([&] { EXPECT_EQ(connect(client, in, size), 0); });
  loop_->run();
  connecting.join();
  close(client);
  EXPECT_EQ(peer, "127.0.0.1");
  const auto busy = Listener::open(*loop_, "127.0.0.1", (*listener)->port(), [](int, std::string) {});
  ASSERT_FALSE(busy.ok());
  EXPECT_NE(busy.error().message.find("--listen"), std::string::npos);
}

}  // namespace
}  // namespace thaw::net
