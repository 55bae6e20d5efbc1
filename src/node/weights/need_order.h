#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// The problem: many model files begin with their output matrix, which a first evaluation needs last. Read from front to back, an engine that computes
/// while its weights come in would wait for all of it before its first layer.
namespace thaw::node {

/// When a first evaluation needs what lies where in a model's files: input embeddings and what belongs to no layer, the layers in turn, the output.
/// By the tensors' names as llama.cpp gives them (llama-arch.cpp): "blk.7.…", "output…".
class NeedOrder {
 public:
  /// Reads the headers of GGUF files (blocking; MBs, which every start needs anyway). If one of them cannot be understood, nothing is known.
  explicit NeedOrder(const std::vector<std::string>& files);

  /// Whether anything needed later lies before something needed earlier: if not, the files' own order is right.
  [[nodiscard]] bool differs() const { return differs_; }
  /// Of the bytes [offset, offset + bytes) of a file: the turn of the earliest needed of them. Small turns come first; what holds no tensor has the first.
  [[nodiscard]] std::uint32_t turn(std::size_t file, std::uint64_t offset, std::uint64_t bytes) const;

 private:
  struct Span {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint32_t turn = 0;
  };

  std::vector<std::vector<Span>> files_;  ///< tensors in the order of their offsets; empty: nothing is known
  bool differs_ = false;
};

/// The turn of a tensor by its name.
std::uint32_t turn_of_tensor(const std::string& name);

}  // namespace thaw::node
