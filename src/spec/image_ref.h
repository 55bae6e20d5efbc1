#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

/// Where a container image comes from, in the words of skopeo (containers-transports(5)):
///
///     docker://[HOST[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST]     a registry; without HOST: docker.io, without TAG: latest
///     oci:/DIRECTORY[:TAG]                                        an OCI image layout
///     oci-archive:/FILE[:TAG], docker-archive:/FILE               the same in a tar file; what `docker save` writes
///
/// Pure.
namespace thaw::spec {

enum class ImageTransport { docker, oci, oci_archive, docker_archive };
const char* to_string(ImageTransport transport);  ///< "docker", "oci", "oci-archive", "docker-archive"

struct ImageRef {
  ImageTransport transport = ImageTransport::docker;
  std::string host;        ///< docker: "registry.example.com:5000"
  std::string repository;  ///< docker: "library/alpine"
  std::string path;        ///< others: absolute
  std::string tag;         ///< docker: "latest" where neither tag nor digest was given; may be empty
  std::string digest;      ///< docker: "sha256:" and 64 hex digits; empty: by tag

  bool operator==(const ImageRef&) const = default;
};

/// Relative paths are taken from `base_directory`. Fails (invalid) with what is wrong and how to write it.
base::Result<ImageRef> parse_image_ref(std::string_view text, const std::string& base_directory);

/// As it can be parsed again, with everything written out.
std::string to_string(const ImageRef& ref);

/// "sha256:" and 64 lower-case hex digits.
bool is_digest(std::string_view text);

}  // namespace thaw::spec
