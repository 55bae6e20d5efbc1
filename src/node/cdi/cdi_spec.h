#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// The problem: what a container needs to use a device (its files, its driver's libraries, a variable or two) is the vendor's to know and the
/// operator's to allow. The Container Device Interface is how both say it: files in /etc/cdi and /var/run/cdi, written by the vendor's tool
/// (`nvidia-ctk cdi generate`), read here. Format: https://github.com/cncf-tags/container-device-interface, SPEC.md, versions 0.3.0 to 1.1.0.
namespace thaw::node {

/// A device file. What is absent is as the host's file has it.
struct CdiDeviceNode {
  std::string path;       ///< inside
  std::string host_path;  ///< empty: as `path`
  std::string type;       ///< "b", "c" or "u" (character), "p" (FIFO); empty: the host's
  std::optional<std::int64_t> major;
  std::optional<std::int64_t> minor;
  std::optional<std::uint32_t> file_mode;
  std::string permissions;  ///< of "rwm"; empty: all three
};

struct CdiMount {
  std::string host_path;
  std::string container_path;
  std::string type;  ///< empty: "bind"
  std::vector<std::string> options;
};

struct CdiHook {
  std::string name;  ///< of the OCI hooks: "createContainer"
  std::string path;
  std::vector<std::string> args;  ///< argv, args[0] included
  std::vector<std::string> env;
  std::optional<std::uint32_t> timeout_s;
};

/// What is changed in a container's declaration.
struct CdiEdits {
  std::vector<std::string> env;  ///< "NAME=value"
  std::vector<CdiDeviceNode> device_nodes;
  std::vector<CdiMount> mounts;
  std::vector<CdiHook> hooks;
  std::vector<std::uint32_t> additional_gids;

  /// These after those: the order in which they are applied.
  void append(const CdiEdits& others);
};

struct CdiDevice {
  std::string name;  ///< "0", "GPU-4cf8db2d-…", "all"
  CdiEdits edits;
};

/// One file.
struct CdiSpec {
  std::string version;  ///< "0.6.0"
  std::string kind;     ///< "nvidia.com/gpu"
  std::vector<CdiDevice> devices;
  CdiEdits edits;  ///< of any device of the file
};

/// Reads JSON and YAML (JSON is YAML here), with the bounds of spec/yaml.h. Unknown keys are refused, as the format wants it: what is not understood
/// cannot be applied. Refused too, with a reason: Intel RDT and network devices, which sandboxes have none of. Errors name file, line and key.
base::Result<CdiSpec> parse_cdi(std::string_view text, const std::string& file);

}  // namespace thaw::node
