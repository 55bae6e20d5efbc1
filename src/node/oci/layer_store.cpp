#include "node/oci/layer_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "node/caches/tree.h"
#include "node/images/durable.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "spec/image_ref.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

constexpr std::string_view kAlgorithm = "sha256:";
constexpr unsigned kOurs = 0700;

std::string hex_of(const std::string& digest) {
  return digest.substr(std::min(digest.size(), kAlgorithm.size()));
}

/// All that was written to the file system that `directory` is on.
base::Status sync_all(const std::string& directory) {
  const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::syncfs(fd.get()) != 0) return base::errno_error("cannot write " + directory + " out", errno);
  return {};
}

std::uint64_t number(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_int64() && value->get_int64() >= 0 ? static_cast<std::uint64_t>(value->get_int64()) : 0;
}

}  // namespace

base::Result<LayerStore> LayerStore::open(const std::string& directory) {
  THAW_RETURN_IF_ERROR(make_directories(directory + "/layers", kOurs));
  THAW_RETURN_IF_ERROR(remove_foreign_tree(directory + "/unpacking"));
  // Others may pass through to what is theirs, and see nothing.
  THAW_RETURN_IF_ERROR(make_directories(directory + "/unpacking", 0711));
  return LayerStore(directory);
}

std::string LayerStore::place(const std::string& diff_id) const {
  return directory_ + "/layers/" + hex_of(diff_id);
}
std::string LayerStore::tree(const std::string& diff_id) const {
  return place(diff_id) + "/tree";
}

bool LayerStore::has(const std::string& diff_id) const {
  return spec::is_digest(diff_id) && ::access((place(diff_id) + "/layer.json").c_str(), F_OK) == 0;
}

base::Status LayerStore::add(const std::string& diff_id, const LayerContents& contents, LayerBounds bounds, std::uint32_t uid,
                             const std::function<base::Status(const std::string&)>& unpack) {
  const std::string work = directory_ + "/unpacking/" + hex_of(diff_id);
  THAW_RETURN_IF_ERROR(remove_foreign_tree(work));
  const auto fill = [&]() -> base::Status {
    THAW_RETURN_IF_ERROR(make_directories(work, kOurs));
    if (::chown(work.c_str(), uid, uid) != 0) return base::errno_error("cannot give " + work + " away", errno);
    THAW_RETURN_IF_ERROR(unpack(work + "/tree"));
    if (::chown(work.c_str(), 0, 0) != 0) return base::errno_error("cannot take " + work + " back", errno);
    // A layer of nothing but whiteouts.
    THAW_RETURN_IF_ERROR(make_directories(work + "/tree", 0755));
    THAW_ASSIGN_OR_RETURN(const TreeSize size, settle_tree(work + "/tree", bounds));
    THAW_RETURN_IF_ERROR(mark_whiteouts(work + "/tree", contents));
    THAW_RETURN_IF_ERROR(write_durably(work + "/layer.json", fmt::format("{{\"bytes\": {}, \"entries\": {}}}\n", size.bytes, size.entries), 0600));
    THAW_RETURN_IF_ERROR(sync_all(work));
    if (::rename(work.c_str(), place(diff_id).c_str()) != 0) return base::errno_error("cannot put a layer in its place", errno);
    return sync_directory(directory_ + "/layers");
  };
  base::Status filled = fill();
  if (!filled.ok()) (void)remove_foreign_tree(work);
  return filled;
}

std::map<std::string, TreeSize> LayerStore::layers() const {
  std::map<std::string, TreeSize> all;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/layers", ignored)) {
    const std::string diff_id = std::string(kAlgorithm) + entry.path().filename().string();
    const auto text = read_small_file(entry.path() / "layer.json");
    if (!spec::is_digest(diff_id) || !text.ok()) continue;
    json::error_code error;
    const json::value said = json::parse(*text, error);
    if (!error && said.is_object()) all[diff_id] = {number(said.get_object(), "bytes"), number(said.get_object(), "entries")};
  }
  return all;
}

base::Status LayerStore::remove(const std::string& diff_id) {
  // Out of its place first: half a layer must not be found there.
  const std::string work = directory_ + "/unpacking/" + hex_of(diff_id);
  THAW_RETURN_IF_ERROR(remove_foreign_tree(work));
  if (::rename(place(diff_id).c_str(), work.c_str()) != 0 && errno != ENOENT) return base::errno_error("cannot remove a layer", errno);
  return remove_foreign_tree(work);
}

}  // namespace thaw::node
