#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/oci/layer_tree.h"

namespace thaw::node {

/// Unpacked layers, each once, by what they hold:
///
///     layers/<64 hex digits of its diffID>/tree/        a lower directory of overlays; root's, read by everybody
///                                         layer.json    {"bytes": …, "entries": …}
///     unpacking/<the same>/                             what is not whole: removed when the store is opened
///
/// A layer is put in its place by one rename, after all of it is on the disk. One thread at a time, but tree() and has() from any.
class LayerStore {
 public:
  /// `directory` exists. Makes what is missing, and removes what an earlier life did not finish.
  static base::Result<LayerStore> open(const std::string& directory);

  [[nodiscard]] bool has(const std::string& diff_id) const;
  /// Host path of its files, also of one that is not there.
  [[nodiscard]] std::string tree(const std::string& diff_id) const;

  /// Has `unpack` fill an empty directory of `uid`'s, and puts the layer in its place. On an error nothing of it is left.
  base::Status add(const std::string& diff_id, const LayerContents& contents, LayerBounds bounds, std::uint32_t uid,
                   const std::function<base::Status(const std::string& directory)>& unpack);

  [[nodiscard]] std::map<std::string, TreeSize> layers() const;  ///< by diffID
  base::Status remove(const std::string& diff_id);

 private:
  explicit LayerStore(std::string directory) : directory_(std::move(directory)) {}
  [[nodiscard]] std::string place(const std::string& diff_id) const;

  std::string directory_;
};

}  // namespace thaw::node
