#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/garbage.h"
#include "node/oci/image_fetch.h"
#include "node/sandbox/home.h"
#include "spec/model_spec.h"

namespace thaw::node {

/// What an engine's root is made of.
struct ImageRoot {
  std::string digest;
  std::vector<std::string> layers;  ///< host directories for an overlay, the topmost first, none twice
  OciConfig config;
};

/// The container images of one node: fetched and unpacked in the background, shared read-only by all sandboxes (docs/images.md).
///
///     want() ──> waiting ──> fetching ──> unpacking ──> ready
///                   ^            └───────────┴──> failed ── what passes: again, later and later
///
/// In <data directory>/oci: layers/ and unpacking/ (layer_store.h), images/<digest>.json, work/<digest>/, policy.json. After a kill -9 a fetch goes
/// on with the layers that had come whole. Threads: kWorkers that fetch; all calls from any thread. The destructor breaks fetches off.
class ContainerImages {
 public:
  static constexpr std::size_t kMaxImages = 1'000;  ///< that are wanted or here
  static constexpr unsigned kWorkers = 2;
  static constexpr base::Duration kFirstRetry = base::Seconds(15);
  static constexpr base::Duration kLongestRetry = base::Seconds(1800);

  struct Options {
    std::string directory;  ///< <data directory>/oci
    spec::ServerConfig::Node::ContainerImages settings;
    SandboxHome home;                     ///< control groups, uids
    std::string skopeo = {}, umoci = {};  ///< to be used instead of the host's
    MakeRegistryNetwork network = {};     ///< to be used instead of our own
  };
  static base::Result<std::unique_ptr<ContainerImages>> open(Options options);
  ~ContainerImages();
  ContainerImages(const ContainerImages&) = delete;
  ContainerImages& operator=(const ContainerImages&) = delete;

  /// The digest that an image has now: asks the registry. Blocking, bounded by a minute.
  base::Result<std::string> resolve(const std::string& image);

  /// Begins to fetch what is not here. `digest`: from resolve(). Fails with exhausted beyond kMaxImages.
  base::Status want(const std::string& image, const std::string& digest);

  enum class State { absent, waiting, fetching, unpacking, ready, failed };
  struct View {
    std::string digest, image;
    State state = State::absent;
    std::uint64_t total_bytes = 0, done_bytes = 0;  ///< of what is fetched; of layers while they are unpacked
    std::optional<base::Error> error;               ///< of the last try
    std::optional<base::Duration> retry_in;
  };
  [[nodiscard]] View look(const std::string& digest) const;
  [[nodiscard]] std::vector<View> all() const;

  /// The root of an image, as soon as it is here; until then waits, up to `timeout` or until stopped. While the result lives its layers stay.
  /// Errors: why it cannot be had; timeout; unavailable when stopped.
  base::Result<std::shared_ptr<const ImageRoot>> take(const std::string& image, const std::string& digest, base::Duration timeout,
                                                      const std::stop_token& stop);

  struct Usage {
    std::uint64_t layer_bytes = 0, work_bytes = 0, budget_bytes = 0;
    std::size_t layers = 0;
  };
  [[nodiscard]] Usage usage() const;

  /// Removes images that are not in `used` (digests) and run nowhere, and the layers that no other has. `dry_run`: only says so. Blocking.
  base::Result<std::vector<Garbage>> collect(const std::set<std::string>& used, bool dry_run);

 private:
  struct Entry {
    View view;
    std::optional<OciConfig> config;      ///< ready
    std::weak_ptr<const ImageRoot> root;  ///< in use
    base::TimePoint retry_at = base::never();
    std::uint32_t failures = 0;
    bool busy = false;  ///< a worker has it
  };

  ContainerImages(Options options, OciTools tools, LayerStore layers, std::uint32_t uid_slot);
  base::Status load();
  [[nodiscard]] base::Status make_work(const std::string& work) const;
  [[nodiscard]] std::string work_of(const std::string& digest) const;
  [[nodiscard]] std::string record_of(const std::string& digest) const;
  base::Status write_record(const StoredImage& image) const;
  void worker();
  void fetch(const std::string& digest);
  void finish(const std::string& digest, const base::Result<OciConfig>& fetched);
  void count_used();
  std::string next_locked();
  [[nodiscard]] base::TimePoint next_retry_locked() const;
  [[nodiscard]] std::shared_ptr<const ImageRoot> root_of_locked(const std::string& digest, Entry& entry);
  [[nodiscard]] static View view_of(const Entry& entry);

  Options options_;
  OciTools tools_;
  LayerStore layers_;
  std::uint32_t uid_slot_;
  std::stop_source stop_;
  std::mutex unpacking_;  ///< before mutex_
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, Entry> entries_;  ///< by digest
  std::uint64_t layer_bytes_ = 0;
  std::uint64_t resolved_ = 0;  ///< names work directories of resolve()
  std::vector<std::thread> workers_;
};

const char* to_string(ContainerImages::State state);  ///< "absent", "waiting", "fetching", …

}  // namespace thaw::node
