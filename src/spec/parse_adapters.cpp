#include "spec/parse_adapters.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/revision.h"
#include "spec/parse.h"
#include "spec/parse_parameters.h"

namespace thaw::spec {
namespace {

constexpr std::uint64_t kMaxAdapterBytes = 1ULL << 50;
constexpr std::array<std::string_view, 7> kOfAdapters{"base",       "source",         "engine",      "aliases",
                                                      "parameters", "requestTimeout", "stallTimeout"};

std::string name_shape() {
  return R"({"type":"string","maxLength":63,"pattern":"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"})";
}

void read_name(const Cursor& at, std::string& into) {
  std::string name;
  if (!read_text(at, name)) return;
  if (is_model_name(name))
    into = name;
  else
    at.refuse(fmt::format(
        "\"{}\" is no model's name; use 1 to 63 of a-z, 0-9, \".\", \"_\" and \"-\", a letter or digit first and last",
        printable(name)));
}

const Table<Adapter>& adapter_table() {
  static const Table<Adapter> table{
      required<Adapter>(
          {"name", [](const Cursor& at, Adapter& into) { read_name(at, into.name); }, false, name_shape()}),
      required(path("path", &Adapter::path, "")),
      {"bytes", [](const Cursor& at, Adapter& into) { read_whole(at, 0, kMaxAdapterBytes, into.bytes); }, false,
       shapes::whole(0, kMaxAdapterBytes)}};
  return table;
}

}  // namespace

void read_base(const Cursor& at, ModelSpec& into) {
  read_name(at, into.base_model);
}

std::string base_shape() {
  return name_shape();
}

void read_adapters(const Cursor& at, ModelSpec& into) {
  // The server's to say: whoever writes a spec leaves it out.
  read_items(at, {"adapters", "[{name: tone, path: /srv/models/tone.gguf}]", kMaxAdapters}, [&into](const Cursor& item) {
    read_table(item, adapter_table(), into.adapters.emplace_back());
  });
}

std::string adapters_shape() {
  return shapes::list(shape_of(adapter_table()), kMaxAdapters);
}

void check_adapter(const Cursor& at, const ModelSpec& spec) {
  if (!spec.is_adapter()) return;
  if (spec.base_model == base::public_model(spec.name))
    at.at("base").refuse("is the model itself; name the model whose adapter it is");
  for (const YamlValue::Key& key : at.value.keys)
    if (std::find(kOfAdapters.begin(), kOfAdapters.end(), key.text) == kOfAdapters.end())
      at.at(key.text).refuse(fmt::format(
          "is not for adapters, which run in their base's replicas; set it for model \"{}\"", spec.base_model));
  if (spec.engine == EngineKind::command) at.at("engine").refuse("is its base's; leave it out");
}

bool same_adapters(const std::vector<Adapter>& a, const std::vector<Adapter>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Adapter& one, const Adapter& other) {
    return one.name == other.name && one.path == other.path;
  });
}

std::optional<std::size_t> place_of_adapter(const ModelSpec& base, std::string_view name, std::string_view path) {
  for (std::size_t n = 0; n < base.adapters.size(); ++n)
    if (base.adapters[n].name == name && base.adapters[n].path == path) return n;
  return std::nullopt;
}

}  // namespace thaw::spec
