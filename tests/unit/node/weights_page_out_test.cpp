#include <gtest/gtest.h>

#include "node/weights/mappers.h"
#include "node/weights/page_out.h"
#include "unit/node/mapper_process.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kBytes = (8ULL << 20) + 100;  // the last page is a part of one
constexpr std::uint64_t kTaken = 1ULL << 20;  // a kernel that reclaims by itself (DAMON) may have taken a few pages before

::testing::AssertionResult is_all(std::uint64_t bytes, std::uint64_t all) {
  if (bytes <= all && bytes > all - kTaken) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << bytes << " bytes of " << all;
}

/// A group of our own below this host's, if it lets us.
class TestGroup {
 public:
  explicit TestGroup(const std::string& name) {
    const auto host = CgroupHost::detect();
    if (::geteuid() != 0 || !host.ok()) return;
    label_ = "test-pageout-" + std::to_string(::getpid());
    if (!(*host)->prepare_parent(label_).ok()) return;
    host_ = *host;
    Cgroup group(host_, host_->parent_path(label_) + "/" + name);
    if (group.create().ok()) group_ = group;
  }
  ~TestGroup() {
    if (group_) {
      EXPECT_TRUE(group_->remove(base::Seconds(10)).ok());
    }
    if (host_) host_->remove_parent(label_);
  }
  TestGroup(const TestGroup&) = delete;
  TestGroup& operator=(const TestGroup&) = delete;
  [[nodiscard]] const std::optional<Cgroup>& operator*() const { return group_; }

 private:
  std::string label_;
  std::shared_ptr<const CgroupHost> host_;
  std::optional<Cgroup> group_;
};

class PageOutTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = write_weights(directory_ / "weights", kBytes);
    ASSERT_FALSE(file_.empty());
    if (!make_cold(file_)) GTEST_SKIP() << "/var/tmp is no disk";
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to page out other processes";
  }
  /// Into the page cache, charged to this process.
  void warm() {
    std::vector<char> bytes(kBytes);
    const Fd fd(::open(file_.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(kBytes));
    ASSERT_TRUE(is_all(resident_bytes_of(file_), kBytes));
  }
  /// What page_out() says, after a check that the kernel agrees.
  PageOut checked(const std::vector<StoppedInstance>& stopped = {}) {
    const auto report = page_out({file_}, stopped);
    EXPECT_TRUE(report.ok()) << report.error().message;
    if (!report.ok()) return {};
    EXPECT_EQ(report->after_bytes, resident_bytes_of(file_, ResidencyCall::mincore));
    EXPECT_EQ(report->why_left.empty(), report->after_bytes == 0) << report->why_left;
    return *report;
  }

  DiskDirectory directory_;
  std::string file_;
};

TEST_F(PageOutTest, WhatNobodyMapsLeaves) {
  warm();
  const PageOut report = checked();
  EXPECT_TRUE(is_all(report.before_bytes, kBytes));
  EXPECT_EQ(report.after_bytes, 0U);
  EXPECT_TRUE(is_all(report.freed_bytes(), kBytes));
}

TEST_F(PageOutTest, WhatOneStoppedProcessMapsLeaves) {
  const MapperProcess mapper(file_);
  ASSERT_TRUE(mapper.mapped());
  EXPECT_TRUE(is_all(checked({{{mapper.pid()}, {}}}).freed_bytes(), kBytes));
}

TEST_F(PageOutTest, WhatARunningProcessMapsIsLeftAlone) {
  const MapperProcess stopped(file_);
  const MapperProcess running(file_);
  ASSERT_TRUE(stopped.mapped() && running.mapped());
  const PageOut report = checked({{{stopped.pid()}, {}}});
  EXPECT_EQ(report.freed_bytes(), 0U);
  EXPECT_EQ(report.running, std::vector<pid_t>{running.pid()});
  EXPECT_NE(report.why_left.find(std::to_string(running.pid())), std::string::npos) << report.why_left;
}

TEST_F(PageOutTest, WhatTwoStoppedProcessesMapLeavesThroughTheGroupThatPaysForIt) {
  const TestGroup first_group("first");
  const TestGroup second_group("second");
  if (!*first_group || !*second_group) GTEST_SKIP() << "needs control groups";
  const MapperProcess first(file_, *first_group);
  const MapperProcess second(file_, *second_group);
  ASSERT_TRUE(first.mapped() && second.mapped());
  const std::uint64_t held_bytes = (*first_group)->memory_bytes();
  ASSERT_GE(held_bytes, kBytes);
  const PageOut report = checked({{{first.pid()}, *first_group}, {{second.pid()}, *second_group}});
  EXPECT_EQ(report.after_bytes, 0U) << report.why_left;
  // Most of it; the process's own memory is in the group too, and under a sanitiser that is some MB.
  EXPECT_LT((*first_group)->memory_bytes(), held_bytes - kBytes / 2);
}

// The kernel reports success here and frees nothing: the report must not.
TEST_F(PageOutTest, WhatTwoStoppedProcessesMapAndNeitherPaysForIsReportedAndLeavesWithOneOfThem) {
  warm();
  const MapperProcess first(file_);
  MapperProcess second(file_);
  ASSERT_TRUE(first.mapped() && second.mapped());
  const PageOut report = checked({{{first.pid()}, {}}, {{second.pid()}, {}}});
  EXPECT_TRUE(report.running.empty());
  if (report.after_bytes > 0) {
    EXPECT_NE(report.why_left.find(std::to_string(second.pid())), std::string::npos) << report.why_left;
  }
  second.end();
  EXPECT_EQ(checked({{{first.pid()}, {}}}).after_bytes, 0U);
}

TEST_F(PageOutTest, OnlyTheFilesNamedLeave) {
  warm();
  const std::string other = write_weights(directory_ / "other", kBytes);
  EXPECT_EQ(checked().after_bytes, 0U);
  EXPECT_TRUE(is_all(resident_bytes_of(other), kBytes));
}

TEST_F(PageOutTest, SeveralFilesAreOneModel) {
  warm();
  const std::string other = write_weights(directory_ / "other", kBytes);
  const auto report = page_out({file_, other, directory_ / "absent"});
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_TRUE(is_all(report->before_bytes, 2 * kBytes));
  EXPECT_EQ(report->after_bytes, 0U);
}

TEST_F(PageOutTest, ATailLeavesAndTheFrontStays) {
  warm();
  const std::string second = write_weights(directory_ / "weights2", kBytes);
  const auto report = page_out_tail({file_, second}, kBytes - 1);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_TRUE(is_all(report->before_bytes, 2 * kBytes));
  EXPECT_EQ(resident_bytes_of(second), 0U);
  EXPECT_TRUE(is_all(resident_bytes_of(file_), 8ULL << 20)) << "the last step, which is a part of one";
  EXPECT_TRUE(is_all(report->after_bytes, 8ULL << 20));
  EXPECT_EQ(report->why_left, "");
  ASSERT_TRUE(page_out_tail({file_, second}, (6ULL << 20) - 1).ok());
  EXPECT_EQ(resident_bytes_of(file_, ResidencyCall::mincore), 4ULL << 20);
  const Fd fd(::open(file_.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(resident_bytes(fd.get(), 0, 4ULL << 20), 4ULL << 20);
  ASSERT_TRUE(page_out_tail({file_, second}, 0).ok());
  EXPECT_EQ(resident_bytes_of(file_), 0U);
}

TEST_F(PageOutTest, ATailThatSomebodyMapsStays) {
  MapperProcess mapper(file_);
  ASSERT_TRUE(mapper.mapped());
  const auto report = page_out_tail({file_}, 0);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->freed_bytes(), 0U);
  EXPECT_EQ(report->running, std::vector<pid_t>{mapper.pid()});
  EXPECT_NE(report->why_left.find(std::to_string(mapper.pid())), std::string::npos) << report->why_left;
  EXPECT_TRUE(is_all(resident_bytes_of(file_), kBytes));
  mapper.end();
  EXPECT_GE(page_out_tail({file_}, 0)->freed_bytes(), 1U);
}

TEST_F(PageOutTest, WhatRunningEnginesHaveReadLeavesUnlessOthersMapIt) {
  const MapperProcess engine(file_);
  ASSERT_TRUE(engine.mapped());
  {
    const MapperProcess other(file_);
    ASSERT_TRUE(other.mapped());
    const auto report = page_out_read({file_}, 1);
    ASSERT_TRUE(report.ok());
    EXPECT_EQ(report->freed_bytes(), 0U);
    EXPECT_EQ(report->running.size(), 2U);
    EXPECT_NE(report->why_left, "");
  }
  const auto report = page_out_read({file_}, 1);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->after_bytes, 0U) << report->why_left;
  EXPECT_EQ(resident_bytes_of(file_), 0U);
}

TEST_F(PageOutTest, WhatIsNoFileIsRefused) {
  const auto report = page_out({directory_ / ""});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, base::ErrorKind::invalid);
}

TEST_F(PageOutTest, MappersAreFoundByTheFileAndNotByItsName) {
  EXPECT_TRUE(find_mappers({file_}).empty());
  const std::string alias = directory_ / "alias";
  std::filesystem::create_hard_link(file_, alias);
  const MapperProcess mapper(alias);
  ASSERT_TRUE(mapper.mapped());
  const std::vector<Mapper> mappers = find_mappers({directory_ / "absent", file_});
  ASSERT_EQ(mappers.size(), 1U);
  EXPECT_EQ(mappers.front().pid, mapper.pid());
  ASSERT_EQ(mappers.front().mappings.size(), 1U);
  EXPECT_GE(mappers.front().mappings.front().bytes, kBytes);
}

}  // namespace
}  // namespace thaw::node::test
