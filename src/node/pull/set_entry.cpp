#include "node/pull/set_entry.h"

#include <boost/json.hpp>

namespace thaw::node::pull {
namespace {

namespace json = boost::json;

bool read_text(const json::object& object, std::string_view key, std::string& into) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) return false;
  into = std::string(value->get_string());
  return true;
}

bool is_digest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}
bool is_name(const std::string& text) {
  return !text.empty() && text != "." && text != ".." && text.find('/') == std::string::npos;
}

}  // namespace

std::string to_json(const PulledSet& set) {
  json::array files;
  for (const PulledFile& file : set.files) files.push_back(json::object{{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return json::serialize(json::object{
      {"source", set.source}, {"revision", set.revision}, {"main", set.main}, {"pulled_unix_ms", set.pulled_unix_ms}, {"files", std::move(files)}});
}

base::Result<PulledSet> parse_set(std::string_view text) {
  const base::Error damaged{base::ErrorKind::invalid, "what is known of a pulled source is damaged"};
  json::error_code error;
  const json::value document = json::parse({text.data(), text.size()}, error);
  if (error || !document.is_object()) return damaged;
  const json::object& object = document.get_object();
  PulledSet set;
  const auto* files = object.if_contains("files");
  const auto* when = object.if_contains("pulled_unix_ms");
  if (!read_text(object, "source", set.source) || !read_text(object, "revision", set.revision) || !read_text(object, "main", set.main) ||
      files == nullptr || !files->is_array() || files->get_array().empty() || when == nullptr || !when->is_int64())
    return damaged;
  set.pulled_unix_ms = when->get_int64();
  for (const json::value& item : files->get_array()) {
    PulledFile file;
    if (!item.is_object() || !read_text(item.get_object(), "name", file.name) || !read_text(item.get_object(), "sha256", file.sha256)) return damaged;
    const auto* bytes = item.get_object().if_contains("bytes");
    if (bytes == nullptr || !bytes->is_int64() || bytes->get_int64() < 0 || !is_name(file.name) || !is_digest(file.sha256)) return damaged;
    file.bytes = static_cast<std::uint64_t>(bytes->get_int64());
    set.files.push_back(std::move(file));
  }
  return set;
}

}  // namespace thaw::node::pull
