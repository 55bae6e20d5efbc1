#include "node/cdi/cdi_spec.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "spec/fields.h"
#include "spec/yaml.h"

namespace thaw::node {
namespace {

using spec::Cursor;
using spec::Field;
using spec::Table;
using spec::YamlValue;

constexpr std::size_t kMaxKind = 253;
constexpr std::size_t kMaxDeviceName = 253;
constexpr std::uint32_t kMaxMode = 07777;
constexpr std::uint32_t kMaxTimeout_s = 3600;
constexpr std::uint32_t kMaxId = std::numeric_limits<std::int32_t>::max();
constexpr std::array kHookNames{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

/// Letters, digits and those of `others`; a letter or digit at both ends.
bool is_label(std::string_view text, std::string_view others) {
  return !text.empty() && is_alnum(text.front()) && is_alnum(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return is_alnum(c) || others.find(c) != std::string_view::npos; });
}

bool is_letter(char c) { return is_alnum(c) && (c < '0' || c > '9'); }

bool is_kind(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || text.size() > kMaxKind) return false;
  const std::string_view vendor = text.substr(0, slash);
  const std::string_view type = text.substr(slash + 1);
  return is_label(vendor, "._-") && is_letter(vendor.front()) && is_label(type, "._-") && is_letter(type.front());
}

bool is_known_version(std::string_view text) {
  if (text.starts_with('v')) text.remove_prefix(1);
  std::array<unsigned, 3> parts{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string_view part = text.substr(0, text.find('.'));
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), parts.at(i));
    if (part.empty() || error != std::errc{} || end != part.data() + part.size()) return false;
    if (i + 1 < parts.size() && part.size() == text.size()) return false;
    text.remove_prefix(std::min(text.size(), part.size() + 1));
  }
  if (!text.empty()) return false;
  return parts[0] == 0 ? parts[1] >= 3 && parts[1] <= 8 : parts[0] == 1 && parts[1] <= 1;
}

/// Absolute, and nothing that leads elsewhere.
bool is_plain_path(std::string_view path) {
  if (!path.starts_with('/')) return false;
  return ("/" + std::string(path) + "/").find("/../") == std::string::npos;
}

template <typename T>
Field<T> plain_path(const char* key, std::string T::*member) {
  return {key, [=](const Cursor& at, T& into) {
            std::string path;
            if (!read_text(at, path)) return;
            if (is_plain_path(path))
              into.*member = path;
            else
              at.refuse("must be an absolute path without \"..\"");
          }};
}

/// One of a few words.
template <typename T>
Field<T> word(const char* key, std::string T::*member, std::vector<std::string> words) {
  return {key, [=](const Cursor& at, T& into) {
            std::size_t index = 0;
            if (read_choice(at, words, index)) into.*member = words[index];
          }};
}

template <typename T, typename Read>
Field<T> list(const char* key, Read read_item) {
  return {key, [=](const Cursor& at, T& into) {
            if (at.value.kind == YamlValue::Kind::null) return;  // Go writes an empty list so
            if (at.value.kind != YamlValue::Kind::sequence) return at.refuse("must be a list");
            for (std::size_t i = 0; i < at.value.items.size(); ++i)
              read_item(Cursor{at.value.items[i], fmt::format("{}[{}]", at.path, i), at.problems}, into);
          }};
}

template <typename T>
Field<T> words(const char* key, std::vector<std::string> T::*member) {
  return list<T>(key, [=](const Cursor& at, T& into) {
    if (std::string text; read_text(at, text)) (into.*member).push_back(text);
  });
}

template <typename T>
Field<T> variables(const char* key, std::vector<std::string> T::*member) {
  return list<T>(key, [=](const Cursor& at, T& into) {
    std::string text;
    if (!read_text(at, text)) return;
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      at.refuse("must be written NAME=value");
    else
      (into.*member).push_back(text);
  });
}

template <typename T, typename Number>
Field<T> number(const char* key, std::optional<Number> T::*member, std::uint64_t min, std::uint64_t max) {
  return {key, [=](const Cursor& at, T& into) {
            if (std::uint64_t value = 0; read_whole(at, min, max, value)) into.*member = static_cast<Number>(value);
          }};
}

template <typename T>
Field<T> ignored(const char* key) {
  return {key, [](const Cursor&, T&) {}};
}

Table<CdiDeviceNode> node_table() {
  return {spec::required(plain_path("path", &CdiDeviceNode::path)),
          plain_path("hostPath", &CdiDeviceNode::host_path),
          word("type", &CdiDeviceNode::type, {"b", "c", "u", "p"}),
          number("major", &CdiDeviceNode::major, 0, kMaxId),
          number("minor", &CdiDeviceNode::minor, 0, kMaxId),
          number("fileMode", &CdiDeviceNode::file_mode, 0, kMaxMode),
          {"permissions",
           [](const Cursor& at, CdiDeviceNode& into) {
             std::string text;
             if (!read_text(at, text)) return;
             if (text.find_first_not_of("rwm") == std::string::npos && text.size() <= 3)
               into.permissions = text;
             else
               at.refuse("must be of the letters r, w and m");
           }},
          // The file is bound as it is: its owner is the host's, who is nobody in a user namespace.
          ignored<CdiDeviceNode>("uid"),
          ignored<CdiDeviceNode>("gid")};
}

Table<CdiMount> mount_table() {
  return {spec::required(plain_path("hostPath", &CdiMount::host_path)),
          spec::required(plain_path("containerPath", &CdiMount::container_path)), spec::text("type", &CdiMount::type),
          words("options", &CdiMount::options)};
}

Table<CdiHook> hook_table() {
  return {spec::required(word("hookName", &CdiHook::name, {kHookNames.begin(), kHookNames.end()})),
          spec::required(plain_path("path", &CdiHook::path)), words("args", &CdiHook::args),
          variables("env", &CdiHook::env), number("timeout", &CdiHook::timeout_s, 1, kMaxTimeout_s)};
}

Field<CdiEdits> refused(const char* key, const char* why) {
  return {key, [why](const Cursor& at, CdiEdits&) {
            if (at.value.kind != YamlValue::Kind::null) at.refuse(why);
          }};
}

Table<CdiEdits> edits_table() {
  return {variables("env", &CdiEdits::env),
          list<CdiEdits>("deviceNodes",
                         [table = node_table()](const Cursor& at, CdiEdits& into) { read_table(at, table, into.device_nodes.emplace_back()); }),
          list<CdiEdits>("mounts", [table = mount_table()](const Cursor& at, CdiEdits& into) { read_table(at, table, into.mounts.emplace_back()); }),
          list<CdiEdits>("hooks", [table = hook_table()](const Cursor& at, CdiEdits& into) { read_table(at, table, into.hooks.emplace_back()); }),
          list<CdiEdits>("additionalGids",
                         [](const Cursor& at, CdiEdits& into) {
                           if (std::uint64_t gid = 0; read_whole(at, 0, kMaxId, gid)) into.additional_gids.push_back(static_cast<std::uint32_t>(gid));
                         }),
          refused("intelRdt", "is not supported: sandboxes are in no resource control group of Intel RDT"),
          refused("netDevices", "is not supported: sandboxes have no network but loopback")};
}

Table<CdiDevice> device_table() {
  return {spec::required<CdiDevice>({"name",
                                     [](const Cursor& at, CdiDevice& into) {
                                       std::string name;
                                       if (!read_text(at, name)) return;
                                       if (name.size() <= kMaxDeviceName && is_label(name, "._:-"))
                                         into.name = name;
                                       else
                                         at.refuse("is no name of a device; use letters, digits, \".\", \"_\", \":\" and \"-\"");
                                     }}),
          ignored<CdiDevice>("annotations"),
          spec::required(spec::nested("containerEdits", &CdiDevice::edits, edits_table()))};
}

Table<CdiSpec> spec_table() {
  return {spec::required<CdiSpec>({"cdiVersion",
                                   [](const Cursor& at, CdiSpec& into) {
                                     if (!read_text(at, into.version) || is_known_version(into.version)) return;
                                     at.refuse(fmt::format("{} is no version of CDI that is known here (0.3.0 to 1.1.0)", spec::printable(into.version)));
                                   }}),
          spec::required<CdiSpec>({"kind",
                                   [](const Cursor& at, CdiSpec& into) {
                                     if (read_text(at, into.kind) && !is_kind(into.kind)) at.refuse("must be VENDOR/CLASS, as nvidia.com/gpu");
                                   }}),
          ignored<CdiSpec>("annotations"),
          spec::required(list<CdiSpec>(
              "devices", [table = device_table()](const Cursor& at, CdiSpec& into) { read_table(at, table, into.devices.emplace_back()); })),
          spec::nested("containerEdits", &CdiSpec::edits, edits_table())};
}

void check_names(const Cursor& at, const CdiSpec& parsed) {
  std::vector<std::string> names;
  for (const CdiDevice& device : parsed.devices) names.push_back(device.name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end() && !twice->empty())
    at.refuse(fmt::format("the device {} is there twice", *twice));
}

template <typename T>
void append_all(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

void CdiEdits::append(const CdiEdits& others) {
  append_all(env, others.env);
  append_all(device_nodes, others.device_nodes);
  append_all(mounts, others.mounts);
  append_all(hooks, others.hooks);
  append_all(additional_gids, others.additional_gids);
}

base::Result<CdiSpec> parse_cdi(std::string_view text, const std::string& file) {
  spec::Problems problems;
  CdiSpec parsed;
  if (const auto root = spec::read_yaml(text, problems)) {
    const Cursor at{*root, "", problems};
    static const Table<CdiSpec> table = spec_table();
    read_table(at, table, parsed);
    check_names(at.at("devices"), parsed);
  }
  if (!problems.empty()) return problems.to_error(file);
  return parsed;
}

}  // namespace thaw::node
