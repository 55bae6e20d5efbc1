#include "node/engine/llama_memory.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <string_view>

/// The formula and what it was checked against (llama.cpp v0.5.0, CPU, filled contexts and a full batch of embeddings; MiB; real: anonymous plus
/// mapped weights from /proc/PID/smaps_rollup; estimate: total()):
///
///     model                                        slots × context   real   estimate
///     1 MB F32, vocabulary 512                     4 × 512             21         26
///     64 MB F16, width 640, 5 layers               4 × 512            112        118
///     64 MB F16                                    4 × 2048           130        134
///     1 GB F16, width 1536, 12 layers              4 × 512           1078       1104
///     130 MB F16, vocabulary 128,000 (SPM)         4 × 1024           186        197
///     the same with --embeddings                   4 × 1024           671        707
///     130 MB F16, vocabulary 128,000 (BPE)         4 × 1024           204        214
///     1 GB Q4_0, width 2560, 20 layers             1 × 512           1053       1120   (anonymous; runs in a cgroup of 1230)
///
/// weights  the tensors' bytes. F16 and F32 are used where they are mapped; quantised ones are copied (repacked) once, and the mapping is
///          clean page cache that the kernel takes back under pressure.
/// KV       src/llama-kv-cache.cpp: per token and layer, heads_kv × (key_length + value_length) values; the cache is in full length except in layers
///          with a sliding window (src/llama-kv-cache-iswa.cpp: window + ubatch, in steps of 256).
/// compute  "compute buffer size" in the log: fits ubatch × 4 × (2 × feed_forward + 10 × width) + ubatch × context × 2 (the mask) for F16/F32 and
///          flash attention; without that, a score per head, token and position is added. Logits: ubatch × vocabulary × 4, in the graph and in the
///          output buffer, when every token is an output (embeddings).
/// engine   18 MiB for code and heap; vocabulary and merges take about 7 times their bytes in the header; per slot 16 bytes a token of the vocabulary
///          (logits and candidates) and a thread.
namespace thaw::node {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kCpuEngineBytes = 18 * kMiB;
// CUDA context, cuBLAS workspace and modules; reported as 300 to 500 MiB, depending on driver and GPU.
constexpr std::uint64_t kCudaEngineBytes = 512 * kMiB;
constexpr std::uint64_t kSlotBytes = 64ULL << 10;
constexpr std::uint64_t kVocabularyFactor = 7;
constexpr std::uint64_t kMarginPercent = 2;
constexpr std::uint64_t kMaxLayers = 4096;
constexpr std::uint64_t kCheckpointsPerSlot = 2;  // at most one each 8192 tokens, and one near the prompt's end

/// Arithmetic that saturates: a hostile header makes a model too big for any device, not a small one.
class Amount {
 public:
  constexpr Amount(std::uint64_t value) : value_(value) {}  // NOLINT(google-explicit-constructor)
  friend Amount operator+(Amount a, Amount b) {
    std::uint64_t sum = 0;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? Amount(kMax) : Amount(sum);
  }
  friend Amount operator*(Amount a, Amount b) {
    std::uint64_t product = 0;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? Amount(kMax) : Amount(product);
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  static constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max() / 4;
  std::uint64_t value_;
};

/// The architecture's numbers, with llama.cpp's defaults (src/llama-model.cpp, load_hparams).
class Shape {
 public:
  explicit Shape(const GgufHeader& header) : header_(header), architecture_(header.text("general.architecture")) {
    layers = std::min(number("block_count", 0), kMaxLayers);
    width = number("embedding_length", 0);
    heads = std::max<std::uint64_t>(1, largest("attention.head_count", 1));
    key_length = number("attention.key_length", width / heads);
    value_length = number("attention.value_length", width / heads);
    const std::uint64_t experts = number("expert_used_count", 0);
    feed_forward = std::max(largest("feed_forward_length", 0), (Amount(experts) * number("expert_feed_forward_length", 0)).value());
  }

  [[nodiscard]] std::uint64_t heads_kv(std::uint64_t layer) const {
    const GgufArray* per_layer = header_.array(key("attention.head_count_kv"));
    if (per_layer != nullptr && layer < per_layer->numbers.size()) return static_cast<std::uint64_t>(std::max(0.0, per_layer->numbers[layer]));
    return number("attention.head_count_kv", heads);
  }

  /// Tokens of the sliding window of a layer; 0 when it sees all. Which architectures have windows, and in which layers: src/models/*.cpp.
  [[nodiscard]] std::uint64_t window(std::uint64_t layer) const {
    struct Pattern { std::string_view architecture; std::uint64_t period; };
    constexpr std::array patterns{Pattern{"gemma2", 2}, Pattern{"gemma3", 6}, Pattern{"gemma3n", 5}, Pattern{"cohere2", 4}, Pattern{"gpt-oss", 2}};
    const auto* found = std::find_if(patterns.begin(), patterns.end(), [&](const Pattern& p) { return p.architecture == architecture_; });
    if (found == patterns.end()) return 0;
    const GgufArray* per_layer = header_.array(key("attention.sliding_window_pattern"));
    const std::uint64_t period = std::max<std::uint64_t>(1, number("attention.sliding_window_pattern", found->period));
    const bool windowed = per_layer != nullptr && layer < per_layer->numbers.size() ? per_layer->numbers[layer] != 0 : layer % period < period - 1;
    return windowed ? number("attention.sliding_window", 0) : 0;
  }

  /// State of one sequence in all layers (Mamba's convolution and scan states, as src/llama-hparams.cpp counts them), F32.
  [[nodiscard]] Amount recurrent_bytes() const {
    const Amount inner = number("ssm.inner_size", 0);
    const Amount state = number("ssm.state_size", 0);
    const Amount convolution = (inner + Amount(2) * number("ssm.group_count", 0) * state) * number("ssm.conv_kernel", 0);
    const Amount wkv = Amount(width) * (Amount(number("wkv.head_size", 0)) + 2);
    return Amount(layers) * sizeof(float) * (convolution + inner * state + (number("wkv.head_size", 0) != 0 ? wkv : Amount(0)));
  }

  std::uint64_t layers = 0;
  std::uint64_t width = 0;
  std::uint64_t heads = 0;
  std::uint64_t key_length = 0;
  std::uint64_t value_length = 0;
  std::uint64_t feed_forward = 0;

 private:
  [[nodiscard]] std::string key(const char* name) const { return architecture_ + "." + name; }
  [[nodiscard]] std::uint64_t number(const char* name, std::uint64_t otherwise) const { return header_.number(key(name)).value_or(otherwise); }
  [[nodiscard]] std::uint64_t largest(const char* name, std::uint64_t otherwise) const {
    const GgufArray* per_layer = header_.array(key(name));
    if (per_layer == nullptr || per_layer->numbers.empty()) return number(name, otherwise);
    return static_cast<std::uint64_t>(std::clamp(*std::max_element(per_layer->numbers.begin(), per_layer->numbers.end()), 0.0, 1e15));
  }

  const GgufHeader& header_;
  std::string architecture_;
};

/// Bytes of `values` cache entries of a type as -ctk names it; F16 where the name is unknown (the engine will refuse it).
Amount cache_bytes(const std::string& type, std::uint64_t values) {
  constexpr std::uint64_t block = 32;
  const std::uint64_t blocks = values / block + 1;
  if (type == "f32") return Amount(values) * 4;
  if (type == "q8_0") return Amount(blocks) * 34;
  if (type == "q5_1") return Amount(blocks) * 24;
  if (type == "q5_0") return Amount(blocks) * 22;
  if (type == "q4_1") return Amount(blocks) * 20;
  if (type == "q4_0" || type == "iq4_nl") return Amount(blocks) * 18;
  return Amount(values) * 2;
}

struct KvBytes {
  Amount per_token = 0;
  Amount all = 0;
};

KvBytes kv_bytes(const Shape& shape, const LlamaSettings& settings, spec::DeviceKind device) {
  KvBytes kv;
  const std::uint64_t tokens = allocated_context_tokens(settings);
  Amount windows = 0;
  for (std::uint64_t layer = 0; layer < shape.layers; ++layer) {
    const Amount heads = shape.heads_kv(layer);
    const Amount token = cache_bytes(settings.cache_type_k, (heads * shape.key_length).value()) +
                         cache_bytes(settings.cache_type_v, (heads * shape.value_length).value());
    const std::uint64_t window = settings.swa_full ? 0 : shape.window(layer);
    const std::uint64_t slot_tokens = (window + settings.ubatch_tokens + 255) / 256 * 256;
    const bool short_layer = window != 0 && slot_tokens < tokens / settings.slots;
    const Amount layer_bytes = token * (short_layer ? slot_tokens * settings.slots : tokens);
    kv.per_token = kv.per_token + token;
    kv.all = kv.all + layer_bytes;
    if (short_layer) windows = windows + layer_bytes;
  }
  const Amount states = shape.recurrent_bytes() * settings.slots;
  kv.all = kv.all + states;
  // Copies for going back in a prompt lie in host memory.
  if (device == spec::DeviceKind::cpu) kv.all = kv.all + (windows + states) * kCheckpointsPerSlot;
  return kv;
}

Amount compute_bytes(const Shape& shape, const GgufHeader& header, const LlamaSettings& settings) {
  const Amount batch = settings.ubatch_tokens;
  const Amount context = allocated_context_tokens(settings) / settings.slots;
  Amount bytes = batch * 4 * (Amount(2) * shape.feed_forward + Amount(10) * shape.width) + batch * context * 2;
  bytes = bytes + batch * shape.feed_forward * 2;  // work buffer: one operand converted to the weights' type
  if (!settings.flash_attention) bytes = bytes + Amount(shape.heads) * batch * context * 4;
  if (settings.embeddings) bytes = bytes + embedding_logits_bytes(settings.ubatch_tokens, header);
  return bytes;
}

Amount engine_bytes(const GgufHeader& header, const LlamaSettings& settings, spec::DeviceKind device) {
  if (device == spec::DeviceKind::cuda) return kCudaEngineBytes;
  return Amount(kCpuEngineBytes) + Amount(kVocabularyFactor) * header.data_offset +
         Amount(settings.slots) * (Amount(kSlotBytes) + Amount(16) * vocabulary_tokens(header)) + settings.prompt_cache_bytes;
}

Amount named_files_bytes(const LlamaSettings& settings) {
  Amount sum = 0;
  for (const std::size_t position : settings.file_args) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(settings.user_args[position], error);
    if (!error) sum = sum + bytes;
  }
  return sum;
}

/// Quantised tensors that are multiplied with (ggml/src/ggml-cpu/repack.cpp); embeddings are looked up where they are mapped. Which types are repacked
/// depends on the processor: at most these.
std::uint64_t repacked_bytes(const GgufModel& model, const LlamaSettings& settings) {
  for (const std::string& argument : settings.user_args)
    if (argument == "--no-repack" || argument == "-nr") return 0;
  Amount sum = 0;
  for (const GgufHeader& part : model.parts)
    for (const GgufTensor& tensor : part.tensors)
      if (gguf_type_is_quantised(tensor.type) && !tensor.name.starts_with("token_embd")) sum = sum + tensor.bytes;
  return sum.value();
}

}  // namespace

std::uint64_t LlamaMemory::total() const {
  const Amount sum = Amount(weights_bytes) + kv_bytes + compute_bytes + engine_bytes;
  return (sum + sum.value() / 100 * kMarginPercent).value();
}

std::uint64_t LlamaMemory::total_on(std::uint32_t devices) const {
  if (devices < 2) return total();
  const Amount layered = Amount(weights_bytes) + kv_bytes;
  const std::uint64_t layer = layered.value() / std::max<std::uint64_t>(layers, 1);
  const Amount share = Amount(layered.value() / devices) + layer + compute_bytes + engine_bytes;
  return (Amount(devices) * (share + share.value() / 100 * kMarginPercent)).value();
}

LlamaMemory estimate_llama_memory(const GgufModel& model, const LlamaSettings& settings, spec::DeviceKind device) {
  const GgufHeader& header = model.head();
  const Shape shape(header);
  const KvBytes kv = kv_bytes(shape, settings, device);
  LlamaMemory memory;
  memory.weights_bytes = (Amount(model.tensor_bytes()) + named_files_bytes(settings)).value();
  memory.kv_bytes = kv.all.value();
  memory.kv_bytes_per_token = kv.per_token.value();
  memory.layers = shape.layers;
  memory.compute_bytes = compute_bytes(shape, header, settings).value();
  memory.engine_bytes = engine_bytes(header, settings, device).value();
  if (device == spec::DeviceKind::cpu) memory.copied_bytes = repacked_bytes(model, settings);
  return memory;
}

}  // namespace thaw::node
