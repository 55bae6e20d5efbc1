#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "node/weights/buffered_file.h"
#include "node/weights/json_scan.h"
#include "node/weights/safetensors.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;
using spec::printable;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr const char* kUsualIndex = "model.safetensors.index.json";
constexpr const char* kUsualFile = "model.safetensors";
constexpr std::size_t kMaxFileNameBytes = 255;
constexpr std::size_t kMaxDirectoryEntries = 10'000;

Error invalid(std::string message) {
  return {ErrorKind::invalid, std::move(message)};
}

/// Which tensor is in which shard, as the index has it.
struct Index {
  std::vector<std::string> shards;                           ///< by name, each once
  std::vector<std::pair<std::string, std::size_t>> tensors;  ///< by name, each once; the second is one of the shards
};

/// A file name and nothing more: the shards lie beside the index.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

/// Takes {"metadata": anything, "weight_map": {TENSOR: SHARD, ...}}, and other keys with anything.
class IndexSink : public JsonSink {
 public:
  base::Status take(JsonEvent event, std::string_view text, std::uint64_t number) override {
    if (depth_ == 0) {
      if (event != JsonEvent::object_begin) return invalid("the index is no JSON object");
      depth_ = 1;
      return {};
    }
    if (depth_ == 1 && event == JsonEvent::key) {
      in_map_ = text == "weight_map";
      if (in_map_ && std::exchange(had_map_, true)) return invalid("weight_map a second time");
      return {};
    }
    if (in_map_) THAW_RETURN_IF_ERROR(take_map(event, text, number));
    if (event == JsonEvent::object_begin || event == JsonEvent::array_begin) ++depth_;
    if (event == JsonEvent::object_end || event == JsonEvent::array_end) --depth_;
    return {};
  }

  /// Once all was taken.
  base::Result<Index> finish() {
    if (!had_map_) return invalid("it has no weight_map");
    Index index;
    std::map<std::size_t, std::size_t> places;  // numbers by first appearance -> by name
    for (const auto& [name, number] : shards_) {
      places[number] = index.shards.size();
      index.shards.push_back(name);
    }
    for (auto& [tensor, number] : tensors_) number = places[number];
    std::sort(tensors_.begin(), tensors_.end());
    const auto twice = std::adjacent_find(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
    if (twice != tensors_.end()) return invalid(fmt::format("weight_map has tensor {} twice", printable(twice->first)));
    index.tensors = std::move(tensors_);
    return index;
  }

 private:
  base::Status take_map(JsonEvent event, std::string_view text, std::uint64_t number) {
    if (depth_ == 1) {
      if (event != JsonEvent::object_begin && event != JsonEvent::object_end) return invalid("weight_map is no object");
      return {};
    }
    if (event == JsonEvent::object_end) return {};
    if (event == JsonEvent::key) {
      if (tensors_.size() == kMaxSafetensorsTensors) return invalid(fmt::format("more than {} tensors", kMaxSafetensorsTensors));
      tensors_.emplace_back(text, 0);
      return {};
    }
    const std::string tensor = printable(tensors_.empty() ? "" : tensors_.back().first);
    if (event != JsonEvent::string) return invalid(fmt::format("the shard of tensor {} is no string", tensor));
    if (number != 0 || !is_plain_name(text)) {
      return invalid(
          fmt::format("tensor {} is said to be in \"{}\", which is no plain file name: shards lie beside the index", tensor, printable(text)));
    }
    const auto [shard, fresh] = shards_.try_emplace(std::string(text), shards_.size());
    if (fresh && shards_.size() > kMaxSafetensorsShards) return invalid(fmt::format("more than {} shards", kMaxSafetensorsShards));
    tensors_.back().second = shard->second;
    return {};
  }

  unsigned depth_ = 0;
  bool in_map_ = false;  ///< the value of the top object's last key is weight_map's
  bool had_map_ = false;
  std::map<std::string, std::size_t> shards_;  ///< numbered by first appearance
  std::vector<std::pair<std::string, std::size_t>> tensors_;
};

base::Result<Index> read_index(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(auto file, BufferedFile::open(path, kMaxSafetensorsIndexBytes));
  if (file.file_bytes() > kMaxSafetensorsIndexBytes) {
    return invalid(fmt::format("cannot read {}: {} bytes, more than {}: it is no index", path, file.file_bytes(), kMaxSafetensorsIndexBytes));
  }
  IndexSink sink;
  const JsonLimits limits{.depth = 32, .key_bytes = kMaxSafetensorsNameBytes, .string_bytes = kMaxFileNameBytes};
  const base::Status status = scan_json(file, file.file_bytes(), limits, sink);
  if (!status.ok()) return status.error().within("cannot read " + path);
  auto index = sink.finish();
  if (!index.ok()) return index.error().within("cannot read " + path);
  return index;
}

/// Directories that an index in `directory` may lead to, without links.
std::vector<fs::path> allowed_directories(const fs::path& directory) {
  std::vector<fs::path> allowed{directory};
  // The Hugging Face cache: models--OWNER--NAME/snapshots/REVISION/FILE are links to models--OWNER--NAME/blobs/DIGEST.
  const fs::path snapshots = directory.parent_path();
  if (snapshots.filename() != "snapshots") return allowed;
  std::error_code error;
  const fs::path blobs = fs::canonical(snapshots.parent_path() / "blobs", error);
  if (!error && blobs == snapshots.parent_path() / "blobs") allowed.push_back(blobs);  // blobs itself must be no link
  return allowed;
}

/// The shard's path without links; refused when it leads out of the allowed directories.
base::Result<std::string> shard_path(const fs::path& directory, const std::vector<fs::path>& allowed, const std::string& name,
                                     const std::string& index_path) {
  std::error_code error;
  const fs::path real = fs::canonical(directory / name, error);
  if (error) {
    Error missing = base::errno_error(fmt::format("cannot read {}, which {} names", (directory / name).string(), index_path), error.value());
    if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) {
      missing = {ErrorKind::not_found, missing.message + "; fetch the whole model"};
    }
    if (error == std::errc::permission_denied) missing.kind = ErrorKind::denied;
    return missing;
  }
  if (std::find(allowed.begin(), allowed.end(), real.parent_path()) != allowed.end()) return real.string();
  return Error{ErrorKind::denied, fmt::format("cannot read {}: it is a link to {}, outside the model's directory; put the file itself there",
                                              (directory / name).string(), real.string())};
}

base::Status check_shards(const Index& index, const std::vector<SafetensorsHeader>& shards, const std::string& index_path) {
  std::vector<std::pair<std::string_view, std::size_t>> found;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const SafetensorsTensor& tensor : shards[i].tensors) found.emplace_back(tensor.name, i);
  }
  std::sort(found.begin(), found.end());
  const auto twice = std::adjacent_find(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice != found.end()) {
    return invalid(fmt::format("tensor {} is in {} and in {}; the shards were mixed up, fetch them again", printable(twice->first),
                               shards[twice->second].path, shards[std::next(twice)->second].path));
  }
  for (const auto& [tensor, shard] : index.tensors) {
    const auto there = std::lower_bound(found.begin(), found.end(), std::pair<std::string_view, std::size_t>(tensor, 0));
    const bool known = there != found.end() && there->first == tensor;
    if (known && there->second == shard) continue;
    return invalid(fmt::format("{} says that tensor {} is in {}, but it is {}{}; the shards were mixed up, fetch them again", index_path,
                               printable(tensor), index.shards[shard], known ? "in " : "in none", known ? index.shards[there->second] : ""));
  }
  return {};
}

base::Result<SafetensorsModel> open_index(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const Index index, read_index(path));
  std::error_code error;
  const fs::path parent = fs::path(path).parent_path();
  const fs::path directory = fs::canonical(parent.empty() ? "." : parent, error);
  if (error) return base::errno_error("cannot resolve the directory of " + path, error.value());
  const auto allowed = allowed_directories(directory);
  SafetensorsModel model;
  model.index_path = path;
  std::size_t tensors = 0;
  for (const std::string& name : index.shards) {
    THAW_ASSIGN_OR_RETURN(const std::string shard, shard_path(directory, allowed, name, path));
    THAW_ASSIGN_OR_RETURN(auto header, read_safetensors_header(shard));
    tensors += header.tensors.size();
    if (tensors > kMaxSafetensorsTensors) return invalid(fmt::format("the shards of {} hold more than {} tensors", path, kMaxSafetensorsTensors));
    model.shards.push_back(std::move(header));
  }
  THAW_RETURN_IF_ERROR(check_shards(index, model.shards, path));
  return model;
}

base::Result<SafetensorsModel> open_single(const std::string& path) {
  SafetensorsModel model;
  THAW_ASSIGN_OR_RETURN(auto header, read_safetensors_header(path));
  model.shards.push_back(std::move(header));
  return model;
}

/// What a directory's model is: its index, or its only file.
base::Result<std::string> find_in_directory(const std::string& path) {
  std::vector<std::string> indices;
  std::vector<std::string> files;
  std::error_code error;
  std::size_t entries = 0;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    if (++entries > kMaxDirectoryEntries)
      return invalid(fmt::format("{} has more than {} entries; name the index or the file in it", path, kMaxDirectoryEntries));
    const std::string name = entry->path().filename().string();
    if (name.ends_with(kIndexSuffix)) indices.push_back(name);
    if (name.ends_with(kSuffix)) files.push_back(name);
  }
  if (error) return base::errno_error("cannot read the directory " + path, error.value());
  for (const auto& [names, usual] : {std::pair(&indices, kUsualIndex), std::pair(&files, kUsualFile)}) {
    if (std::find(names->begin(), names->end(), usual) != names->end()) return path + "/" + usual;
    if (names->size() == 1) return path + "/" + names->front();
    if (names->size() > 1) return invalid(fmt::format("{} holds {} files that may be meant and no {}; name one of them", path, names->size(), usual));
  }
  return Error{ErrorKind::not_found, fmt::format("there is no {} and no {} in {}", kUsualIndex, kUsualFile, path)};
}

}  // namespace

base::Result<SafetensorsModel> open_safetensors_model(const std::string& path) {
  std::error_code error;
  std::string file = path;
  if (fs::is_directory(path, error)) {
    THAW_ASSIGN_OR_RETURN(file, find_in_directory(path));
  }
  return file.ends_with(".json") ? open_index(file) : open_single(file);
}

}  // namespace thaw::node
