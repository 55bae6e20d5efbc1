#include "wire/object_reader.h"

#include <algorithm>

#include <fmt/format.h>
#include <boost/json/parse.hpp>

namespace thaw::wire {
namespace {

constexpr std::size_t kMaxMessage_bytes = 2ULL << 20;  // a spec has at most 1 MiB
constexpr std::size_t kMaxDepth = 32;
constexpr std::size_t kMaxShownKey = 64;

}  // namespace

ObjectReader::ObjectReader(const boost::json::value& value, std::string path)
    : object_(value.if_object()), path_(std::move(path)) {
  if (object_ == nullptr) status_ = base::Error{base::ErrorKind::invalid, path_ + ": must be an object"};
}

void ObjectReader::fail(const char* key, std::string_view problem) {
  if (ok()) status_ = base::Error{base::ErrorKind::invalid, fmt::format("{}.{}: {}", path_, key, problem)};
}

const boost::json::value* ObjectReader::take(const char* key) {
  if (!ok()) return nullptr;
  const boost::json::value* value = object_->if_contains(key);
  if (value == nullptr) fail(key, "is missing");
  taken_.emplace_back(key);
  return value;
}

void ObjectReader::text(const char* key, std::string& into, std::size_t max_bytes) {
  const auto* value = take(key);
  if (value == nullptr) return;
  const auto* string = value->if_string();
  if (string == nullptr) return fail(key, "must be a string");
  if (string->size() > max_bytes) return fail(key, fmt::format("is longer than {} bytes", max_bytes));
  into.assign(string->data(), string->size());
}

void ObjectReader::natural(const char* key, std::uint64_t& into) {
  const auto* value = take(key);
  if (value == nullptr) return;
  if (const auto* number = value->if_uint64())
    into = *number;
  else if (const auto* small = value->if_int64(); small != nullptr && *small >= 0)
    into = static_cast<std::uint64_t>(*small);
  else
    fail(key, "must be a whole number from 0 to 2^64 - 1");
}

void ObjectReader::flag(const char* key, bool& into) {
  const auto* value = take(key);
  if (value == nullptr) return;
  if (const auto* flag = value->if_bool())
    into = *flag;
  else
    fail(key, "must be true or false");
}

void ObjectReader::duration_ns(const char* key, base::Duration& into) {
  std::uint64_t value = 0;
  natural(key, value);
  if (ok() && value > static_cast<std::uint64_t>(base::Duration::max().count()))
    fail(key, "is longer than 2^63 - 1 nanoseconds");
  if (ok()) into = base::Duration(static_cast<base::Duration::rep>(value));
}

const boost::json::array* ObjectReader::array(const char* key, std::size_t max_count) {
  const auto* value = take(key);
  if (value == nullptr) return nullptr;
  const auto* elements = value->if_array();
  if (elements == nullptr) {
    fail(key, "must be an array");
  } else if (elements->size() > max_count) {
    fail(key, fmt::format("has more than {} elements", max_count));
  }
  return ok() ? elements : nullptr;
}

base::Status ObjectReader::finish() {
  if (!ok()) return status_;
  for (const auto& field : *object_) {
    const std::string_view key(field.key().data(), field.key().size());
    if (std::find(taken_.begin(), taken_.end(), key) == taken_.end())
      return base::Error{base::ErrorKind::invalid,
                         fmt::format("{}.{}: unknown field", path_, key.substr(0, kMaxShownKey))};
  }
  return {};
}

base::Result<boost::json::value> parse_json(std::string_view text, const std::string& what) {
  if (text.size() > kMaxMessage_bytes)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("{}: {} bytes; at most {} are read", what, text.size(), kMaxMessage_bytes)};
  boost::json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::json::error_code error;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error, {}, options);
  if (error) return base::Error{base::ErrorKind::invalid, what + ": no JSON: " + error.message()};
  return value;
}

}  // namespace thaw::wire
