/// The freezer driver: the conformance suite on the fake engine and on llama-server, on each kind of freezer that this
/// host has, and what is the freezer's own.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <fstream>
#include <sstream>

#include "node/sandbox/files.h"
#include "node/tiers/freezer_driver.h"
#include "unit/node/tier_driver_suite.h"

namespace thaw::node::test {
namespace {

constexpr auto kShort = base::Millis(300);

base::Error broken() {
  return {base::ErrorKind::io, "broken on purpose"};
}

/// Control groups as a host without a v2 tree has them.
std::shared_ptr<const CgroupHost> v1_only(const std::string& directory) {
  std::istringstream lines(read_small_file("/proc/self/mountinfo").value_or(""));
  std::ofstream file(directory);
  for (std::string line; std::getline(lines, line);)
    if (line.find(" - cgroup2 ") == std::string::npos) file << line << '\n';
  file.close();
  auto host = CgroupHost::detect(directory);
  return host.ok() ? *std::move(host) : nullptr;
}

class FreezerRig : public EngineRig {
 public:
  FreezerRig(std::vector<std::string> argv, const std::string& model, bool v1 = false)
      : EngineRig(std::move(argv), model) {
    if (v1) set_cgroups(v1_only(temporary_ / "mountinfo"));
    make_driver();
  }

  [[nodiscard]] std::string cannot() const override {
    if (std::string why = EngineRig::cannot(); !why.empty()) return why;
    return driver_->capability().works ? "" : driver_->capability().detail;
  }
  TierDriver& driver() override { return *driver_; }
  [[nodiscard]] std::uint64_t fills_under_way() const { return filler_.totals().under_way; }
  bool rests() override { return sandbox().cgroup()->freezer().frozen().value_or(false); }

  std::vector<TierFault> faults() override {
    using In = TierFault::In;
    const FreezerSteps real = FreezerSteps::real();
    const auto never = [](const Freezer& freezer, base::TimePoint deadline,
                          const std::stop_token& stop) -> base::Status {
      while (now() < deadline && !stop.stop_requested()) std::this_thread::yield();
      (void)freezer;
      return base::Error{base::ErrorKind::timeout, "never frozen"};
    };
    return {
        {"the kernel refuses to freeze",
         In::down,
         [this] { steps_.freeze = [](auto&&...) { return base::Status(broken()); }; },
         {Rests::ready}},
        {"it never stands still", In::down, [this, never] { steps_.freeze = never; }, {Rests::ready}, kShort},
        {"pages cannot be counted",
         In::down,
         [this] { steps_.page_out = [](auto&&...) { return base::Result<PageOut>(broken()); }; },
         {Rests::ready}},
        {"nothing leaves",
         In::down,
         [this] {
           steps_.page_out = [](auto&&...) { return base::Result<PageOut>(PageOut{1, 1, {}, "somebody runs"}); };
         },
         {Rests::standby},
         base::Seconds(20),
         false},
        {"frozen, and cannot be thawed",
         In::down,
         [this] {
           steps_.page_out = [](auto&&...) { return base::Result<PageOut>(broken()); };
           steps_.thaw = [](auto&&...) { return base::Status(broken()); };
         },
         {Rests::lost}},
        {"it dies while its pages leave",
         In::down,
         [this, real] {
           steps_.page_out = [this, real](const auto& files, const auto& stopped) {
             kill_engine();
             return real.page_out(files, stopped);
           };
         },
         {Rests::lost}},
        {"it cannot be thawed",
         In::up,
         [this] { steps_.thaw = [](auto&&...) { return base::Status(broken()); }; },
         {Rests::standby}},
        {"it does not answer in time",
         In::up,
         [this] { steps_.probe = [](auto&&...) { return base::Result<Readiness>(Readiness::no); }; },
         {Rests::standby},
         kShort},
        {"it answers nonsense",
         In::up,
         [this] { steps_.probe = [](auto&&...) { return base::Result<Readiness>(Readiness::failed); }; },
         {Rests::lost}},
        {"it neither thaws nor freezes",
         In::up,
         [this] {
           steps_.thaw = [](auto&&...) { return base::Status(broken()); };
           steps_.freeze = [](auto&&...) { return base::Status(broken()); };
         },
         {Rests::lost}},
        {"it dies as it wakes",
         In::up,
         [this, real] {
           steps_.thaw = [this, real](const auto& freezer, auto deadline) {
             auto thawed = real.thaw(freezer, deadline);
             kill_engine();
             return thawed;
           };
         },
         {Rests::lost}},
    };
  }
  void heal() override { steps_ = FreezerSteps::real(); }

 private:
  void make_driver() {
    const FreezerSteps through{
        .freeze = [this](const auto& freezer, auto deadline,
                         const auto& stop) { return steps_.freeze(freezer, deadline, stop); },
        .thaw = [this](const auto& freezer, auto deadline) { return steps_.thaw(freezer, deadline); },
        .page_out = [this](const auto& files, const auto& stopped) { return steps_.page_out(files, stopped); },
        .probe = [this](const auto& socket, auto timeout) { return steps_.probe(socket, timeout); },
    };
    driver_ = std::make_unique<FreezerDriver>(home().cgroups, home().label, filler_, through);
  }

  DiskDirectory temporary_;
  FreezerSteps steps_ = FreezerSteps::real();
  PageFiller filler_{2};
  std::unique_ptr<FreezerDriver> driver_;
};

TierRigMaker rig(bool real, bool v1) {
  return [real, v1]() -> std::unique_ptr<TierRig> {
    return std::make_unique<FreezerRig>(real ? real_engine() : fake_engine(), real ? real_model() : "", v1);
  };
}

INSTANTIATE_TEST_SUITE_P(FreezerOfThisHostFakeEngine, TierDriverSuite, ::testing::Values(rig(false, false)));
INSTANTIATE_TEST_SUITE_P(FreezerOfThisHostLlamaServer, TierDriverSuite, ::testing::Values(rig(true, false)));
INSTANTIATE_TEST_SUITE_P(FreezerV1FakeEngine, TierDriverSuite, ::testing::Values(rig(false, true)));

class FreezerTest : public ::testing::Test {
 protected:
  void begin(std::vector<std::string> argv, const std::string& model = "") {
    rig_ = std::make_unique<FreezerRig>(std::move(argv), model);
    if (const std::string why = rig_->cannot(); !why.empty()) GTEST_SKIP() << why;
    rig_->start();
  }
  TierOutcome down() { return rig_->driver().down(rig_->subject(), {now() + base::Seconds(20), {}}); }
  TierOutcome up() { return rig_->driver().up(rig_->subject(), {now() + base::Seconds(20), {}}); }

  std::unique_ptr<FreezerRig> rig_;
};

/// One connection, kept open, as the gateway keeps them.
class KeptConnection {
 public:
  explicit KeptConnection(const std::string& socket_path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
    connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    const timeval timeout{20, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  }
  bool send() {
    const std::string request = "GET /health HTTP/1.1\r\nHost: engine\r\n\r\n";
    return connected_ &&
           ::send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size());
  }
  std::string read() {
    std::array<char, 4096> chunk{};
    const ssize_t got = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
    return got > 0 ? std::string(chunk.data(), static_cast<std::size_t>(got)) : std::string();
  }
  [[nodiscard]] bool nothing_to_read() const {
    char one = 0;
    return ::recv(fd_.get(), &one, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }

 private:
  Fd fd_;
  bool connected_ = false;
};

TEST_F(FreezerTest, WeightsLeaveMemoryAndComeBack) {
  begin(fake_engine());
  if (IsSkipped()) return;
  ASSERT_EQ(bytes_in_memory(rig_->model_path()), 8ULL << 20);
  const TierOutcome rested = down();
  ASSERT_TRUE(rested.ok()) << rested.error->message;
  EXPECT_EQ(bytes_in_memory(rig_->model_path()), 0U);
  EXPECT_EQ(rested.freed.weights_bytes, 8ULL << 20);
  EXPECT_EQ(rested.held.weights_bytes, 0U);
  ASSERT_TRUE(up().ok());
  EXPECT_TRUE(eventually([&] { return bytes_in_memory(rig_->model_path()) == 8ULL << 20; }))
      << "filled in the background";
}

TEST_F(FreezerTest, AnonymousMemoryStaysAndIsTold) {
  begin(fake_engine({"--fake-alloc-mib", "64"}));
  if (IsSkipped()) return;
  const TierOutcome rested = down();
  ASSERT_TRUE(rested.ok()) << rested.error->message;
  EXPECT_GE(rested.held.host_bytes, 64ULL << 20);
  EXPECT_LT(rested.held.host_bytes, 96ULL << 20);
  EXPECT_EQ(rested.freed.weights_bytes, 8ULL << 20);
}

TEST_F(FreezerTest, AFileThatIsNotNeededAnyMoreIsNotReadAgain) {
  begin(fake_engine({"--fake-alloc-mib", "64"}));
  if (IsSkipped()) return;
  const auto in_memory = [&] { return bytes_in_memory(rig_->model_path()); };
  ASSERT_TRUE(down().ok());
  ASSERT_TRUE(up().ok());
  EXPECT_TRUE(eventually([&] { return in_memory() == 8ULL << 20; })) << "what it needs is not known yet";
  ASSERT_TRUE(down().ok());
  ASSERT_TRUE(up().ok());
  EXPECT_EQ(rig_->fills_under_way(), 0U);
  EXPECT_EQ(in_memory(), 0U) << "it touched nothing of it, and has memory of its own";
  EXPECT_FALSE(rig_->answer().empty());
  ASSERT_TRUE(down().ok());
  ASSERT_TRUE(up().ok());
  EXPECT_TRUE(eventually([&] { return in_memory() == 8ULL << 20; })) << "now it did";
}

TEST_F(FreezerTest, AFileOfAnEngineWithoutCopiesIsReadAgainAlsoIfNobodyAsked) {
  begin(fake_engine());
  if (IsSkipped()) return;
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(down().ok());
    ASSERT_TRUE(up().ok());
    EXPECT_TRUE(eventually([&] { return bytes_in_memory(rig_->model_path()) == 8ULL << 20; })) << "round " << round;
  }
}

TEST_F(FreezerTest, WeightsThatARunningReplicaMapsStayAndAreTold) {
  begin(fake_engine());
  if (IsSkipped()) return;
  const Fd fd(::open(rig_->model_path().c_str(), O_RDONLY | O_CLOEXEC));
  void* const other = ::mmap(nullptr, 8ULL << 20, PROT_READ, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  ASSERT_NE(other, MAP_FAILED);
  const TierOutcome rested = down();
  ::munmap(other, 8ULL << 20);
  ASSERT_TRUE(rested.ok()) << rested.error->message;
  EXPECT_EQ(rested.held.weights_bytes, 8ULL << 20);
  EXPECT_EQ(rested.freed.weights_bytes, 0U);
}

TEST_F(FreezerTest, OpenConnectionsOutliveTheRest) {
  begin(fake_engine());
  if (IsSkipped()) return;
  KeptConnection idle(rig_->sandbox().socket_path());
  ASSERT_TRUE(idle.send());
  ASSERT_TRUE(idle.read().starts_with("HTTP/1.1 200"));
  ASSERT_TRUE(down().ok());
  ASSERT_TRUE(idle.send()) << "a frozen engine's kernel still takes bytes";
  EXPECT_TRUE(idle.nothing_to_read());
  ASSERT_TRUE(up().ok());
  EXPECT_TRUE(idle.read().starts_with("HTTP/1.1 200"));
}

TEST_F(FreezerTest, LlamaServersConnectionsOutliveTheRest) {
  begin(real_engine(), real_model());
  if (IsSkipped()) return;
  KeptConnection idle(rig_->sandbox().socket_path());
  ASSERT_TRUE(idle.send());
  ASSERT_TRUE(idle.read().starts_with("HTTP/1.1 200"));
  ASSERT_TRUE(down().ok());
  ASSERT_TRUE(idle.send());
  ASSERT_TRUE(up().ok());
  EXPECT_TRUE(idle.read().starts_with("HTTP/1.1 200"));
}

TEST_F(FreezerTest, RefusesWhatItCannotFree) {
  begin(fake_engine());
  if (IsSkipped()) return;
  rig_->set_device(spec::DeviceKind::cuda, "cuda0");
  const auto accepted = rig_->driver().accepts(rig_->subject());
  ASSERT_FALSE(accepted.ok());
  EXPECT_NE(accepted.error().message.find("GPU"), std::string::npos) << accepted.error().message;

  PageFiller filler(1);
  const FreezerDriver nowhere(nullptr, "x", filler);
  EXPECT_FALSE(nowhere.capability().works);
  EXPECT_FALSE(nowhere.capability().remedy.empty());
  EXPECT_FALSE(nowhere.accepts(rig_->subject()).ok());
}

TEST_F(FreezerTest, AV2FrozenEngineDiesWithItsParent) {
  begin(fake_engine());
  if (IsSkipped()) return;
  if (rig_->sandbox().cgroup()->freezer().kind() != Freezer::Kind::v2) GTEST_SKIP() << "no cgroup v2 here";
  ASSERT_TRUE(down().ok());
  ASSERT_TRUE(send_signal(rig_->sandbox().pidfd(), SIGKILL)) << "thaw-init, whose death is the engine's";
  EXPECT_TRUE(eventually([&] { return rig_->sandbox().cgroup()->pids().empty(); }));
}

}  // namespace
}  // namespace thaw::node::test
