#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/oci/layer_store.h"
#include "node/oci/oci_tools.h"

namespace thaw::node {

/// An image that is whole on this node.
struct StoredImage {
  std::string digest;  ///< of the manifest or index that its name led to
  std::string name;    ///< as the spec had it
  OciConfig config;
  std::int64_t fetched_unix_ms = 0;
};

/// How far a fetch is; any thread may look.
struct FetchProgress {
  enum class Step { asking, fetching, unpacking };
  Step step = Step::asking;
  std::uint64_t total_bytes = 0, done_bytes = 0;
};

/// Brings one image into the layer store:
///
///     manifest (is its digest the one that is pinned?) → this machine's, where it is an index → config (digest) → bounds, budget, room on the disk
///       → skopeo copies → each layer that is not there: read through (digest of the plain file, bounds), umoci unpacks, in its place by one rename
///
/// Everything hangs on the pinned digest by digests that are computed here: skopeo and umoci are not believed.
class ImageFetch {
 public:
  struct Surroundings {
    const OciTools& tools;
    LayerStore& layers;
    std::mutex& unpacking;  ///< one at a time: the store's
    const spec::ServerConfig::Node::ContainerImages& settings;
    std::string work;  ///< directory of this image's, with tmp/ and layout/ of the tools' user; what is whole stays there after a failure
    std::function<std::uint64_t()> used_bytes;  ///< of the whole store
    std::function<void(const FetchProgress&)> progress;
    std::stop_token stop;
  };

  /// Digest of the manifest (or index) that `ref` leads to now.
  static base::Result<std::string> resolve(const OciTools& tools, const spec::ImageRef& ref, const std::string& work, const std::stop_token& stop);

  explicit ImageFetch(Surroundings surroundings) : in_(std::move(surroundings)) {}
  /// Blocking. Errors: conflict when the source has another image by now; exhausted for bounds, budget and disk; those of its tools.
  base::Result<OciConfig> run(const spec::ImageRef& ref, const std::string& digest);

 private:
  struct Plan {
    std::string manifest_digest;          ///< this machine's
    std::optional<OciManifest> manifest;  ///< known before the copy; not of an index in a local file
    OciConfig config;
  };
  base::Result<Plan> plan(const spec::ImageRef& ref, const std::string& digest);
  base::Status check_room(std::uint64_t bytes) const;
  [[nodiscard]] base::Status check_disk(std::uint64_t bytes) const;
  base::Status watch(std::uint64_t total_bytes) const;
  base::Result<OciManifest> copied_manifest(const std::string& layout, const Plan& plan) const;
  base::Status add_layer(const std::string& layout, const OciBlob& layer, const std::string& diff_id, std::uint64_t& left_bytes);

  Surroundings in_;
};

}  // namespace thaw::node
