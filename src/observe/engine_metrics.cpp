#include "observe/engine_metrics.h"

#include <algorithm>
#include <optional>

namespace thaw::observe {
namespace {

constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:";
constexpr std::string_view kValueCharacters =
    "0123456789+-.eEInfNa \t";  // a number, +Inf, NaN; perhaps a time after it

std::string_view name_at(std::string_view text) {
  return text.substr(0, std::min(text.find_first_not_of(kNameCharacters), text.size()));
}

/// The labels between the braces as they are to be written, and what stands behind the braces.
struct Labels {
  std::string text;
  std::string_view rest;
};

/// `text`: from the opening brace on. Nothing when it is none.
std::optional<Labels> read_labels(std::string_view text) {
  Labels labels;
  text.remove_prefix(1);
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(" ,"), text.size()));
    if (text.empty()) return std::nullopt;
    if (text.front() == '}') {
      labels.rest = text.substr(1);
      return labels;
    }
    const std::string_view name = name_at(text);
    if (name.empty() || text.substr(name.size(), 2) != "=\"") return std::nullopt;
    std::size_t end = name.size() + 2;
    while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2U : 1U;
    if (end >= text.size()) return std::nullopt;
    if (!labels.text.empty()) labels.text += ',';
    if (name == "model" || name == "instance") labels.text += "exported_";
    labels.text += text.substr(0, end + 1);
    text.remove_prefix(end + 1);
  }
}

/// Whether a sample of this name is of the family: a histogram's are named after its parts.
bool belongs(std::string_view sample, std::string_view family) {
  if (!sample.starts_with(family)) return false;
  const std::string_view part = sample.substr(family.size());
  return part.empty() || part == "_bucket" || part == "_sum" || part == "_count" || part == "_total" ||
         part == "_created";
}

}  // namespace

EngineMetrics::Family* EngineMetrics::family(std::string_view name) {
  const auto known = families_.find(name);
  if (known != families_.end()) return &known->second;
  return families_.size() < kMaxFamilies ? &families_[std::string(name)] : nullptr;
}

/// "# HELP name text", "# TYPE name histogram"; other comments say nothing.
void EngineMetrics::add_comment(std::string_view line, std::string& current) {
  const bool help = line.starts_with("# HELP ");
  if (!help && !line.starts_with("# TYPE ")) return;
  const std::string_view name = name_at(line.substr(7));
  Family* of = name.empty() ? nullptr : family(name);
  if (of == nullptr) return;
  current = name;
  std::string& kept = help ? of->help : of->type;
  if (!kept.empty()) return;
  kept = std::string(line) + "\n";
  bytes_ += kept.size();
}

void EngineMetrics::add_sample(std::string_view line, const std::string& current, const std::string& labels) {
  const std::string_view name = name_at(line);
  std::string_view rest = line.substr(name.size());
  if (name.empty() || rest.empty()) return;
  std::string own;
  if (rest.front() == '{') {
    auto read = read_labels(rest);
    if (!read) return;
    own = std::move(read->text);
    rest = read->rest;
  }
  if (!rest.starts_with(" ") || rest.find_first_not_of(kValueCharacters) != std::string_view::npos) return;
  Family* of = family(!current.empty() && belongs(name, current) ? std::string_view(current) : name);
  if (of == nullptr) return;
  const std::size_t before = of->samples.size();
  of->samples += name;
  of->samples += "{" + labels + (own.empty() ? "" : "," + own) + "}";
  of->samples += rest;
  of->samples += "\n";
  bytes_ += of->samples.size() - before;
}

void EngineMetrics::add(std::string_view text, std::string_view model, std::uint64_t instance) {
  const std::string labels = "model=\"" + std::string(model) + "\",instance=\"" + std::to_string(instance) + "\"";
  std::string current;
  while (!text.empty() && bytes_ < kMaxBytes) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (line.front() == '#')
      add_comment(line, current);
    else
      add_sample(line, current, labels);
  }
}

std::string EngineMetrics::text() const {
  std::string out;
  out.reserve(bytes_);
  for (const auto& [name, family] : families_)
    if (!family.samples.empty()) out += family.help + family.type + family.samples;
  return out;
}

}  // namespace thaw::observe
