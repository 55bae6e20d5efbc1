#include "node/sandbox/bundle.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "node/sandbox/files.h"
#include "node/sandbox/host_view.h"
#include "node/sandbox/seccomp.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

constexpr const char* kTmpSize = "size=64m";      // also counted against the sandbox's memory limit
constexpr const char* kShmSize = "size=1g";       // CUDA and NCCL use it; counted against the limit too
constexpr const char* kTmpFiles = "nr_inodes=65536";
constexpr rlim_t kOpenFiles = 65'536;
constexpr int kOomScoreAdj = 500;  // when the host itself runs out, an engine goes before the server does

json::object mount_entry(const std::string& destination, const std::string& type, const std::string& source,
                         json::array options) {
  return {{"destination", destination}, {"type", type}, {"source", source}, {"options", std::move(options)}};
}

/// A bind mount. Every flag that the source's file system may carry is asked for: inside a user namespace a flag cannot
/// be dropped again, and runc's remount without it would be refused.
json::object bind_mount(const std::string& source, const std::string& destination, bool writable, bool executable) {
  json::array options{"rbind", "rprivate", "nosuid", "nodev", writable ? "rw" : "ro"};
  if (!executable) options.emplace_back("noexec");
  return mount_entry(destination, "bind", source, std::move(options));
}

json::array mounts(const Bundle& bundle) {
  json::array out;
  out.push_back(mount_entry("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  out.push_back(mount_entry("/dev", "tmpfs", "tmpfs", {"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}));
  json::array shared{"nosuid", "noexec", "nodev", "mode=1777", kShmSize};
  json::array temporary{"nosuid", "noexec", "nodev", "mode=1777", kTmpSize};
  // gVisor's releases know no bound on files; there they are memory of the sandbox's own.
  if (!bundle.init_path.empty())
    for (json::array* options : {&shared, &temporary}) options->emplace_back(kTmpFiles);
  out.push_back(mount_entry("/dev/shm", "tmpfs", "shm", std::move(shared)));
  out.push_back(mount_entry("/tmp", "tmpfs", "tmpfs", std::move(temporary)));
  for (const HostPath& shown : host_view())
    if (shown.kind != HostPath::Kind::link && (!bundle.own_files || is_of_kernel(shown)))
      out.push_back(bind_mount(shown.path, shown.path, false, shown.path.find("/etc") != 0));
  if (!bundle.init_path.empty()) out.push_back(bind_mount(bundle.init_path, kInsideInit, false, true));
  // It is for the host's own C library.
  if (!bundle.lazy_map_path.empty() && !bundle.own_files) out.push_back(bind_mount(bundle.lazy_map_path, kInsideLazyMap, false, true));
  if (!bundle.run_dir.empty()) out.push_back(bind_mount(bundle.run_dir, kInsideRun, true, false));
  if (!bundle.model_dir.empty()) out.push_back(bind_mount(bundle.model_dir, kInsideModel, false, false));
  if (!bundle.open_dir.empty())
    out.push_back(mount_entry(kInsideRoot, "bind", bundle.open_dir, {"rbind", "rslave", "nosuid", "nodev", "ro"}));
  for (const auto* exposures : {&bundle.exposures, &bundle.devices.mounts})
    for (const Exposure& exposure : *exposures)
      out.push_back(bind_mount(exposure.host_path, exposure.inside_path, exposure.writable, exposure.executable));
  return out;
}

/// A sandbox's root cannot raise what the host holds this process to.
rlim_t open_files() {
  struct rlimit own {};
  return ::getrlimit(RLIMIT_NOFILE, &own) == 0 ? std::min<rlim_t>(own.rlim_max, kOpenFiles) : kOpenFiles;
}

json::object process(const Bundle& bundle) {
  json::array argv{kInsideInit};
  json::array env{"PATH=/usr/bin:/bin"};
  if (bundle.init_path.empty()) {
    argv = json::array(bundle.argv.begin(), bundle.argv.end());
    env.clear();
    for (const auto& [name, value] : bundle.env) env.emplace_back(name + "=" + value);
  }
  const json::array none;
  const auto limit = [](const char* type, rlim_t value) {
    return json::object{{"type", type}, {"hard", value}, {"soft", value}};
  };
  return {{"terminal", false},
          {"user", json::object{{"uid", kInsideUid}, {"gid", kInsideUid}, {"umask", 077}}},
          {"args", std::move(argv)},
          {"env", std::move(env)},
          {"cwd", bundle.working_directory},
          {"capabilities",
           json::object{
               {"bounding", none}, {"effective", none}, {"inheritable", none}, {"permitted", none}, {"ambient", none}}},
          {"rlimits", json::array{limit("RLIMIT_NOFILE", open_files()), limit("RLIMIT_CORE", 0)}},
          {"noNewPrivileges", true},
          {"oomScoreAdj", kOomScoreAdj}};
}

/// A device file inside a user namespace is the host's, bound: runc binds it from its own path, so that one to be shown
/// at another is bound here.
void add_devices(const Bundle& bundle, json::array& nodes, json::array& rules, json::array& mounts) {
  rules.push_back(json::object{{"allow", false}, {"access", "rwm"}});
  for (const GrantedNode& node : bundle.devices.nodes) {
    const char* type = node.block ? "b" : "c";
    if (node.host_path == node.inside_path)
      nodes.push_back(json::object{{"path", node.inside_path},
                                   {"type", type},
                                   {"major", node.major},
                                   {"minor", node.minor},
                                   {"fileMode", 0666}});
    else
      mounts.push_back(
          mount_entry(node.inside_path, "bind", node.host_path, {"bind", "rprivate", "nosuid", "noexec", "rw"}));
    rules.push_back(json::object{
        {"allow", true}, {"type", type}, {"major", node.major}, {"minor", node.minor}, {"access", node.access}});
  }
}

/// Of the operator's own CDI files: the OCI runtime runs them as root.
json::object hooks(const Bundle& bundle) {
  json::object all;
  for (const CdiHook& hook : bundle.devices.hooks) {
    json::object entry{{"path", hook.path}};
    if (!hook.args.empty()) entry["args"] = json::array(hook.args.begin(), hook.args.end());
    if (!hook.env.empty()) entry["env"] = json::array(hook.env.begin(), hook.env.end());
    if (hook.timeout_s) entry["timeout"] = *hook.timeout_s;
    json::value& of_name = all[hook.name];
    if (of_name.is_null()) of_name = json::array();
    of_name.as_array().push_back(std::move(entry));
  }
  return all;
}

json::object namespaces_and_masks(const Bundle& bundle) {
  json::array namespaces;
  for (const char* type : {"user", "mount", "pid", "network", "ipc", "uts", "cgroup"}) {
    json::object entry{{"type", type}};
    if (type == std::string_view("network") && !bundle.network.empty()) entry["path"] = bundle.network;
    namespaces.push_back(std::move(entry));
  }
  const json::array map{json::object{{"containerID", 0}, {"hostID", bundle.uid_base}, {"size", kUidRange}}};
  return {{"namespaces", std::move(namespaces)},
          {"uidMappings", map},
          {"gidMappings", map},
          {"cgroupsPath", bundle.cgroup_path},
          {"rootfsPropagation", "private"},
          {"maskedPaths", json::array{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                                      "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                                      "/proc/timer_stats"}},
          {"readonlyPaths", json::array{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}}};
}

}  // namespace

base::Status write_bundle(const Bundle& bundle) {
  json::array devices;
  json::array device_rules;
  json::array shown = mounts(bundle);
  add_devices(bundle, devices, device_rules, shown);
  json::object isolation = namespaces_and_masks(bundle);
  isolation["devices"] = std::move(devices);
  isolation["resources"] =
      json::object{{"devices", std::move(device_rules)}, {"pids", json::object{{"limit", bundle.pids_max}}}};
  json::object annotations;
  if (!bundle.criu_config.empty()) annotations["org.criu.config"] = bundle.criu_config;
  isolation["seccomp"] =
      seccomp_profile({.own_kernel = bundle.init_path.empty(), .report_socket = bundle.report_socket});
  json::object config{
      {"ociVersion", "1.0.2"},        {"annotations", std::move(annotations)},
      {"process", process(bundle)},   {"root", json::object{{"path", bundle.rootfs}, {"readonly", true}}},
      {"hostname", "thaw"},           {"mounts", std::move(shown)},
      {"linux", std::move(isolation)}};
  if (!bundle.devices.hooks.empty()) config["hooks"] = hooks(bundle);
  return write_file(bundle.directory + "/config.json", json::serialize(config), 0600);
}

}  // namespace thaw::node
