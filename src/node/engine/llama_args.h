#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/weights/gguf.h"
#include "spec/model_spec.h"

/// The problem: the user's arguments go to llama-server as they are, but some of them are thaw's to decide (where it listens, how many slots
/// it has), and some decide how much memory a replica takes. This reads the ones that matter, refuses what contradicts thaw, and leaves the
/// rest alone. Facts about flags: llama.cpp v0.5.0, common/arg.cpp and tools/server.
namespace thaw::node {

/// What thaw and the user together ask of llama-server.
struct LlamaSettings {
  std::uint32_t slots = 1;                  ///< scaling.targetConcurrency: -np
  std::uint64_t context_tokens = 0;         ///< of one slot: the user's -c, else kDefaultContextTokens or what the model was trained for
  std::uint64_t ubatch_tokens = 512;        ///< -ub: tokens computed at once
  std::string cache_type_k = "f16";
  std::string cache_type_v = "f16";
  bool flash_attention = true;              ///< -fa: off needs room for a score per token and head
  bool swa_full = false;                    ///< --swa-full: sliding windows are kept in full length
  bool embeddings = true;                   ///< --embeddings: also serves /v1/embeddings
  bool default_pooling = false;             ///< thaw must name a pooling: neither the user nor the model does
  std::uint64_t prompt_cache_bytes = 0;     ///< --cache-ram: prompts of idle slots kept in host memory
  std::vector<std::string> user_args;       ///< the rest, in the user's order; host paths not yet replaced
  std::vector<std::size_t> file_args;       ///< positions in user_args that are host paths (projector, adapter, draft model, template …)
};

/// Context of one slot where the user does not say: as much as most requests need, at a bounded price in memory.
constexpr std::uint64_t kDefaultContextTokens = 4096;

/// /v1/embeddings needs room for one batch of logits, twice: --ubatch-size × vocabulary × 8 bytes. Up to here a model that was not made for
/// embeddings serves them unasked; a bigger one does when spec.args hold "--embeddings" (or "--pooling TYPE").
constexpr std::uint64_t kMaxUnaskedLogitsBytes = 64ULL << 20;

/// Bytes of that room; 0 for architectures that compute no logits (encoders).
std::uint64_t embedding_logits_bytes(std::uint64_t ubatch_tokens, const GgufHeader& model);

/// Fails (invalid) on arguments and environment variables that contradict thaw's own, naming the spec's field to use instead.
base::Result<LlamaSettings> read_llama_args(const spec::ModelSpec& spec, const GgufHeader& model);

/// Host paths that the arguments name: projectors, adapters, draft models, templates.
std::vector<std::string> named_files(const spec::ModelSpec& spec);

/// Tokens in the model's vocabulary; 0 when the header does not say.
std::uint64_t vocabulary_tokens(const GgufHeader& model);

/// What llama-server makes of -c: it divides it among the slots and rounds each share up to a multiple of 256.
std::uint64_t allocated_context_tokens(const LlamaSettings& settings);

}  // namespace thaw::node
