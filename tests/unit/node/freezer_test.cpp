#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

/// A host whose freezer is plain files, and a kernel that behaves as a test wants.
class FreezerFiles : public ::testing::Test {
 protected:
  std::shared_ptr<const CgroupHost> host(bool v1, bool v2) {
    std::ofstream table(root() + "/mountinfo");
    for (const char* name : {"cpu", "memory", "pids"}) {
      fs::create_directories(root() + "/" + name);
      table << "30 20 0:25 / " << root() << "/" << name << " rw shared:5 - cgroup cgroup rw," << name << "\n";
    }
    if (v1) table << "31 20 0:26 / " << root() << "/freezer rw - cgroup cgroup rw,freezer\n";
    if (v2) table << "32 20 0:27 / " << root() << "/unified rw - cgroup2 cgroup2 rw\n";
    table.close();
    put("/self", "0::/\n");
    return *CgroupHost::detect(root() + "/mountinfo", root() + "/self");
  }
  void put(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root() + path).parent_path());
    std::ofstream(root() + path) << text;
  }
  [[nodiscard]] std::string text(const std::string& path) const {
    return read_small_file(root() + path).value_or("absent");
  }
  [[nodiscard]] std::string root() const { return directory_.path(); }

  TempDir directory_;
};

TEST_F(FreezerFiles, V2ComesFirstAlsoBesideV1) {
  put("/unified/g/cgroup.freeze", "0");
  put("/freezer/g/freezer.state", "THAWED\n");
  EXPECT_EQ(Freezer::of(*host(true, true), "/g").kind(), Freezer::Kind::v2);
  EXPECT_EQ(Freezer::of(*host(true, false), "/g").kind(), Freezer::Kind::v1);
  EXPECT_EQ(Freezer::of(*host(false, false), "/g").kind(), Freezer::Kind::none);
  EXPECT_EQ(Freezer::of(*host(true, true), "/other").kind(), Freezer::Kind::none);
}

TEST_F(FreezerFiles, JoinsAndAsks) {
  put("/unified/g/cgroup.freeze", "0");
  put("/unified/g/cgroup.procs", "");
  put("/unified/g/cgroup.events", "populated 1\nfrozen 1\n");
  const auto v2 = host(true, true);
  ASSERT_TRUE(Freezer::join(*v2, "/g", 4711).ok());
  EXPECT_EQ(text("/unified/g/cgroup.procs"), "4711");
  const Freezer freezer = Freezer::of(*v2, "/g");
  EXPECT_TRUE(freezer.freeze(now() + kPatience, {}).ok());
  EXPECT_EQ(text("/unified/g/cgroup.freeze"), "1");
  put("/unified/g/cgroup.events", "populated 1\nfrozen 0\n");
  EXPECT_TRUE(freezer.thaw(now() + kPatience).ok());
  EXPECT_EQ(text("/unified/g/cgroup.freeze"), "0");
}

TEST_F(FreezerFiles, AKernelOlderThanTheV2FreezerFallsBackToV1) {
  put("/unified/g/cgroup.procs", "");  // no cgroup.freeze before Linux 5.2
  put("/freezer/g/freezer.state", "THAWED\n");
  put("/freezer/g/cgroup.procs", "");
  const auto both = host(true, true);
  ASSERT_TRUE(Freezer::join(*both, "/g", 4711).ok());
  EXPECT_EQ(text("/freezer/g/cgroup.procs"), "4711");
  EXPECT_EQ(Freezer::of(*both, "/g").kind(), Freezer::Kind::v1);
}

TEST_F(FreezerFiles, WithoutAFreezerTheRemedyIsNamed) {
  const auto joined = Freezer::join(*host(false, false), "/g", 4711);
  ASSERT_FALSE(joined.ok());
  EXPECT_NE(joined.error().message.find("cgroup v2"), std::string::npos) << joined.error().message;
  EXPECT_FALSE(Freezer::of(*host(false, false), "/g").freeze(now() + kPatience, {}).ok());
}

TEST_F(FreezerFiles, AProcessThatDoesNotStandStillIsLetGo) {
  put("/unified/g/cgroup.freeze", "0");
  put("/unified/g/cgroup.events", "populated 1\nfrozen 0\n");
  const Freezer freezer = Freezer::of(*host(false, true), "/g");
  const auto late = freezer.freeze(now() + base::Millis(60), {});
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().kind, base::ErrorKind::timeout);
  EXPECT_EQ(text("/unified/g/cgroup.freeze"), "0");
  std::stop_source stop;
  stop.request_stop();
  const auto cut = freezer.freeze(now() + kPatience, stop.get_token());
  ASSERT_FALSE(cut.ok());
  EXPECT_EQ(cut.error().kind, base::ErrorKind::unavailable);
  EXPECT_EQ(text("/unified/g/cgroup.freeze"), "0");
}

/// The v1 kernel may stay in FREEZING for ever when processes fork meanwhile; thawed and frozen again it comes to rest.
TEST_F(FreezerFiles, AV1GroupThatIsStuckIsThawedAndFrozenAgain) {
  put("/freezer/g/freezer.state", "THAWED\n");
  const Freezer freezer = Freezer::of(*host(true, false), "/g");
  std::atomic<bool> done{false};
  std::thread kernel([&] {
    bool thawed_once = false;
    while (!done) {
      const std::string state = text("/freezer/g/freezer.state");
      if (state == "FROZEN" && !thawed_once) put("/freezer/g/freezer.state", "FREEZING\n");
      thawed_once = thawed_once || state == "THAWED";  // as it is written, without the newline that was there at first
      std::this_thread::yield();
    }
  });
  // The stand-in for a kernel may miss a thaw that is over at once; the freezer then tries again.
  const auto frozen = freezer.freeze(now() + kPatience, {});
  done = true;
  kernel.join();
  EXPECT_TRUE(frozen.ok()) << frozen.error().message;
}

/// Each kind that this host has.
class RealFreezer : public ::testing::TestWithParam<Freezer::Kind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, RealFreezer, ::testing::Values(Freezer::Kind::v1, Freezer::Kind::v2),
                         [](const auto& kind) { return std::string(kind.param == Freezer::Kind::v1 ? "v1" : "v2"); });

TEST_P(RealFreezer, StopsAProcessAndItsChildrenAndLetsThemGoOn) {
  const auto host = CgroupHost::detect();
  if (::geteuid() != 0 || !host.ok()) GTEST_SKIP() << "needs root and control groups";
  std::string mount;
  for (const CgroupHost::Hierarchy& hierarchy : (*host)->hierarchies()) {
    const bool v1 = !hierarchy.v2 && hierarchy.controllers == std::vector<std::string>{"freezer"};
    if (GetParam() == Freezer::Kind::v2 ? hierarchy.v2 : v1) mount = hierarchy.mount;
  }
  if (mount.empty()) GTEST_SKIP() << "this host has none";
  CgroupHost::Hierarchy only{mount, {}, GetParam() == Freezer::Kind::v2};
  const TempDir directory;
  std::ofstream(directory.path() + "/mountinfo")
      << "30 20 0:25 / " << mount << " rw - " << (only.v2 ? "cgroup2 cgroup2 rw" : "cgroup cgroup rw,freezer") << "\n"
      << "31 20 0:26 / " << directory.path() << " rw - cgroup cgroup rw,memory,cpu,pids\n";
  const auto one_kind = CgroupHost::detect(directory.path() + "/mountinfo");
  ASSERT_TRUE(one_kind.ok()) << one_kind.error().message;
  const std::string path = "/thaw-freezer-" + std::to_string(::getpid());

  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::usleep(1'000);
  }
  ASSERT_TRUE(Freezer::join(**one_kind, path, child).ok());
  const Freezer freezer = Freezer::of(**one_kind, path);
  EXPECT_EQ(freezer.kind(), GetParam());
  EXPECT_FALSE(*freezer.frozen());
  const auto frozen = freezer.freeze(now() + kPatience, {});
  EXPECT_TRUE(frozen.ok()) << frozen.error().message;
  EXPECT_TRUE(*freezer.frozen());
  EXPECT_TRUE(freezer.thaw(now() + kPatience).ok());
  EXPECT_FALSE(*freezer.frozen());
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(eventually([&] { return ::rmdir((mount + path).c_str()) == 0; }));
}

}  // namespace
}  // namespace thaw::node::test
