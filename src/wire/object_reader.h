#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

/// Takes the fields of a JSON object one by one. Strict: each must be there with its type, and none may be left over.
/// The first problem wins ("start_instance.device: ..."), later calls do nothing, so that a caller asks once, in
/// finish().
namespace thaw::wire {

class ObjectReader {
 public:
  /// `value` must outlive the reader. `path` names it in errors.
  ObjectReader(const boost::json::value& value, std::string path);

  void text(const char* key, std::string& into, std::size_t max_bytes = kMaxText);
  void natural(const char* key, std::uint64_t& into);
  void flag(const char* key, bool& into);
  void duration_ns(const char* key, base::Duration& into);  ///< a whole number, not negative

  template <typename Tag>
  void name(const char* key, base::StrongString<Tag>& into) {
    std::string value;
    text(key, value);
    if (ok() && value.empty()) fail(key, "is empty");
    into = base::StrongString<Tag>(std::move(value));
  }

  template <typename Tag>
  void id(const char* key, base::StrongNumber<Tag>& into) {
    std::uint64_t value = 0;
    natural(key, value);
    if (ok() && value == 0) fail(key, "must not be 0");
    into = base::StrongNumber<Tag>(value);
  }

  /// One of the names; `into` becomes values[i] for names[i].
  template <typename Enum>
  void choice(const char* key, const std::vector<Enum>& values, Enum& into) {
    std::string name;
    text(key, name);
    for (const Enum value : values)
      if (ok() && name == to_string(value)) {
        into = value;
        return;
      }
    if (ok()) fail(key, "is unknown");
  }

  /// Calls read(ObjectReader&, T&) for every element of an array.
  template <typename T, typename Read>
  void list(const char* key, std::size_t max_count, std::vector<T>& into, const Read& read) {
    const auto* elements = array(key, max_count);
    if (elements == nullptr) return;
    for (std::size_t i = 0; i < elements->size() && ok(); ++i) {
      ObjectReader element((*elements)[i], path_ + "." + key + "[" + std::to_string(i) + "]");
      read(element, into.emplace_back());
      if (auto status = element.finish(); !status) status_ = std::move(status);
    }
  }

  /// An array of names, each as name() takes them.
  template <typename Tag>
  void names(const char* key, std::size_t max_count, std::vector<base::StrongString<Tag>>& into) {
    const auto* elements = array(key, max_count);
    if (elements == nullptr) return;
    for (const boost::json::value& element : *elements) {
      const auto* text = element.if_string();
      if (text == nullptr || text->empty() || text->size() > kMaxText) return fail(key, "must be an array of names");
      into.emplace_back(std::string(text->data(), text->size()));
    }
  }

  /// Calls read(ObjectReader&) for an object inside.
  template <typename Read>
  void object(const char* key, const Read& read) {
    const auto* value = take(key);
    if (value == nullptr) return;
    ObjectReader inner(*value, path_ + "." + key);
    read(inner);
    if (auto status = inner.finish(); !status) status_ = std::move(status);
  }

  /// Whether there is such a field, for those that need not be there.
  [[nodiscard]] bool has(const char* key) const { return ok() && object_->contains(key); }

  /// The value itself, for others to read; null when it is missing.
  const boost::json::value* any(const char* key) { return take(key); }

  void fail(const char* key, std::string_view problem);
  [[nodiscard]] bool ok() const { return status_.ok(); }
  [[nodiscard]] const std::string& path() const { return path_; }

  /// The first problem; if there is none, refuses fields that nobody took.
  base::Status finish();

  static constexpr std::size_t kMaxText = 4096;  ///< bytes; names and paths are shorter

 private:
  const boost::json::value* take(const char* key);
  const boost::json::array* array(const char* key, std::size_t max_count);

  const boost::json::object* object_ = nullptr;
  std::string path_;
  std::vector<std::string_view> taken_;
  base::Status status_;
};

/// Parses a whole message under bounds: size, depth, valid UTF-8. `what` names it in errors.
base::Result<boost::json::value> parse_json(std::string_view text, const std::string& what);

}  // namespace thaw::wire
