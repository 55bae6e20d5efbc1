#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "node/cdi/registry.h"
#include "node/device/grants.h"
#include "node/doctor_parts.h"
#include "node/sandbox/files.h"
#include "node/sandbox/runsc_info.h"

/// `thaw doctor --security`: what on this host makes the walls of docs/security.md thinner than they could be.
namespace thaw::node {
namespace {

std::string line_of(const std::string& path) {
  auto text = read_small_file(path);
  if (!text.ok()) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

Finding examine_tenants(const AgentConfig& config) {
  if (config.settings.sandbox == spec::SandboxKind::none)
    return {"sandbox", Level::failure, "sandboxes are switched off: engines see and do what the server's user may", "start without --sandbox=none"};
  const auto runsc = find_runsc();
  if (config.settings.tenant_sandbox == spec::SandboxKind::runc)
    return {"sandbox", Level::warning, "tenants' models run under runc: one hole in the host's kernel is a way out of it",
            "node.tenantSandbox: runsc, unless all tenants are trusted"};
  if (!runsc.ok()) return {"sandbox", Level::warning, "tenants' models are to run under gVisor, and runsc is not installed: they will be refused", "apt-get install runsc"};
  return {"sandbox", Level::ok, fmt::format("the operator's models run under {}, tenants' under gVisor", to_string(config.settings.sandbox)), ""};
}

/// A directory that only root should enter.
Finding examine_mode(const char* topic, const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {topic, Level::ok, path + " is not there yet", ""};
  const unsigned mode = info.st_mode & 07777U;
  if ((mode & 077U) == 0) return {topic, Level::ok, fmt::format("{} has mode {:o}", path, mode), ""};
  return {topic, Level::warning, fmt::format("{} has mode {:o}: others may enter it", path, mode), fmt::format("chmod 700 {}", path)};
}

Finding examine_cdi(const AgentConfig& config) {
  const CdiRegistry registry = CdiRegistry::load(config.settings.cdi_directories);
  std::string names;
  for (const std::string& device : registry.devices(kNvidiaKind)) names += " " + device;
  if (!registry.problems().empty())
    return {"cdi", Level::warning, "a CDI file is not used: " + registry.problems().front(), "write it anew, as root: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"};
  if (!names.empty()) return {"cdi", Level::ok, std::string(kNvidiaKind) + ":" + names, ""};
  if (config.settings.cdi_required)
    return {"cdi", Level::warning, "node.cdi is required, and no CDI file declares a GPU", "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"};
  return {"cdi", Level::ok, "no CDI files for GPUs: engines get the driver's own files of their device; container images on GPUs need them (nvidia-ctk cdi generate)", ""};
}

Finding examine_processor() {
  std::string open;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/cpu/vulnerabilities", error))
    if (line_of(entry.path()).starts_with("Vulnerable")) open += (open.empty() ? "" : ", ") + entry.path().filename().string();
  const bool smt = line_of("/sys/devices/system/cpu/smt/active") == "1";
  if (!open.empty())
    return {"processor", Level::warning, "the kernel does not close: " + open, "update microcode and kernel; or give tenants machines of their own"};
  if (smt) return {"processor", Level::note, "SMT is on: tenants that run at the same time share cores", "switch it off (nosmt), or give tenants machines of their own, where that matters"};
  return {"processor", Level::ok, "no open vulnerability that the kernel knows of", ""};
}

Finding examine_hardening() {
  std::string loose;
  const auto want = [&](const char* name, const char* path, std::string_view least) {
    const std::string value = line_of(path);
    if (!value.empty() && value < least) loose += fmt::format("{}{}={}", loose.empty() ? "" : ", ", name, value);
  };
  want("kernel.kptr_restrict", "/proc/sys/kernel/kptr_restrict", "1");
  want("kernel.dmesg_restrict", "/proc/sys/kernel/dmesg_restrict", "1");
  want("kernel.unprivileged_bpf_disabled", "/proc/sys/kernel/unprivileged_bpf_disabled", "1");
  if (loose.empty()) return {"kernel settings", Level::ok, "the kernel's addresses, log and BPF are root's", ""};
  return {"kernel settings", Level::note, loose + ": open to all users; engines are refused them by their filter", "sysctl -w each to 1"};
}

/// The answer to an impossible question tells whether the kernel knows the flag.
Finding examine_reports() {
  const unsigned action = SECCOMP_RET_USER_NOTIF;
  if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return {"refusals", Level::ok, "can be told (node.seccomp: report)", ""};
  return {"refusals", Level::note, "cannot be told: this kernel has no SECCOMP_RET_USER_NOTIF", "Linux 5.0 or later, for node.seccomp: report"};
}

}  // namespace

std::vector<Finding> examine_security(const AgentConfig& config) {
  return {examine_tenants(config),
          examine_seccomp(config),
          examine_reports(),
          examine_mode("secrets", config.settings.secrets_dir),
          examine_cdi(config),
          examine_processor(),
          examine_hardening()};
}

}  // namespace thaw::node
