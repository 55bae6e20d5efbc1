#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node/images/image_store.h"
#include "node/sandbox/sandbox.h"
#include "node/tiers/driver.h"
#include "spec/sandbox_kind.h"
#include "wire/messages.h"

/// From a model to its image, and from the image to replicas. An image holds the memory of an engine, so it is made of
/// a replica that nobody but this code has ever talked to: started for it, asked one fixed prompt, checkpointed, gone.
namespace thaw::node {

/// What both directions stand on; all outlive the call.
struct ImageTools {
  SandboxMaker& maker;        ///< of the sandboxes that images are made of
  spec::SandboxKind sandbox;  ///< which it makes
  TierDriver& driver;         ///< Keeps::image
  /// All of the runtime that an image depends on ("runsc 0.0~20221219.0 ptrace 2"): its versions, and how sandboxes are
  /// furnished, for a restore needs the same mounts.
  const std::string& runtime;
  ImageStore& store;
  const std::map<std::string, std::string>& engine_paths;
};

/// Everything outside an image that a replica of this model would have now.
base::Result<Origin> origin_of(const wire::StartInstance& start, const ImageTools& tools);

struct Snapshot {
  Manifest manifest;
  std::vector<wire::Phase> phases;  ///< from the call's begin
};

/// Makes the image that `command` asks for. Blocking, seconds; looks at `call` in every wait. Its replica runs with the
/// least share of the CPU, so that requests' own engines go first.
///
/// llama.cpp copies quantised weights into memory of its own (repacked for the CPU), which makes an image as large as
/// the weights and its restore slower than a start. Then a second image is made with --no-repack, and the token rates
/// of both are compared, the best of a few short answers each: the small one is taken if it costs at most kMaxRateLoss of the rate, else the large
/// one. Manifest::choice says what was measured.
///
/// `dropped`: images that had to make room. On an error nothing of the new one is left.
base::Result<Snapshot> take_snapshot(const wire::TakeSnapshot& command, const ImageTools& tools, const TierCall& call,
                                     std::vector<ImageStore::Dropped>& dropped);
inline constexpr double kMaxRateLoss = 0.1;

struct Restored {
  std::unique_ptr<Sandbox> sandbox;  ///< its engine answers
  std::vector<wire::Phase> phases;
};

/// A new replica from an image. Fails with conflict when the image is of no use any more (drop it), not_found when
/// there is none; after any other error the image may be tried again. On an error nothing of the replica is left.
base::Result<Restored> restore_image(const wire::StartInstance& start, const ImageTools& tools, const TierCall& call);

}  // namespace thaw::node
