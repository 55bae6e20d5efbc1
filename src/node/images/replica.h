#pragma once

#include <memory>
#include <string>

#include "node/engine/engine.h"
#include "node/images/snapshot.h"

namespace thaw::node {

/// A replica that serves nobody: started to be made an image of. Its address is told to no one.
class LonelyReplica {
 public:
  /// Returns when its engine answers.
  static base::Result<std::unique_ptr<LonelyReplica>> start(const wire::StartInstance& start, const ImageTools& tools,
                                                            const TierCall& call);

  [[nodiscard]] Sandbox& sandbox() { return *sandbox_; }
  [[nodiscard]] const EngineLaunch& launch() const { return launch_; }

  /// One fixed prompt, so that what an engine sets up at its first request is in the image. An engine that answers no
  /// such prompt (one for embeddings) is as warm as it gets. Its end of the connection is closed afterwards.
  base::Status warm_up(const TierCall& call);
  /// Of a short answer; 0 when the engine does not tell.
  [[nodiscard]] double tokens_per_s(const TierCall& call);
  /// The end of what the engine and runsc have said, for errors: "; it said: …", or nothing.
  [[nodiscard]] std::string last_words();

 private:
  LonelyReplica() = default;
  void drain();

  EngineLaunch launch_;
  std::unique_ptr<Sandbox> sandbox_;
  Fd output_;
  std::string said_;
};

}  // namespace thaw::node
