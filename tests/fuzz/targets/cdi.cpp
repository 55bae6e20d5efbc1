#include <cstdint>

#include "fuzz/check.h"
#include "node/cdi/cdi_spec.h"

/// CDI files. What is accepted has names, absolute paths and variables with values.
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
  return 0;
}
