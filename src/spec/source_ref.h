#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "spec/model_spec.h"

/// Where weights can be fetched from, as users write it. Pure: nothing here asks a network.
namespace thaw::spec {

/// "org/repo[/file | :quantisation][@revision]" of a model hub with Hugging Face's API.
struct HubRef {
  std::string repo;               ///< "org/repo"
  std::string file;               ///< within it, perhaps in folders; empty: chosen
  std::string quantisation;       ///< "Q4_K_M": the GGUF file of that kind; empty: chosen. Never together with file
  std::string revision = "main";  ///< branch, tag or commit
};
/// Fails with invalid, quoting the text and the form expected.
base::Result<HubRef> parse_hub_ref(std::string_view text);
std::string to_string(const HubRef& ref);  ///< parse_hub_ref reads it back; the revision only when it is not main

/// The parts of an absolute http or https URL that decide who is asked.
struct Url {
  bool https = true;
  std::string host;  ///< lower case, an IPv6 literal without its brackets
  std::uint16_t port = 443;
  std::string path;  ///< from the slash on, with the query
  bool operator==(const Url&) const = default;
  /// Same scheme, host and port: what a credential was given for.
  [[nodiscard]] bool same_origin(const Url& other) const { return https == other.https && host == other.host && port == other.port; }
  /// The last part of the path, percent-decoded, without the query; empty when the path ends in a slash.
  [[nodiscard]] std::string file_name() const;
};
/// Fails with invalid: another scheme, credentials in it (they would end up in logs), no host, characters that no URL has.
base::Result<Url> parse_url(std::string_view text);

/// "NAME-00002-of-00005.gguf": one part of a model.
struct SplitName {
  std::string stem;  ///< "NAME", with the folders before it
  std::uint32_t part = 1, count = 1;
  [[nodiscard]] std::string name(std::uint32_t number) const;
};
constexpr std::uint32_t kMaxSplitParts = 1'000;
std::optional<SplitName> split_name(std::string_view file);

/// What a command line takes for a source: "hf:org/repo…", "hf.co/org/repo…" or an URL; nothing for every other text.
std::optional<Source> source_from_text(std::string_view text);

/// For people and as the key of what was fetched: "hf:org/repo:Q4_K_M", an URL, a path.
std::string to_string(const Source& source);

/// What is wrong with it as a whole: none or two places given, a digest without what it is of. Empty when it is right.
std::string problem_of(const Source& source);

}  // namespace thaw::spec
