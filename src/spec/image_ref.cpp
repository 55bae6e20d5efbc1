#include "spec/image_ref.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "spec/problems.h"

namespace thaw::spec {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxRef = 1024;
constexpr std::size_t kMaxRepository = 255;  // https://github.com/opencontainers/distribution-spec: names with the host
constexpr std::size_t kMaxTag = 128;
constexpr std::string_view kSha256 = "sha256:";
constexpr std::size_t kSha256Digits = 64;
constexpr const char* kDockerHub = "docker.io";

constexpr std::array<std::pair<std::string_view, ImageTransport>, 4> kPrefixes{{{"docker://", ImageTransport::docker},
                                                                                {"oci:", ImageTransport::oci},
                                                                                {"oci-archive:", ImageTransport::oci_archive},
                                                                                {"docker-archive:", ImageTransport::docker_archive}}};

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_letter_or_digit(char c) {
  return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

Error wrong(std::string_view text, std::string_view why) {
  return {ErrorKind::invalid,
          fmt::format("\"{}\" is no image: {}; write it like docker://registry.example.com/engines/vllm:v1, "
                      "docker://registry.example.com/engines/vllm@sha256:…, oci:/srv/images/vllm or docker-archive:/srv/images/vllm.tar",
                      printable(text), why)};
}

bool is_tag(std::string_view tag) {
  const auto inside = [](char c) { return is_letter_or_digit(c) || c == '_' || c == '.' || c == '-'; };
  return !tag.empty() && tag.size() <= kMaxTag && (is_letter_or_digit(tag.front()) || tag.front() == '_') &&
         std::all_of(tag.begin(), tag.end(), inside);
}

/// One part between slashes: letters and digits, with ".", "_", "__" or dashes between them.
bool is_name_part(std::string_view part) {
  const auto inside = [](char c) { return is_lower_or_digit(c) || c == '_' || c == '.' || c == '-'; };
  return !part.empty() && is_lower_or_digit(part.front()) && is_lower_or_digit(part.back()) && std::all_of(part.begin(), part.end(), inside) &&
         part.find("..") == std::string_view::npos;
}

bool is_repository(std::string_view name) {
  if (name.empty() || name.size() > kMaxRepository) return false;
  while (true) {
    const std::size_t slash = name.find('/');
    if (!is_name_part(name.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

bool is_port(std::string_view port) {
  return !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         std::stoul(std::string(port)) >= 1 && std::stoul(std::string(port)) <= 65'535;
}

/// A DNS name or an IPv4 address, perhaps with a port. skopeo of Debian 12 takes no IPv6 address.
bool is_host(std::string_view host) {
  const std::size_t colon = host.find(':');
  const std::string_view name = host.substr(0, colon);
  if (colon != std::string_view::npos && !is_port(host.substr(colon + 1))) return false;
  return !name.empty() && name.size() <= 253 && is_letter_or_digit(name.front()) && is_letter_or_digit(name.back()) &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_letter_or_digit(c) || c == '.' || c == '-'; });
}

base::Result<ImageRef> parse_docker(std::string_view text, std::string_view rest) {
  ImageRef ref;
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    ref.digest = std::string(rest.substr(at + 1));
    rest = rest.substr(0, at);
    if (!is_digest(ref.digest)) return wrong(text, "behind \"@\" stands no sha256: and 64 hex digits");
  }
  const std::size_t slash = rest.find('/');
  const std::string_view first = rest.substr(0, slash);
  // As docker(1) tells them apart.
  const bool names_host = slash != std::string_view::npos && (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  ref.host = names_host ? std::string(first) : kDockerHub;
  if (!is_host(ref.host)) return wrong(text, "its registry is no host name or address with an optional port");
  if (names_host) rest.remove_prefix(slash + 1);
  if (const std::size_t colon = rest.rfind(':'); colon != std::string_view::npos) {
    ref.tag = std::string(rest.substr(colon + 1));
    rest = rest.substr(0, colon);
    if (!is_tag(ref.tag)) return wrong(text, "its tag is none: up to 128 letters, digits, \".\", \"_\" and \"-\"");
  }
  if (!is_repository(rest)) return wrong(text, "its repository is none: lower-case letters, digits, \".\", \"_\", \"-\", parts between \"/\"");
  ref.repository = std::string(rest);
  if (ref.host == kDockerHub && ref.repository.find('/') == std::string::npos) ref.repository = "library/" + ref.repository;
  if (ref.tag.empty() && ref.digest.empty()) ref.tag = "latest";
  return ref;
}

base::Result<ImageRef> parse_local(std::string_view text, std::string_view rest, ImageTransport transport, const std::string& base_directory) {
  ImageRef ref;
  ref.transport = transport;
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    if (transport == ImageTransport::docker_archive) return wrong(text, "a docker-archive is a file with one image; its path has no \":\"");
    ref.tag = std::string(rest.substr(colon + 1));
    rest = rest.substr(0, colon);
    if (!is_tag(ref.tag)) return wrong(text, "behind the path stands no tag (a path has no \":\")");
  }
  if (rest.empty()) return wrong(text, "there is no path");
  if (rest.front() != '/' && base_directory.empty()) return wrong(text, "the path is not absolute");
  ref.path = rest.front() == '/' ? std::string(rest) : base_directory + "/" + std::string(rest);
  return ref;
}

}  // namespace

const char* to_string(ImageTransport transport) {
  switch (transport) {
    case ImageTransport::docker:
      return "docker";
    case ImageTransport::oci:
      return "oci";
    case ImageTransport::oci_archive:
      return "oci-archive";
    case ImageTransport::docker_archive:
      return "docker-archive";
  }
  return "docker";
}

bool is_digest(std::string_view text) {
  if (!text.starts_with(kSha256) || text.size() != kSha256.size() + kSha256Digits) return false;
  text.remove_prefix(kSha256.size());
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

base::Result<ImageRef> parse_image_ref(std::string_view text, const std::string& base_directory) {
  if (text.size() > kMaxRef) return wrong(text.substr(0, 60), "it is longer than 1,024 characters");
  if (std::any_of(text.begin(), text.end(), [](char c) { return c <= ' ' || c == '\x7f'; }))
    return wrong(text, "it has a space or a control character");
  for (const auto& [prefix, transport] : kPrefixes) {
    if (!text.starts_with(prefix)) continue;
    const std::string_view rest = text.substr(prefix.size());
    return transport == ImageTransport::docker ? parse_docker(text, rest) : parse_local(text, rest, transport, base_directory);
  }
  return wrong(text, "it begins with none of docker://, oci:, oci-archive: and docker-archive:");
}

std::string to_string(const ImageRef& ref) {
  const std::string tag = ref.tag.empty() ? "" : ":" + ref.tag;
  if (ref.transport != ImageTransport::docker) return fmt::format("{}:{}{}", to_string(ref.transport), ref.path, tag);
  return fmt::format("docker://{}/{}{}{}", ref.host, ref.repository, tag, ref.digest.empty() ? "" : "@" + ref.digest);
}

}  // namespace thaw::spec
