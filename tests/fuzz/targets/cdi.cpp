#include <cstdint>

#include "fuzz/check.h"
#include "node/cdi/cdi_spec.h"
#include "node/cdi/library_hooks.h"

/// CDI files. What is accepted has names, absolute paths and variables with values; and what is made of NVIDIA's hooks leads nowhere else.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = thaw::node::parse_cdi({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!parsed.ok()) {
    FUZZ_CHECK(!parsed.error().message.empty());
    return 0;
  }
  FUZZ_CHECK(parsed->kind.find('/') != std::string::npos);
  thaw::node::CdiEdits all = parsed->edits;
  for (const auto& device : parsed->devices) {
    FUZZ_CHECK(!device.name.empty());
    all.append(device.edits);
  }
  for (const auto& node : all.device_nodes) FUZZ_CHECK(node.path.starts_with("/") && (node.host_path.empty() || node.host_path.starts_with("/")));
  for (const auto& mount : all.mounts) FUZZ_CHECK(mount.host_path.starts_with("/") && mount.container_path.starts_with("/"));
  for (const auto& hook : all.hooks) FUZZ_CHECK(hook.path.starts_with("/") && !hook.name.empty());
  for (const auto& variable : all.env) FUZZ_CHECK(variable.find('=') != std::string::npos && variable.front() != '=');
  const auto hooks = thaw::node::read_library_hooks(all.hooks);
  if (!hooks.ok()) return 0;
  for (const auto& link : hooks->links) {
    FUZZ_CHECK(link.path.starts_with("/") && link.path.size() > 1 && !link.target.empty());
    FUZZ_CHECK((link.path + "/").find("/../") == std::string::npos);
  }
  for (const auto& folder : hooks->folders) FUZZ_CHECK(folder.starts_with("/") && folder.find(':') == std::string::npos);
  return 0;
}
