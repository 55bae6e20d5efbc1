#pragma once

#include <map>
#include <string>
#include <vector>

#include "node/cdi/cdi_spec.h"

namespace thaw::node {

/// Directories in the order of their precedence, the last one first asked: what is made at run time goes before what was written by hand.
inline const std::vector<std::string> kCdiDirectories{"/etc/cdi", "/var/run/cdi"};

/// The devices that the operator's CDI files declare, as they were when load() read them. A value; any thread.
class CdiRegistry {
 public:
  static constexpr std::size_t kMaxFiles = 256;  ///< of one directory; more are left out, and problems() says so

  /// Reads *.json, *.yaml and *.yml. Directories that are not there hold nothing. Files that anybody but root and this process's user could have
  /// written are refused: what they declare is mounted into sandboxes by root. A bad file spoils nothing but itself. Blocking.
  static CdiRegistry load(const std::vector<std::string>& directories = kCdiDirectories);

  /// True when a file that could be read declares devices of this kind ("nvidia.com/gpu").
  [[nodiscard]] bool has_kind(const std::string& kind) const;
  /// Names of this kind's devices, sorted.
  [[nodiscard]] std::vector<std::string> devices(const std::string& kind) const;

  /// The edits for devices by their full names ("nvidia.com/gpu=0"): of each file once what it says of all, then of the device; in the order asked
  /// for. Fails with not_found, naming the devices that there are and the files that could not be read, and with conflict when two files of one
  /// directory declare the device.
  [[nodiscard]] base::Result<CdiEdits> edits_for(const std::vector<std::string>& names) const;

  /// Why files were not used, a line each.
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

 private:
  struct Found {
    std::size_t spec = 0;     ///< in specs_
    std::size_t device = 0;   ///< in its devices
    std::size_t level = 0;    ///< of its directory
    std::string other;        ///< a second file of the same directory that declares it; empty: none
  };
  void read_directory(const std::string& directory, std::size_t level);
  void read_file(const std::string& path, std::size_t level);

  std::vector<CdiSpec> specs_;
  std::vector<std::string> files_;  ///< of each
  std::map<std::string, Found> by_name_;
  std::vector<std::string> problems_;
};

}  // namespace thaw::node
