/// A sandbox is made beside engines that have nearly all of the processors: it may not wait for them
/// (cpu/turns_plan.h).
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "node/host_access.h"
#include "node/sandbox/files.h"
#include "node/sandbox/runc.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

TEST(SandboxPrompt, CountsAsMuchAsWhoeverComesFirstUntilItIsMade) {
  if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
  ASSERT_TRUE(adopt_orphans().ok());
  const TempDir directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0755));
  SandboxHome home;
  home.directory = directory.path();
  home.label = "test-" + label_of(directory.path());
  home.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
  home.uid_base = 524'288;
  const auto cgroups = CgroupHost::detect();
  ASSERT_TRUE(cgroups.ok()) << cgroups.error().message;
  home.cgroups = *cgroups;

  // runc, but for what the group's weight is when it begins.
  const std::string weight_file = (*cgroups)->mount_of("cpu") + (*cgroups)->parent_path(home.label) + "/b1/" +
                                  ((*cgroups)->unified() ? "cpu.weight" : "cpu.shares");
  const std::string seen = directory.path() + "/seen", fake = directory.path() + "/recording-runc";
  const auto runc = find_runc();
  ASSERT_TRUE(runc.ok()) << runc.error().message;
  const std::string script = fmt::format(
      "#!/bin/sh\ncase \" $* \" in *' run '*) cat '{}' > '{}';; esac\nexec '{}' \"$@\"\n", weight_file, seen, *runc);
  ASSERT_TRUE(write_file(fake, script, 0755).ok());
  auto maker = RuncMaker::open(home, fake);
  ASSERT_TRUE(maker.ok()) << maker.error().message;
  auto made = (*maker)->make(base::InstanceId(1), {});
  ASSERT_TRUE(made.ok()) << made.error().message;
  const auto before = read_small_file(seen), after = read_small_file(weight_file);
  ASSERT_TRUE(before.ok()) << before.error().message;
  ASSERT_TRUE(after.ok()) << after.error().message;
  EXPECT_EQ(std::stoul(*before), 100 * std::stoul(*after));
  made->reset();
  home.cgroups->remove_parent(home.label);
}

}  // namespace
}  // namespace thaw::node::test
