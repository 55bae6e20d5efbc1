#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

/// What an image is: the state of a sandbox whose engine is initialised and has served nobody, in files, and everything
/// outside those files that it was made with. A process that wakes in another world than it fell asleep in (other
/// weights, other libraries, a CPU without an instruction that it found before) crashes or answers wrongly, so each of
/// them must be the same again.
namespace thaw::node {

/// A file of the host, told from another version of itself by its size and time.
struct FileIdentity {
  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t mtime_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

/// Fails with io when it is not there.
base::Result<FileIdentity> identity_of(const std::string& path);

struct Origin {
  std::string runtime;        ///< "runsc 0.0~20221219.0 ptrace 2", "criu 4.2.1 runc 1.1.5 Linux 6.1.0-30 1"
  std::string cpu;            ///< vendor and features, sorted
  std::string engine;         ///< its directory on the host
  std::string engine_digest;  ///< SHA-256 over the identities of its files and of the host's library cache
  std::vector<FileIdentity> model_files;
  std::vector<std::string> argv;  ///< as planned; Manifest::extra_args come after
  std::map<std::string, std::string> env;
};

/// What is not the same any more, for people ("the model file /m.gguf has changed"); empty when all is.
std::string difference(const Origin& then, const Origin& now);

/// Vendor and features of this machine's CPUs, from /proc/cpuinfo.
base::Result<std::string> cpu_features(const std::string& cpuinfo = "/proc/cpuinfo");
/// Of everything that an engine in `directory` loads code from.
base::Result<std::string> engine_digest(const std::string& directory);

struct ImageFile {
  std::string name;  ///< in the image's directory
  std::uint64_t bytes = 0;
  std::string sha256;  ///< hex
};

/// manifest.json of an image's directory.
struct Manifest {
  static constexpr std::uint64_t kFormat = 1;

  base::ImageId image;
  base::ModelName model;
  std::string driver;  ///< "runsc", "criu"
  std::uint64_t created_unix_s = 0;
  std::uint64_t device_bytes = 0;  ///< of the device, for a replica restored from it
  base::Duration start_took{};     ///< what a start took when the image was made
  Origin origin;
  std::vector<std::string> extra_args;  ///< the engine's arguments that this image adds to the planned ones
  std::string choice;                   ///< for people: how they were chosen
  std::vector<ImageFile> files;

  [[nodiscard]] std::uint64_t bytes() const;  ///< of all files together
};

std::string to_json(const Manifest& manifest);
/// Strict: fails with invalid, naming the field, for another format version too.
base::Result<Manifest> parse_manifest(std::string_view json);

}  // namespace thaw::node
