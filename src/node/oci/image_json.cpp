#include "node/oci/image_json.h"

#include <sys/utsname.h>

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "spec/image_ref.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxWords = 256;  // of an entrypoint, of its arguments, and variables: as many as a spec may have
constexpr std::size_t kMaxWordsBytes = 128ULL << 10;
constexpr std::size_t kMaxIndexEntries = 1'000;
constexpr std::uint64_t kMaxBlobBytes = 1ULL << 50;

Error wrong(std::string_view what, std::string_view why) {
  return {ErrorKind::invalid, fmt::format("the image's {} is wrong: {}", what, why)};
}

base::Result<json::object> read_object(std::string_view text, std::string_view what) {
  if (text.size() > kMaxManifest_bytes) return wrong(what, "it is larger than 4 MiB");
  json::error_code error;
  json::value value = json::parse({text.data(), text.size()}, error);
  if (error || !value.is_object()) return wrong(what, "it is no JSON object");
  return std::move(value.as_object());
}

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

const json::array* array_of(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr ? value->if_array() : nullptr;
}

base::Result<OciBlob> read_blob(const json::value* value) {
  const json::object* const object = value != nullptr ? value->if_object() : nullptr;
  if (object == nullptr) return wrong("manifest", "a descriptor is missing");
  OciBlob blob{text_of(*object, "mediaType"), text_of(*object, "digest"), 0};
  if (!spec::is_digest(blob.digest)) return wrong("manifest", fmt::format("\"{}\" is no sha256 digest", spec::printable(blob.digest)));
  const json::value* const size = object->if_contains("size");
  if (size == nullptr || !size->is_int64() || size->get_int64() < 0 || static_cast<std::uint64_t>(size->get_int64()) > kMaxBlobBytes)
    return wrong("manifest", fmt::format("{} has no size", blob.digest));
  blob.bytes = static_cast<std::uint64_t>(size->get_int64());
  return blob;
}

/// umoci 0.4.7 unpacks plain tar files and gzip; "foreign" layers are not in the registry.
base::Status check_layer_type(const OciBlob& layer) {
  if (layer.media_type.ends_with(".tar") || is_gzip_layer(layer.media_type)) return {};
  return Error{
      ErrorKind::unavailable,
      fmt::format(
          "the image has a layer of type {}, which umoci cannot unpack; copy the image with gzip layers (skopeo copy --dest-compress-format gzip …) "
          "and name the copy",
          spec::printable(layer.media_type))};
}

base::Result<OciManifest> read_one(const json::object& object) {
  OciManifest manifest;
  THAW_ASSIGN_OR_RETURN(manifest.config, read_blob(object.if_contains("config")));
  const json::array* const layers = array_of(object, "layers");
  if (layers == nullptr || layers->empty()) return wrong("manifest", "it has no layers");
  if (layers->size() > kMaxImageLayers)
    return wrong("manifest", fmt::format("it has {} layers; at most {} are possible", layers->size(), kMaxImageLayers));
  for (const json::value& entry : *layers) {
    THAW_ASSIGN_OR_RETURN(OciBlob layer, read_blob(&entry));
    if (!layer.media_type.empty()) THAW_RETURN_IF_ERROR(check_layer_type(layer));
    manifest.layers.push_back(std::move(layer));
  }
  return manifest;
}

base::Result<std::string> choose(const json::array& manifests, std::string_view architecture) {
  if (manifests.size() > kMaxIndexEntries) return wrong("index", "it has more than 1,000 entries");
  for (const json::value& entry : manifests) {
    const json::object* const object = entry.if_object();
    if (object == nullptr) continue;
    const json::value* const platform = object->if_contains("platform");
    // An index of one image may say nothing of platforms (umoci's does not).
    const bool fits = platform == nullptr || !platform->is_object()
                          ? manifests.size() == 1
                          : text_of(platform->get_object(), "os") == "linux" && text_of(platform->get_object(), "architecture") == architecture;
    if (!fits) continue;
    const std::string digest = text_of(*object, "digest");
    if (!spec::is_digest(digest)) return wrong("index", "an entry has no sha256 digest");
    return digest;
  }
  return Error{ErrorKind::not_found, fmt::format("the image is not for this machine: it has nothing for linux/{}", architecture)};
}

base::Status read_words(const json::object& object, std::string_view key, std::vector<std::string>& into) {
  const json::value* const value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return {};
  const json::array* const words = value->if_array();
  if (words == nullptr || words->size() > kMaxWords) return wrong("config", fmt::format("{} is no list of at most {} words", key, kMaxWords));
  std::size_t total = 0;
  for (const json::value& word : *words) {
    if (!word.is_string() || word.get_string().find('\0') != json::string::npos)
      return wrong("config", fmt::format("{} has something that is no text", key));
    total += word.get_string().size();
    into.emplace_back(word.get_string());
  }
  if (total > kMaxWordsBytes) return wrong("config", fmt::format("{} is longer than 128 KiB", key));
  return {};
}

}  // namespace

std::uint64_t OciManifest::bytes() const {
  std::uint64_t total = config.bytes;
  for (const OciBlob& layer : layers) total += layer.bytes;
  return total;
}

bool is_gzip_layer(std::string_view media_type) {
  return media_type.ends_with(".tar.gzip") || media_type.ends_with(".tar+gzip");
}

std::string own_architecture() {
  utsname name{};
  ::uname(&name);
  const std::string machine = name.machine;
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return machine;
}

base::Result<ManifestOrIndex> read_manifest(std::string_view text, std::string_view architecture) {
  THAW_ASSIGN_OR_RETURN(const json::object object, read_object(text, "manifest"));
  ManifestOrIndex found;
  if (object.if_contains("schemaVersion") != nullptr && object.at("schemaVersion") == json::value(1))
    return Error{ErrorKind::unavailable,
                 "the image has a manifest of Docker's first schema, which is of before 2017; push it again with a newer docker or skopeo"};
  if (const json::array* const manifests = array_of(object, "manifests")) {
    found.is_index = true;
    THAW_ASSIGN_OR_RETURN(found.own_platform, choose(*manifests, architecture));
    return found;
  }
  THAW_ASSIGN_OR_RETURN(found.manifest, read_one(object));
  return found;
}

base::Result<OciConfig> read_image_config(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::object object, read_object(text, "config"));
  OciConfig out;
  out.working_dir = "/";
  const json::value* const rootfs = object.if_contains("rootfs");
  const json::array* const diff_ids = rootfs != nullptr && rootfs->is_object() ? array_of(rootfs->get_object(), "diff_ids") : nullptr;
  if (diff_ids == nullptr || diff_ids->empty() || diff_ids->size() > kMaxImageLayers) return wrong("config", "it names no layers, or too many");
  for (const json::value& entry : *diff_ids) {
    if (!entry.is_string() || !spec::is_digest(std::string_view(entry.get_string()))) return wrong("config", "one of diff_ids is no sha256 digest");
    out.diff_ids.emplace_back(entry.get_string());
  }
  const json::value* const found = object.if_contains("config");
  if (found == nullptr || !found->is_object()) return out;
  const json::object& config = found->get_object();
  THAW_RETURN_IF_ERROR(read_words(config, "Entrypoint", out.entrypoint));
  THAW_RETURN_IF_ERROR(read_words(config, "Cmd", out.cmd));
  std::vector<std::string> variables;
  THAW_RETURN_IF_ERROR(read_words(config, "Env", variables));
  for (const std::string& variable : variables) {
    const std::size_t equals = variable.find('=');
    if (equals == 0 || equals == std::string::npos) return wrong("config", "Env has something that is no NAME=value");
    out.env[variable.substr(0, equals)] = variable.substr(equals + 1);
  }
  if (const std::string directory = text_of(config, "WorkingDir"); !directory.empty()) {
    if (!directory.starts_with('/') || directory.size() > 4'000 || directory.find('\0') != std::string::npos)
      return wrong("config", "WorkingDir is no absolute path");
    out.working_dir = directory;
  }
  return out;
}

}  // namespace thaw::node
