/// Compile caches: whose they are, what becomes of them, and that nothing outside is ever touched.
#include "node/caches/compile_caches.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "node/caches/tree.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using spec::DeviceKind;
using spec::EngineKind;
using testing::TemporaryDirectory;
using testing::write_file;

constexpr std::uint64_t kMiB = 1ULL << 20;

CompileCaches::Key key_of(const std::string& model, const std::string& tenant = "default") {
  return {base::TenantName(tenant), base::ModelName(model), EngineKind::vllm, DeviceKind::cuda};
}

class CompileCachesTest : public ::testing::Test {
 protected:
  CompileCachesTest() { open(); }

  void open(std::uint64_t budget_bytes = 8 * kMiB, base::Duration look_every = base::Seconds(3600)) {
    caches_.reset();
    auto opened = CompileCaches::open({directory_ / "caches", budget_bytes, look_every});
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    caches_ = std::move(opened).value();
  }
  std::unique_ptr<CompileCaches::Lease> lease(const CompileCaches::Key& key) {
    auto leased = caches_->lease(key);
    EXPECT_TRUE(leased.ok()) << leased.error().message;
    return std::move(leased).value();
  }
  /// A use that leaves `bytes` in a file of this name.
  void use(const std::string& model, const std::string& file, std::uint64_t bytes = 1) {
    const auto leased = lease(key_of(model));
    write_file(leased->directory() + "/" + file, std::string(bytes, 'x'));
  }
  bool has(const std::string& model, const std::string& file) {
    return fs::exists(lease(key_of(model))->directory() + "/" + file);
  }
  bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 5'000 && !condition(); ++i) ::usleep(1'000);
    return condition();
  }

  TemporaryDirectory directory_;
  std::unique_ptr<CompileCaches> caches_;
};

TEST_F(CompileCachesTest, AreFoundAgainAlsoInAnotherLife) {
  use("m", "kernel.so");
  EXPECT_TRUE(has("m", "kernel.so"));
  open();
  EXPECT_TRUE(has("m", "kernel.so"));
  EXPECT_GT(caches_->bytes(), 0U);
}

TEST_F(CompileCachesTest, AreNobodyElses) {
  const auto own = lease(key_of("m"));
  std::set<std::string> directories{own->directory()};
  CompileCaches::Key sglang = key_of("m");
  sglang.engine = EngineKind::sglang;
  CompileCaches::Key cpu = key_of("m");
  cpu.device = DeviceKind::cpu;
  for (const CompileCaches::Key& other : {key_of("m", "acme"), key_of("n"), sglang, cpu, key_of("m")}) {
    const auto leased = lease(other);
    EXPECT_TRUE(directories.insert(leased->directory()).second) << leased->directory() << " is shared";
  }
  for (const char* name : {"", "..", ".hidden", "a/b"}) {
    EXPECT_FALSE(caches_->lease(key_of(name)).ok()) << name;
    EXPECT_FALSE(caches_->lease(key_of("m", name)).ok()) << name;
  }
}

TEST_F(CompileCachesTest, ASecondReplicaHasItsOwnAndFindsThatAgain) {
  {
    const auto first = lease(key_of("m"));
    const auto second = lease(key_of("m"));
    write_file(second->directory() + "/second", "x");
  }
  const auto first = lease(key_of("m"));
  EXPECT_FALSE(fs::exists(first->directory() + "/second"));
  EXPECT_TRUE(fs::exists(lease(key_of("m"))->directory() + "/second"));
}

TEST_F(CompileCachesTest, TheLongestUnusedMakesRoom) {
  use("a", "x", 3 * kMiB);
  use("b", "x", 3 * kMiB);
  EXPECT_TRUE(has("a", "x"));  // a use of a
  use("c", "x", 3 * kMiB);
  EXPECT_FALSE(has("b", "x"));
  EXPECT_TRUE(has("a", "x"));
  EXPECT_TRUE(has("c", "x"));
  use("huge", "x", 9 * kMiB);
  EXPECT_FALSE(has("huge", "x")) << "larger than the budget by itself";
  EXPECT_TRUE(has("a", "x"));
}

TEST_F(CompileCachesTest, WhatIsInUseNeverMakesRoom) {
  use("a", "x", 5 * kMiB);
  const auto used = lease(key_of("a"));
  use("b", "x", 5 * kMiB);
  EXPECT_TRUE(fs::exists(used->directory() + "/x"));
  EXPECT_FALSE(has("b", "x"));
}

TEST_F(CompileCachesTest, GoWithTheirModelWhenTheirReplicasHave) {
  use("m", "x");
  use("n", "x");
  auto used = lease(key_of("m"));
  const std::string directory = used->directory();
  const std::string unused = lease(key_of("m"))->directory();
  caches_->forget(base::TenantName("default"), base::ModelName("m"));
  EXPECT_TRUE(eventually([&] { return !fs::exists(unused); }));
  EXPECT_TRUE(fs::exists(directory + "/x"));
  used.reset();
  EXPECT_FALSE(fs::exists(directory));
  EXPECT_FALSE(fs::exists(directory_ / "caches/default/m")) << "nor is anything left above it";
  EXPECT_TRUE(has("n", "x"));
  caches_->forget(base::TenantName("other"), base::ModelName("n"));
  caches_->forget(base::TenantName("default"), base::ModelName("never"));
}

TEST_F(CompileCachesTest, OneThatOutgrowsTheBudgetIsEmptiedUnderItsEngine) {
  open(kMiB, base::Millis(5));
  const auto used = lease(key_of("m"));
  write_file(used->directory() + "/deep/er/x", std::string(2 * kMiB, 'x'));
  EXPECT_TRUE(eventually([&] { return !fs::exists(used->directory() + "/deep"); }));
  EXPECT_TRUE(fs::is_directory(used->directory()));
}

TEST_F(CompileCachesTest, NoneAreKeptWithoutABudget) {
  open(0);
  EXPECT_EQ(caches_->lease(key_of("m")).error().kind, base::ErrorKind::unavailable);
}

/// What an engine may leave to lead thaw, which runs as root, astray.
class ForeignTree : public ::testing::Test {
 protected:
  ForeignTree() {
    write_file(outside_ + "/precious", "x");
    fs::create_directories(tree_);
    fs::create_directory_symlink(outside_, tree_ + "/to-directory");
    fs::create_symlink(outside_ + "/precious", tree_ + "/to-file");
    fs::create_symlink("/nowhere", tree_ + "/to-nothing");
    write_file(tree_ + "/a/b/c", std::string(8'192, 'x'));
    fs::create_directory_symlink("..", tree_ + "/a/b/loop");
    ::mkfifo((tree_ + "/pipe").c_str(), 0600);
  }
  void nothing_outside_changed() {
    EXPECT_TRUE(fs::exists(outside_ + "/precious"));
    struct stat info {};
    EXPECT_EQ(::stat((outside_ + "/precious").c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, ::getuid());
  }

  TemporaryDirectory directory_;
  std::string outside_ = directory_ / "outside";
  std::string tree_ = directory_ / "tree";
};

TEST_F(ForeignTree, IsMeasuredByItself) {
  write_file(outside_ + "/big", std::string(4 * kMiB, 'x'));
  const auto bytes = tree_bytes(tree_);
  ASSERT_TRUE(bytes.ok()) << bytes.error().message;
  EXPECT_GE(*bytes, 8'192U);
  EXPECT_LT(*bytes, kMiB);
  EXPECT_FALSE(tree_bytes(tree_ + "/to-directory").ok()) << "a link is no directory";
}

TEST_F(ForeignTree, IsGivenAwayWithoutWhatItLeadsTo) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_TRUE(give_tree(tree_, 70'000).ok());
  struct stat info {};
  for (const char* path : {"", "/a/b/c", "/to-file", "/to-directory", "/pipe"}) {
    ASSERT_EQ(::lstat((tree_ + path).c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_uid, 70'000U) << path;
    EXPECT_EQ(info.st_gid, 70'000U) << path;
  }
  nothing_outside_changed();
  EXPECT_FALSE(give_tree(tree_ + "/to-directory", 70'000).ok());
  nothing_outside_changed();
}

TEST_F(ForeignTree, IsRemovedWithoutWhatItLeadsTo) {
  ASSERT_TRUE(remove_foreign_tree(tree_).ok());
  EXPECT_FALSE(fs::exists(tree_));
  nothing_outside_changed();
  EXPECT_TRUE(remove_foreign_tree(tree_).ok()) << "what is gone is no error";
}

/// Deeper than any path may be long, with names that are in the way of whoever brings it up.
TEST_F(ForeignTree, OfAnyDepthIsRemoved) {
  fs::create_directories(tree_ + "/.deep-1/full");
  int directory = ::open(tree_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::string name(200, 'd');
  for (int depth = 0; depth < 300; ++depth) {
    ASSERT_EQ(::mkdirat(directory, name.c_str(), 0700), 0);
    const int below = ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_GE(below, 0);
    ::close(directory);
    directory = below;
  }
  ::close(directory);
  EXPECT_EQ(tree_bytes(tree_).error().kind, base::ErrorKind::exhausted);
  EXPECT_FALSE(give_tree(tree_, ::getuid()).ok());
  const auto removed = remove_foreign_tree(tree_);
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_FALSE(fs::exists(tree_));
}

}  // namespace
}  // namespace thaw::node
