#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "node/sandbox/seccomp.h"
#include "node/sandbox/seccomp_calls.h"

namespace thaw::node {
namespace {

std::multiset<std::string> all_lists() {
  std::multiset<std::string> names;
  for (const auto list : {allowed_calls(), conditional_calls(), refused_calls(), fatal_calls()}) names.insert(list.begin(), list.end());
  return names;
}

/// Of a profile: what rules of a call do, in order.
std::multimap<std::string, std::string> actions(const boost::json::value& profile) {
  std::multimap<std::string, std::string> found;
  for (const auto& rule : profile.at("syscalls").as_array())
    for (const auto& name : rule.at("names").as_array()) found.emplace(name.as_string().c_str(), rule.at("action").as_string().c_str());
  return found;
}

TEST(Seccomp, EveryCallStandsInOneList) {
  const std::multiset<std::string> names = all_lists();
  for (const std::string& name : names) EXPECT_EQ(names.count(name), 1U) << name;
}

// A call that is new in the kernel is refused; somebody has to see that it is there and say whether it should be.
TEST(Seccomp, EveryCallOfThisKernelsHeadersIsSorted) {
  std::ifstream header("/usr/include/x86_64-linux-gnu/asm/unistd_64.h");
  if (!header) GTEST_SKIP() << "no list of calls here";
  const std::multiset<std::string> names = all_lists();
  const std::regex define("#define __NR_([a-z0-9_]+) .*");
  std::size_t seen = 0;
  for (std::string line; std::getline(header, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, define)) continue;
    ++seen;
    EXPECT_EQ(names.count(match[1]), 1U) << match[1];
  }
  EXPECT_GT(seen, 300U);
}

TEST(Seccomp, RefusesByDefaultAndEndsWhoAsksForTheWorst) {
  const auto profile = seccomp_profile({});
  EXPECT_EQ(profile.at("defaultAction"), "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile.at("defaultErrnoRet"), 1);
  const auto found = actions(profile);
  for (const char* name : {"ptrace", "mount", "unshare", "setns", "bpf", "io_uring_setup", "keyctl", "userfaultfd", "open_by_handle_at", "process_vm_readv"})
    EXPECT_EQ(found.count(name), 0U) << name << ": by default";
  EXPECT_EQ(found.find("init_module")->second, "SCMP_ACT_KILL_PROCESS");
  EXPECT_EQ(found.find("kexec_load")->second, "SCMP_ACT_KILL_PROCESS");
  EXPECT_EQ(found.find("mmap")->second, "SCMP_ACT_ALLOW");
  EXPECT_EQ(found.find("clone3")->second, "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile.as_object().count("listenerPath"), 0U);
}

TEST(Seccomp, SocketsAreOfFourFamilies) {
  std::set<std::uint64_t> families;
  const auto profile = seccomp_profile({});
  for (const auto& rule : profile.at("syscalls").as_array())
    if (rule.at("names").as_array()[0] == "socket") families.insert(rule.at("args").as_array()[0].at("value").to_number<std::uint64_t>());
  EXPECT_EQ(families, (std::set<std::uint64_t>{1, 2, 10, 16}));
}

TEST(Seccomp, GvisorKeepsItsOwnCloneAndKillsNobody) {
  const auto found = actions(seccomp_profile({.own_kernel = true}));
  EXPECT_EQ(found.find("clone3")->second, "SCMP_ACT_ALLOW");
  for (const auto& [name, action] : found) EXPECT_NE(action, "SCMP_ACT_KILL_PROCESS") << name;
}

TEST(Seccomp, ReportsWhatItRefuses) {
  const auto profile = seccomp_profile({.report_socket = "/run/x.sock"});
  EXPECT_EQ(profile.at("listenerPath"), "/run/x.sock");
  const auto found = actions(profile);
  EXPECT_EQ(found.find("ptrace")->second, "SCMP_ACT_NOTIFY");
  EXPECT_EQ(found.find("init_module")->second, "SCMP_ACT_KILL_PROCESS");
  EXPECT_EQ(found.count("write"), 1U) << "runc cannot hand the descriptor over if writing is to be reported";
  std::size_t clones = 0;
  for (auto [at, end] = found.equal_range("clone"); at != end; ++at) if (at->second == "SCMP_ACT_NOTIFY") ++clones;
  EXPECT_EQ(clones, 7U) << "one for each kind of namespace";
}

}  // namespace
}  // namespace thaw::node
