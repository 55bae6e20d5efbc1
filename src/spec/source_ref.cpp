#include "spec/source_ref.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "spec/problems.h"

namespace thaw::spec {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxRef = 1'024;
constexpr std::size_t kMaxUrl = 4'096;
constexpr std::size_t kMaxHost = 253;  // RFC 1035
constexpr std::size_t kDigits = 5;     // llama.cpp's llama_split_path
constexpr std::string_view kHubForm = "write it like org/repo, org/repo/model.gguf, org/repo:Q4_K_M, each perhaps with @revision";

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool only(std::string_view text, std::string_view more) {
  return std::all_of(text.begin(), text.end(), [&](char c) { return is_alphanumeric(c) || more.find(c) != std::string_view::npos; });
}

/// No empty part and none that leads elsewhere.
bool is_plain_path(std::string_view path) {
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

Error no_hub_ref(std::string_view text, std::string_view why) {
  return {ErrorKind::invalid, fmt::format("\"{}\" names no repository of a hub: {}; {}", printable(text.substr(0, 200)), why, kHubForm)};
}

Error no_url(std::string_view text, std::string_view why) {
  return {ErrorKind::invalid,
          fmt::format("\"{}\" cannot be fetched: {}; write it like https://host/path/model.gguf", printable(text.substr(0, 200)), why)};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::uint32_t> number_of(std::string_view digits) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

}  // namespace

base::Result<HubRef> parse_hub_ref(std::string_view text) {
  const std::string_view whole = text;
  if (text.size() > kMaxRef) return no_hub_ref(whole, "it is too long");
  HubRef ref;
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    ref.revision = std::string(text.substr(at + 1));
    if (!only(ref.revision, "._/-") || !is_plain_path(ref.revision)) return no_hub_ref(whole, "what follows @ is no branch, tag or commit");
    text = text.substr(0, at);
  }
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    ref.quantisation = std::string(text.substr(colon + 1));
    if (ref.quantisation.empty() || !only(ref.quantisation, "._-")) return no_hub_ref(whole, "what follows : is no quantisation such as Q4_K_M");
    text = text.substr(0, colon);
  }
  const auto first = text.find('/');
  if (first == std::string_view::npos) return no_hub_ref(whole, "there is no / in it");
  const auto second = text.find('/', first + 1);
  ref.repo = std::string(text.substr(0, second));
  if (!only(ref.repo, "._-/") || !is_plain_path(ref.repo)) return no_hub_ref(whole, "its beginning is not org/repo");
  if (second == std::string_view::npos) return ref;
  ref.file = std::string(text.substr(second + 1));
  if (!ref.quantisation.empty()) return no_hub_ref(whole, "it names both a file and a quantisation");
  if (!only(ref.file, " ._-+=(),/") || !is_plain_path(ref.file)) return no_hub_ref(whole, "it names no file");
  return ref;
}

std::string to_string(const HubRef& ref) {
  std::string text = ref.repo;
  if (!ref.file.empty()) text += "/" + ref.file;
  if (!ref.quantisation.empty()) text += ":" + ref.quantisation;
  if (ref.revision != "main") text += "@" + ref.revision;
  return text;
}

std::string Url::file_name() const {
  const std::string_view whole = std::string_view(path).substr(0, path.find_first_of("?#"));
  const std::string_view last = whole.substr(whole.rfind('/') + 1);
  std::string name;
  for (std::size_t i = 0; i < last.size(); ++i) {
    const bool encoded = last[i] == '%' && i + 2 < last.size() && hex_digit(last[i + 1]) >= 0 && hex_digit(last[i + 2]) >= 0;
    name += encoded ? static_cast<char>(hex_digit(last[i + 1]) * 16 + hex_digit(last[i + 2])) : last[i];
    if (encoded) i += 2;
  }
  return name;
}

base::Result<Url> parse_url(std::string_view text) {
  const std::string_view whole = text;
  if (text.size() > kMaxUrl) return no_url(whole, "it is too long");
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f' && c != '\\' && c != '"' && c != '<' && c != '>'; }))
    return no_url(whole, "it has a character that no URL has");
  Url url;
  const auto scheme_end = text.find("://");
  const std::string scheme = lower(text.substr(0, scheme_end == std::string_view::npos ? 0 : scheme_end));
  if (scheme != "https" && scheme != "http") return no_url(whole, "it does not begin with https://");
  url.https = scheme == "https";
  url.port = url.https ? 443 : 80;
  text.remove_prefix(scheme_end + 3);
  const auto path_at = std::min(text.find_first_of("/?#"), text.size());
  std::string_view authority = text.substr(0, path_at);
  url.path = std::string(text.substr(path_at, text.find('#') - path_at));
  if (!url.path.starts_with('/')) url.path.insert(0, "/");
  if (authority.find('@') != std::string_view::npos) return no_url(whole, "it has a user or a password in it, which would be seen in specs and logs");
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return no_url(whole, "the bracket of its address is not closed");
    url.host = lower(authority.substr(1, close - 1));
    if (url.host.empty() || url.host.find_first_not_of("0123456789abcdef:.") != std::string::npos)
      return no_url(whole, "the brackets hold no IPv6 address");
    port = authority.substr(close + 1);
    if (!port.empty() && !port.starts_with(':')) return no_url(whole, "its host is wrong");
  } else {
    const auto colon = std::min(authority.find(':'), authority.size());
    url.host = lower(authority.substr(0, colon));
    while (url.host.ends_with('.')) url.host.pop_back();
    if (url.host.empty() || url.host.size() > kMaxHost || !only(url.host, ".-_")) return no_url(whole, "it has no host, or a wrong one");
    port = authority.substr(colon);
  }
  if (port.size() > 1) {
    const auto number = number_of(port.substr(1));
    if (!number || *number == 0 || *number > std::numeric_limits<std::uint16_t>::max()) return no_url(whole, "its port is no number from 1 to 65535");
    url.port = static_cast<std::uint16_t>(*number);
  }
  return url;
}

std::string SplitName::name(std::uint32_t number) const {
  return fmt::format("{}-{:05}-of-{:05}.gguf", stem, number, count);
}

std::optional<SplitName> split_name(std::string_view file) {
  constexpr std::string_view kPattern = "-00001-of-00003.gguf";
  if (file.size() <= kPattern.size()) return std::nullopt;
  const std::string_view tail = file.substr(file.size() - kPattern.size());
  const auto part = number_of(tail.substr(1, kDigits));
  const auto count = number_of(tail.substr(kDigits + 5, kDigits));
  if (!part || !count || *part < 1 || *part > *count || *count > kMaxSplitParts) return std::nullopt;
  SplitName name{std::string(file.substr(0, file.size() - kPattern.size())), *part, *count};
  if (name.name(*part) != file) return std::nullopt;
  return name;
}

std::optional<Source> source_from_text(std::string_view text) {
  Source source;
  for (const std::string_view prefix : {"hf:", "hf.co/", "huggingface.co/", "https://huggingface.co/", "https://hf.co/"}) {
    if (!text.starts_with(prefix)) continue;
    const std::string_view rest = text.substr(prefix.size());
    if (prefix.starts_with("https") && (rest.find("/resolve/") != std::string_view::npos || rest.find("/blob/") != std::string_view::npos))
      break;  // one file's URL
    source.hf = std::string(rest);
    return source;
  }
  if (!text.starts_with("https://") && !text.starts_with("http://")) return std::nullopt;
  source.url = std::string(text);
  return source;
}

std::string to_string(const Source& source) {
  if (!source.hf.empty()) return "hf:" + source.hf;
  return source.url.empty() ? source.path : source.url;
}

std::string problem_of(const Source& source) {
  if (source.hf.empty() && source.url.empty()) {
    if (!source.sha256.empty()) return "sha256 goes with url";
    return source.path.empty() ? "names no weights; give path, hf or url" : "";
  }
  if (!source.hf.empty() && !source.url.empty()) return "has both hf and url; give one";
  if (!source.hf.empty() && !source.sha256.empty()) return "sha256 goes with url; a hub says its files' digests itself";
  if (!source.sha256.empty() && split_name(parse_url(source.url).value_or({}).file_name()))
    return "sha256 is of one file, and the url names one of several parts; leave it out";
  return {};
}

}  // namespace thaw::spec
