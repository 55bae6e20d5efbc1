#include "node/oci/image_record.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "node/images/durable.h"
#include "spec/image_ref.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

constexpr unsigned kOurs = 0600;

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

}  // namespace

/// With the config as images have it, so that one reader checks both.
std::string to_json(const StoredImage& image) {
  const OciConfig& config = image.config;
  json::array env;
  for (const auto& [name, value] : config.env) env.emplace_back(name + "=" + value);
  const json::object inner{{"Entrypoint", json::array(config.entrypoint.begin(), config.entrypoint.end())},
                           {"Cmd", json::array(config.cmd.begin(), config.cmd.end())},
                           {"Env", std::move(env)},
                           {"WorkingDir", config.working_dir}};
  return json::serialize(json::object{{"digest", image.digest},
                                      {"image", image.name},
                                      {"fetched_unix_ms", image.fetched_unix_ms},
                                      {"config", inner},
                                      {"rootfs", {{"type", "layers"}, {"diff_ids", json::array(config.diff_ids.begin(), config.diff_ids.end())}}}});
}

base::Result<StoredImage> read_image_record(std::string_view text) {
  const base::Error wrong{base::ErrorKind::invalid, "it is no record of an image"};
  json::error_code error;
  const json::value value = json::parse({text.data(), text.size()}, error);
  if (error || !value.is_object()) return wrong;
  const json::object& object = value.get_object();
  StoredImage image;
  image.digest = text_of(object, "digest");
  image.name = text_of(object, "image");
  const json::value* const fetched = object.if_contains("fetched_unix_ms");
  if (!spec::is_digest(image.digest) || image.name.empty() || fetched == nullptr || !fetched->is_int64()) return wrong;
  image.fetched_unix_ms = fetched->get_int64();
  THAW_ASSIGN_OR_RETURN(image.config, read_image_config(text));
  return image;
}

base::Status write_durably_again(const std::string& path, std::string_view text) {
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());
  THAW_RETURN_IF_ERROR(write_durably(fresh, text, kOurs));
  if (::rename(fresh.c_str(), path.c_str()) != 0) return base::errno_error("cannot replace " + path, errno);
  return sync_directory(std::filesystem::path(path).parent_path());
}

}  // namespace thaw::node
