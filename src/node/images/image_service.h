#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "node/agent.h"
#include "node/images/snapshot.h"
#include "node/sandbox/sandboxes.h"
#include "node/tiers/driver.h"

namespace thaw::node {

/// A node's images: makes them in the background, one at a time and after the starts that somebody waits for, keeps
/// them, and brings replicas up from them. Threads: one makes images, one removes them; submit(), cancel() and
/// restore() may be called from any thread, and of these only restore() blocks. Lifecycle: the destructor cancels what
/// is being made and waits for it, seconds at most.
class ImageService {
 public:
  using EventSink = std::function<void(wire::NodeEvent)>;

  /// `sandboxes` must outlive the service; `sink` is called from the service's threads and from restore()'s. Fails when
  /// the images' directory cannot be used.
  static base::Result<std::unique_ptr<ImageService>> open(const AgentConfig& config, Sandboxes& sandboxes,
                                                          EventSink sink);
  ~ImageService();
  ImageService(const ImageService&) = delete;
  ImageService& operator=(const ImageService&) = delete;

  /// What each driver can do here, or why it cannot, as the controller is told. At least one can.
  [[nodiscard]] static std::vector<wire::DriverInfo> drivers(const AgentConfig& config, const Sandboxes& sandboxes);
  [[nodiscard]] std::vector<wire::ImageInfo> images() const;
  [[nodiscard]] std::uint64_t budget_bytes() const { return store_->budget_bytes(); }

  /// Answered as wire/messages.h says. At most kMaxWaiting may wait; beyond that they fail at once.
  void submit(wire::TakeSnapshot command);
  void submit(wire::DropImage command);
  /// True when this was the replica of an image in the making, which is given up then.
  bool cancel(base::InstanceId instance);

  /// As restore_image(). An image that is of no use is dropped, and told as gone.
  base::Result<Restored> restore(const wire::StartInstance& start, const TierCall& call);

  static constexpr std::size_t kMaxWaiting = 1'000;

 private:
  struct Job {
    wire::TakeSnapshot command;
    base::TimePoint received;
    std::stop_source stop;
  };
  using JobPtr = std::shared_ptr<Job>;

  /// How images are made of the sandboxes of one kind.
  struct Way {
    SandboxMaker* maker = nullptr;
    std::unique_ptr<TierDriver> driver;
    std::string runtime;  ///< of ImageTools
  };

  ImageService(const AgentConfig& config, Sandboxes& sandboxes, std::map<spec::SandboxKind, Way> ways, std::unique_ptr<ImageStore> store,
               EventSink sink);
  [[nodiscard]] base::Result<ImageTools> tools_for(const spec::ModelSpec& model);
  static std::map<spec::SandboxKind, Way> ways_of(const AgentConfig& config, Sandboxes& sandboxes);
  void make_images();
  void make(Job& job);
  [[nodiscard]] base::Status wait_for_starts(const TierCall& call) const;
  void remove_images();
  void remove(const base::ImageId& image, const std::string& reason);
  void tell(const std::vector<ImageStore::Dropped>& dropped);

  const AgentConfig& config_;
  Sandboxes& sandboxes_;
  std::map<spec::SandboxKind, Way> ways_;
  std::unique_ptr<ImageStore> store_;
  EventSink sink_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<JobPtr> jobs_;  ///< waiting
  JobPtr current_;           ///< being made
  std::deque<base::ImageId> drops_;
  bool closing_ = false;
  std::thread maker_thread_;
  std::thread remover_thread_;
};

/// What the controller is told of an image.
wire::ImageInfo info_of(const Manifest& manifest);

}  // namespace thaw::node
