#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "spec/shapes.h"
#include "spec/yaml.h"

/// Reading a mapping into a struct by a table: each key stands there once, with the member it sets and the bounds it
/// keeps. Whatever is not in the table, stands twice or breaks its bounds becomes a problem with its place; reading
/// goes on after it.
namespace thaw::spec {

/// A value, the way to it ("spec.scaling.queue") and where problems with it go.
struct Cursor {
  const YamlValue& value;
  std::string path;
  Problems& problems;

  void refuse(std::string_view message) const { problems.add(value.place, path, message); }
  [[nodiscard]] Cursor child(const std::string& key, const YamlValue& of) const;
  /// The value of `key` in this mapping; itself when there is none (so that a problem still has a place).
  [[nodiscard]] Cursor at(const std::string& key) const;
};

template <typename T>
struct Field {
  std::string key;
  std::function<void(const Cursor&, T&)> read;
  bool required = false;
  std::string shape = shapes::kAnything;  ///< what `read` takes, as JSON Schema
};

template <typename T>
using Table = std::vector<Field<T>>;

template <typename T>
std::string shape_of(const Table<T>& table) {
  std::vector<shapes::Property> properties;
  for (const Field<T>& field : table) properties.push_back({field.key, field.shape, field.required});
  return shapes::object(properties);
}

/// A key that was found: its row in the table and its value.
struct Match {
  std::size_t row;
  const YamlValue* value;
};

/// The table's keys that stand in the mapping at `at`, in its order; problems for everything else. `required` is per
/// key.
std::vector<Match> match_keys(const Cursor& at, const std::vector<std::string>& keys,
                              const std::vector<bool>& required);

template <typename T>
void read_table(const Cursor& at, const Table<T>& table, T& into) {
  std::vector<std::string> keys;
  std::vector<bool> required;
  for (const Field<T>& field : table) {
    keys.push_back(field.key);
    required.push_back(field.required);
  }
  for (const Match& match : match_keys(at, keys, required))
    table[match.row].read(at.child(keys[match.row], *match.value), into);
}

// Readers of one value: true and `into` set, or a problem. Ranges include both ends.
bool read_text(const Cursor& at, std::string& into);  ///< UTF-8, no control characters but tab and line ends
bool read_path(const Cursor& at, const std::string& base_directory, std::string& into);
bool read_whole(const Cursor& at, std::uint64_t min, std::uint64_t max, std::uint64_t& into);
bool read_real(const Cursor& at, double min, double max, double& into);
bool read_bytes(const Cursor& at, std::uint64_t min, std::uint64_t max, std::uint64_t& into);
bool read_duration(const Cursor& at, base::Duration min, base::Duration max, base::Duration& into);
bool read_choice(const Cursor& at, const std::vector<std::string>& names, std::size_t& index);

/// What a list is of, in words ("directories"), one of them as it is written, and how many there may be.
struct ListForm {
  const char* of;
  const char* example;
  std::size_t most;
};
/// Calls `read` for each item of a list, at its own place ("spec.aliases[2]"). Problems for what is no list, or too long: then for none.
void read_items(const Cursor& at, const ListForm& form, const std::function<void(const Cursor&)>& read);

// Rows of tables. `member` may be a std::optional of the type read.
template <typename T>
Field<T> text(const char* key, std::string T::*member) {
  return {key, [=](const Cursor& at, T& into) { read_text(at, into.*member); }, false, shapes::text()};
}

/// An absolute path; a relative one is taken from `base_directory`, or refused when that is empty.
template <typename T>
Field<T> path(const char* key, std::string T::*member, const std::string& base_directory) {
  return {key, [=](const Cursor& at, T& into) { read_path(at, base_directory, into.*member); }, false, shapes::text()};
}

template <typename T>
Field<T> whole(const char* key, std::uint32_t T::*member, std::uint32_t min, std::uint32_t max) {
  return {key, [=](const Cursor& at, T& into) {
            std::uint64_t value = 0;
            if (read_whole(at, min, max, value)) into.*member = static_cast<std::uint32_t>(value);
          },
          false, shapes::whole(min, max)};
}

template <typename T, typename Member>
Field<T> real(const char* key, Member T::*member, double min, double max) {
  return {key, [=](const Cursor& at, T& into) {
            double value = 0;
            if (read_real(at, min, max, value)) into.*member = value;
          },
          false, shapes::real(min, max)};
}

template <typename T, typename Member>
Field<T> bytes(const char* key, Member T::*member, std::uint64_t min, std::uint64_t max) {
  return {key, [=](const Cursor& at, T& into) {
            std::uint64_t value = 0;
            if (read_bytes(at, min, max, value)) into.*member = value;
          },
          false, shapes::bytes(min, max)};
}

template <typename T>
Field<T> duration(const char* key, base::Duration T::*member, base::Duration min, base::Duration max) {
  return {key, [=](const Cursor& at, T& into) { read_duration(at, min, max, into.*member); }, false, shapes::duration()};
}

template <typename T, typename Member>
Field<T> choice(const char* key, Member T::*member, const std::vector<std::pair<std::string, Member>>& choices) {
  std::vector<std::string> all;
  for (const auto& [name, value] : choices) all.push_back(name);
  return {key, [=](const Cursor& at, T& into) {
            std::vector<std::string> names;
            for (const auto& [name, value] : choices) names.push_back(name);
            std::size_t index = 0;
            if (read_choice(at, names, index)) into.*member = choices[index].second;
          },
          false, shapes::choice(all)};
}

template <typename T, typename Member>
Field<T> nested(const char* key, Member T::*member, const Table<Member>& table) {
  return {key, [=](const Cursor& at, T& into) { read_table(at, table, into.*member); }, false, shape_of(table)};
}

/// A mapping whose keys set members of the struct around it.
template <typename T>
Field<T> group(const char* key, const Table<T>& table) {
  return {key, [=](const Cursor& at, T& into) { read_table(at, table, into); }, false, shape_of(table)};
}

template <typename T>
Field<T> required(Field<T> field) {
  field.required = true;
  return field;
}

inline constexpr const char* kApiVersion = "thaw/v1";

/// Checks apiVersion and kind before all else: in a text of another kind every further problem would mislead. False:
/// refused.
bool read_header(const Cursor& root, const std::string& kind, bool required);

/// The rows for apiVersion and kind, which read_header has read. `needed`: by whoever writes a whole text.
template <typename T>
Table<T> header_fields(const std::string& kind, bool needed) {
  return {{"apiVersion", [](const Cursor&, T&) {}, needed, shapes::constant(kApiVersion)}, {"kind", [](const Cursor&, T&) {}, needed, shapes::constant(kind)}};
}

}  // namespace thaw::spec
