#include "node/images/manifest.h"

#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <numeric>

#include "wire/object_reader.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxFiles = 1'024;
constexpr std::size_t kMaxStrings = 8'192;
constexpr std::size_t kMaxText_bytes = 256 * 1024;  // what thaw-init takes of a command line

/// Lists of plain strings are objects of one field, since the reader reads objects.
json::array texts(const std::vector<std::string>& strings) {
  json::array out;
  for (const std::string& text : strings) out.push_back(json::object{{"text", text}});
  return out;
}

void read_texts(wire::ObjectReader& from, const char* key, std::vector<std::string>& into) {
  from.list(key, kMaxStrings, into,
            [](wire::ObjectReader& element, std::string& text) { element.text("text", text, kMaxText_bytes); });
}

json::object origin_json(const Origin& origin) {
  json::array models;
  for (const FileIdentity& file : origin.model_files)
    models.push_back(
        json::object{{"path", file.path}, {"bytes", file.bytes}, {"mtime_ns", std::to_string(file.mtime_ns)}});
  json::array env;
  for (const auto& [name, value] : origin.env) env.push_back(json::object{{"name", name}, {"value", value}});
  return {{"runtime", origin.runtime},
          {"cpu", origin.cpu},
          {"engine", origin.engine},
          {"engine_digest", origin.engine_digest},
          {"model_files", std::move(models)},
          {"argv", texts(origin.argv)},
          {"env", std::move(env)}};
}

void read_origin(wire::ObjectReader& from, Origin& origin) {
  from.text("runtime", origin.runtime);
  from.text("cpu", origin.cpu, kMaxText_bytes);
  from.text("engine", origin.engine);
  from.text("engine_digest", origin.engine_digest);
  from.list("model_files", kMaxFiles, origin.model_files, [](wire::ObjectReader& element, FileIdentity& file) {
    element.text("path", file.path);
    element.natural("bytes", file.bytes);
    std::string mtime;
    element.text("mtime_ns", mtime);
    char* end = nullptr;
    file.mtime_ns = std::strtoll(mtime.c_str(), &end, 10);
    if (element.ok() && (mtime.empty() || *end != '\0')) element.fail("mtime_ns", "is no number");
  });
  read_texts(from, "argv", origin.argv);
  std::vector<std::pair<std::string, std::string>> env;
  from.list("env", kMaxStrings, env, [](wire::ObjectReader& element, auto& entry) {
    element.text("name", entry.first, kMaxText_bytes);
    element.text("value", entry.second, kMaxText_bytes);
  });
  origin.env = {env.begin(), env.end()};
}

}  // namespace

std::uint64_t Manifest::bytes() const {
  return std::accumulate(files.begin(), files.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const ImageFile& file) { return sum + file.bytes; });
}

std::string difference(const Origin& then, const Origin& now) {
  if (then.runtime != now.runtime) return fmt::format("it was made by {}, and this is {}", then.runtime, now.runtime);
  if (then.cpu != now.cpu) return "it was made on another kind of CPU";
  if (then.engine != now.engine) return fmt::format("the engine is now {}, and was {}", now.engine, then.engine);
  if (then.engine_digest != now.engine_digest) return "the engine or the host's libraries have changed";
  if (then.model_files != now.model_files) {
    for (std::size_t i = 0; i < then.model_files.size() && i < now.model_files.size(); ++i)
      if (then.model_files[i] != now.model_files[i])
        return "the model file " + now.model_files[i].path + " has changed";
    return "the model has other files than before";
  }
  if (then.argv != now.argv) return "the engine's arguments have changed";
  if (then.env != now.env) return "the engine's environment has changed";
  return {};
}

std::string to_json(const Manifest& manifest) {
  json::array files;
  for (const ImageFile& file : manifest.files)
    files.push_back(json::object{{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return json::serialize(json::object{{"format", Manifest::kFormat},
                                      {"image", manifest.image.str()},
                                      {"model", manifest.model.str()},
                                      {"driver", manifest.driver},
                                      {"created_unix_s", manifest.created_unix_s},
                                      {"device_bytes", manifest.device_bytes},
                                      {"start_took_ns", manifest.start_took.count()},
                                      {"origin", origin_json(manifest.origin)},
                                      {"extra_args", texts(manifest.extra_args)},
                                      {"choice", manifest.choice},
                                      {"files", std::move(files)}}) +
         "\n";
}

base::Result<Manifest> parse_manifest(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, wire::parse_json(text, "manifest.json"));
  Manifest manifest;
  wire::ObjectReader from(value, "manifest.json");
  std::uint64_t format = 0;
  from.natural("format", format);
  if (from.ok() && format != Manifest::kFormat) from.fail("format", "is of another version of thaw");
  from.name("image", manifest.image);
  from.name("model", manifest.model);
  from.text("driver", manifest.driver);
  from.natural("created_unix_s", manifest.created_unix_s);
  from.natural("device_bytes", manifest.device_bytes);
  from.duration_ns("start_took_ns", manifest.start_took);
  from.object("origin", [&](wire::ObjectReader& inner) { read_origin(inner, manifest.origin); });
  read_texts(from, "extra_args", manifest.extra_args);
  from.text("choice", manifest.choice);
  from.list("files", kMaxFiles, manifest.files, [](wire::ObjectReader& element, ImageFile& file) {
    element.text("name", file.name);
    element.natural("bytes", file.bytes);
    element.text("sha256", file.sha256);
    if (element.ok() && (file.name.empty() || file.name.find('/') != std::string::npos || file.name.front() == '.'))
      element.fail("name", "is no file's name");
  });
  THAW_RETURN_IF_ERROR(from.finish());
  return manifest;
}

}  // namespace thaw::node
