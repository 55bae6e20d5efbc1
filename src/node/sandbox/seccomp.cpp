#include "node/sandbox/seccomp.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "node/sandbox/seccomp_calls.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

constexpr const char* kAllow = "SCMP_ACT_ALLOW";
constexpr const char* kRefuse = "SCMP_ACT_ERRNO";
constexpr const char* kReport = "SCMP_ACT_NOTIFY";
constexpr const char* kKill = "SCMP_ACT_KILL_PROCESS";

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h): a namespace of its own would give an engine capabilities.
constexpr std::array<std::uint64_t, 7> kNamespaceFlags{0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000};
constexpr std::uint64_t kAnyNamespace = 0x7E020000;
// Linux, Linux with 32-bit addresses in uname, and the question what it is. The others weaken the randomisation of addresses, or let data be executed.
constexpr std::array<std::uint64_t, 5> kPersonalities{0x0, 0x0008, 0x20000, 0x20008, 0xffffffff};
// Not AF_PACKET, not AF_ALG (the kernel's ciphers), nor AF_VSOCK, which reaches a hypervisor past the network namespace.
constexpr std::array<std::uint64_t, 3> kFamilies{AF_UNIX, AF_INET, AF_INET6};

json::object argument(unsigned index, std::uint64_t value, const char* op, std::uint64_t value_two = 0) {
  return {{"index", index}, {"value", value}, {"valueTwo", value_two}, {"op", op}};
}

json::object rule(json::array names, const char* action, json::array args = {}) {
  json::object out{{"names", std::move(names)}, {"action", action}};
  if (!args.empty()) out["args"] = std::move(args);
  return out;
}

json::array names(std::span<const char* const> calls) { return json::array(calls.begin(), calls.end()); }

void add_conditional(json::array& rules, bool own_kernel) {
  for (const std::uint64_t family : kFamilies) rules.push_back(rule({"socket"}, kAllow, {argument(0, family, "SCMP_CMP_EQ")}));
  // getifaddrs(3) asks the kernel's routes; the other netlink protocols are other parts of the kernel.
  rules.push_back(rule({"socket"}, kAllow, {argument(0, AF_NETLINK, "SCMP_CMP_EQ"), argument(2, NETLINK_ROUTE, "SCMP_CMP_EQ")}));
  rules.push_back(rule({"clone"}, kAllow, {argument(0, kAnyNamespace, "SCMP_CMP_MASKED_EQ", 0)}));
  for (const std::uint64_t persona : kPersonalities) rules.push_back(rule({"personality"}, kAllow, {argument(0, persona, "SCMP_CMP_EQ")}));
  json::object clone3 = rule({"clone3"}, own_kernel ? kAllow : kRefuse);
  if (!own_kernel) clone3["errnoRet"] = ENOSYS;
  rules.push_back(std::move(clone3));
}

/// What would be refused silently. An unlisted call's name is known to nobody, and a condition's opposite can be named only for clone.
void add_reports(json::array& rules) {
  rules.push_back(rule(names(refused_calls()), kReport));
  for (const std::uint64_t flag : kNamespaceFlags) rules.push_back(rule({"clone"}, kReport, {argument(0, flag, "SCMP_CMP_MASKED_EQ", flag)}));
}

}  // namespace

json::value seccomp_profile(const SeccompOptions& options) {
  json::array rules;
  rules.push_back(rule(names(allowed_calls()), kAllow));
  add_conditional(rules, options.own_kernel);
  if (!options.own_kernel) rules.push_back(rule(names(fatal_calls()), kKill));
  if (!options.report_socket.empty()) add_reports(rules);

#if defined(__x86_64__)
  const char* architecture = "SCMP_ARCH_X86_64";
#elif defined(__aarch64__)
  const char* architecture = "SCMP_ARCH_AARCH64";
#else
#error "name this architecture as libseccomp does"
#endif
  json::object profile{{"defaultAction", kRefuse},
                       {"defaultErrnoRet", EPERM},
                       {"architectures", json::array{architecture}},
                       {"syscalls", std::move(rules)}};
  if (!options.report_socket.empty()) profile["listenerPath"] = options.report_socket;
  return profile;
}

}  // namespace thaw::node
