#include "node/pull/hub.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <boost/json.hpp>

namespace thaw::node::pull {
namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;

constexpr std::string_view kDefaultQuantisation = "Q4_K_M";  // llama.cpp's and Ollama's choice

std::string text_at(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::optional<std::uint64_t> size_at(const json::object& object) {
  const auto* value = object.if_contains("size");
  if (value == nullptr || !(value->is_int64() || value->is_uint64())) return std::nullopt;
  json::error_code error;
  const auto bytes = value->to_number<std::uint64_t>(error);
  if (error || bytes > 1ULL << 50) return std::nullopt;
  return bytes;
}

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Names become files of ours.
bool is_plain(std::string_view path) {
  constexpr std::size_t kMaxPath = 512;
  if (path.empty() || path.size() > kMaxPath) return false;
  if (std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f' || c == '\\'; })) return false;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, slash - at);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    at = slash + 1;
  }
  return true;
}

std::string percent_encoded(std::string_view path) {
  std::string encoded;
  for (const char c : path) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("-._~/").find(c) != std::string_view::npos;
    encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// "Q4_K_M" is a word of "model-Q4_K_M.gguf" and of "Q4_K_M/model.gguf", "Q4_K" is not, nor is "Q4_0" of "IQ4_0".
bool has_word(std::string_view path, std::string_view word) {
  const std::string where = lower(path);
  const std::string what = lower(word);
  const auto joins = [](char c) { return is_letter_or_digit(c) || c == '_'; };
  for (std::size_t at = where.find(what); at != std::string::npos; at = where.find(what, at + 1)) {
    const std::size_t end = at + what.size();
    if ((at == 0 || !joins(where[at - 1])) && (end == where.size() || !joins(where[end]))) return true;
  }
  return false;
}

/// A model's GGUF files, the parts of one together, by the name of the first.
using Groups = std::map<std::string, std::vector<HubFile>>;

Groups gguf_groups(const HubListing& listing) {
  Groups groups;
  for (const HubFile& file : listing.files) {
    const std::string name = lower(base_name(file.path));
    if (!name.ends_with(".gguf") || name.starts_with("mmproj") || name.find("-mmproj") != std::string::npos ||
        name.find("imatrix") != std::string::npos)
      continue;
    const auto split = spec::split_name(file.path);
    groups[split ? split->name(1) : file.path].push_back(file);
  }
  return groups;
}

std::string names_of(const Groups& groups) {
  constexpr std::size_t kShown = 30;
  std::string names;
  std::size_t shown = 0;
  for (const auto& [name, files] : groups) {
    if (shown++ == kShown) return names + fmt::format(", and {} more", groups.size() - kShown);
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

base::Result<Selection> whole_group(const std::string& first, std::vector<HubFile> files) {
  std::sort(files.begin(), files.end(), [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  const auto split = spec::split_name(first);
  if (split && files.size() != split->count)
    return Error{ErrorKind::not_found,
                 fmt::format("of the {} parts of {} the repository has only {}; its owner must upload the rest", split->count, first, files.size())};
  return Selection{std::move(files), base_name(first)};
}

base::Result<Selection> named_file(const HubListing& listing, const spec::HubRef& ref) {
  const auto found = std::find_if(listing.files.begin(), listing.files.end(), [&](const HubFile& file) { return file.path == ref.file; });
  if (found == listing.files.end()) {
    const Groups groups = gguf_groups(listing);
    return Error{ErrorKind::not_found, fmt::format("{} has no file {} at {}{}", ref.repo, ref.file, ref.revision,
                                                   groups.empty() ? "" : "; its GGUF files are " + names_of(groups))};
  }
  const auto split = spec::split_name(ref.file);
  if (!split) return Selection{{*found}, base_name(ref.file)};
  if (split->part != 1) return Error{ErrorKind::invalid, fmt::format("{} is not the first part of its model; name {}", ref.file, split->name(1))};
  Groups groups = gguf_groups(listing);
  return whole_group(ref.file, std::move(groups[ref.file]));
}

base::Result<Selection> gguf_of(const Groups& groups, const spec::HubRef& ref) {
  const bool chosen = !ref.quantisation.empty();
  const std::string wanted = chosen ? ref.quantisation : std::string(kDefaultQuantisation);
  Groups fitting;
  for (const auto& [name, files] : groups)
    if (has_word(name, wanted)) fitting.emplace(name, files);
  if (fitting.empty() && !chosen && groups.size() == 1) fitting = groups;
  if (fitting.size() == 1) return whole_group(fitting.begin()->first, fitting.begin()->second);
  if (fitting.empty() && chosen)
    return Error{ErrorKind::not_found, fmt::format("{} has no GGUF file of {}; it has {}", ref.repo, wanted, names_of(groups))};
  return Error{ErrorKind::invalid, fmt::format("{} has several models: name one as {}/FILE or {}:QUANTISATION; it has {}", ref.repo, ref.repo,
                                               ref.repo, names_of(fitting.empty() ? groups : fitting))};
}

/// What engines read beside the weights: configuration, tokenizer, chat template. No code.
bool belongs_to_weights(const std::string& path) {
  constexpr std::array kEndings{".json", ".txt", ".model", ".jinja", ".tiktoken"};
  if (path.find('/') != std::string::npos) return false;
  return std::any_of(kEndings.begin(), kEndings.end(), [&](std::string_view ending) { return path.ends_with(ending); });
}

base::Result<Selection> safetensors_of(const HubListing& listing, const spec::HubRef& ref) {
  const auto is_weights = [](const HubFile& file) { return file.path.ends_with(".safetensors") && file.path.find('/') == std::string::npos; };
  const bool sharded = std::any_of(listing.files.begin(), listing.files.end(),
                                   [&](const HubFile& file) { return is_weights(file) && file.path.starts_with("model"); });
  Selection selection;
  bool any = false;
  for (const HubFile& file : listing.files) {
    const bool weights = is_weights(file) && (!sharded || !file.path.starts_with("consolidated"));  // the same once more, in another form
    if (!weights && !belongs_to_weights(file.path)) continue;
    any = any || weights;
    selection.files.push_back(file);
  }
  if (!any)
    return Error{ErrorKind::not_found,
                 fmt::format("{} has neither GGUF files nor safetensors at {}; name a repository of a model", ref.repo, ref.revision)};
  std::sort(selection.files.begin(), selection.files.end(), [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  return selection;
}

}  // namespace

std::string listing_path(const spec::HubRef& ref) {
  std::string revision = percent_encoded(ref.revision);
  for (std::size_t at = revision.find('/'); at != std::string::npos; at = revision.find('/', at)) revision.replace(at, 1, "%2F");
  return "/api/models/" + percent_encoded(ref.repo) + "/revision/" + revision + "?blobs=true";
}

std::string file_path(const std::string& repo, const std::string& commit, const std::string& file) {
  return "/" + percent_encoded(repo) + "/resolve/" + percent_encoded(commit) + "/" + percent_encoded(file);
}

base::Result<HubListing> parse_listing(std::string_view text) {
  const auto wrong = [](const std::string& why) {
    return Error{ErrorKind::invalid, "the hub's answer is not understood: " + why + "; is it a hub with Hugging Face's API?"};
  };
  json::error_code error;
  const json::value document = json::parse({text.data(), text.size()}, error);
  if (error || !document.is_object()) return wrong("it is no JSON object");
  HubListing listing;
  listing.commit = text_at(document.get_object(), "sha");
  if (listing.commit.empty() || listing.commit.size() > 64 || !std::all_of(listing.commit.begin(), listing.commit.end(), is_letter_or_digit))
    return wrong("it names no commit");
  const auto* siblings = document.get_object().if_contains("siblings");
  if (siblings == nullptr || !siblings->is_array()) return wrong("it lists no files");
  if (siblings->get_array().size() > kMaxHubFiles) return wrong(fmt::format("it lists more than {} files", kMaxHubFiles));
  for (const json::value& item : siblings->get_array()) {
    if (!item.is_object()) return wrong("a file is none");
    const json::object& object = item.get_object();
    HubFile file;
    file.path = text_at(object, "rfilename");
    if (!is_plain(file.path)) return wrong("a file has a name that leads elsewhere");
    if (const auto* lfs = object.if_contains("lfs"); lfs != nullptr && lfs->is_object()) {
      file.sha256 = text_at(lfs->get_object(), "sha256");
      file.bytes = size_at(lfs->get_object()).value_or(size_at(object).value_or(0));
      if (!is_hex(file.sha256, 64)) return wrong("the digest of " + file.path + " is none");
    } else {
      file.bytes = size_at(object).value_or(0);
      file.git_blob = text_at(object, "blobId");
      if (!is_hex(file.git_blob, 40)) file.git_blob.clear();
    }
    listing.files.push_back(std::move(file));
  }
  return listing;
}

base::Result<Selection> select_files(const HubListing& listing, const spec::HubRef& ref, bool directory_wanted) {
  if (!ref.file.empty()) return named_file(listing, ref);
  const Groups groups = gguf_groups(listing);
  if (groups.empty() && !ref.quantisation.empty())
    return Error{ErrorKind::not_found, fmt::format("{} has no GGUF files at {}", ref.repo, ref.revision)};
  if (!directory_wanted || !ref.quantisation.empty()) {
    if (!groups.empty()) return gguf_of(groups, ref);
    return safetensors_of(listing, ref);
  }
  auto directory = safetensors_of(listing, ref);
  if (directory.ok() || groups.empty()) return directory;
  return gguf_of(groups, ref);
}

}  // namespace thaw::node::pull
