#include "node/oci/oci_tools.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include <fmt/format.h>

#include "node/sandbox/files.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;
using spec::ImageRef;
using spec::ImageTransport;

constexpr auto kAsk = base::Seconds(60);  // for a manifest, which is small

base::Result<std::string> find_tool(const char* name) {
  if (std::string path = find_in_search_path(name); !path.empty()) return path;
  return Error{
      ErrorKind::not_found,
      fmt::format("cannot use container images: {0} is not installed; install the packages skopeo and umoci (apt-get install skopeo umoci)", name)};
}

/// As skopeo has it, seen from the working directory: local ones lie where its user may not get by itself.
std::string source_of(const ImageRef& ref, const std::string& digest) {
  if (ref.transport == ImageTransport::docker)
    return fmt::format("docker://{}/{}{}", ref.host, ref.repository, digest.empty() ? ":" + ref.tag : "@" + digest);
  const std::string place = ref.transport == ImageTransport::oci ? "." : "./" + std::filesystem::path(ref.path).filename().string();
  return fmt::format("{}:{}{}", to_string(ref.transport), place, ref.tag.empty() ? "" : ":" + ref.tag);
}

std::string directory_of(const ImageRef& ref) {
  if (ref.transport == ImageTransport::docker) return "/";
  return ref.transport == ImageTransport::oci ? ref.path : std::filesystem::path(ref.path).parent_path().string();
}

bool holds(const std::vector<std::string>& list, const std::string& host) {
  return std::any_of(list.begin(), list.end(), [&](const std::string& one) { return one == host || host.starts_with(one + ":"); });
}

/// What people can do about what skopeo said.
Error skopeo_error(const ImageRef& ref, const Error& error, const std::string& refusal, const std::string& failure) {
  const std::string what = "cannot fetch image " + to_string(ref);
  const std::string& said = error.message;
  const auto says = [&](std::string_view text) { return said.find(text) != std::string::npos; };
  if (!refusal.empty()) return {ErrorKind::denied, fmt::format("{}: {}", what, refusal)};
  if (!failure.empty() && says("Bad Gateway")) return {ErrorKind::unavailable, fmt::format("{}: {}", what, failure)};
  if (says("no space left on device") || says("file too large"))
    return {ErrorKind::exhausted, fmt::format("{}: the disk of the data directory is full, or the image is "
                                              "larger than node.containerImages.maxImage ({})",
                                              what, said)};
  if (says("Source image rejected") || says("signature was required"))
    return {ErrorKind::denied,
            fmt::format("{}: the signature policy refuses it: {}; sign the image, or change the policy (node.containerImages.policy)", what, said)};
  if (says("unauthorized") || says("authentication required") || says("requested access to the resource is denied") ||
      says("invalid username/password"))
    return {
        ErrorKind::denied,
        fmt::format("{}: the registry asks for credentials, or for others ({}); set node.containerImages.authFile (skopeo login --authfile FILE {})",
                    what, said, ref.host)};
  if (says("server gave HTTP response to HTTPS client") || says("certificate"))
    return {
        ErrorKind::unavailable,
        fmt::format("{}: {}; if this registry has no (known) certificate, add {} to node.containerImages.insecureRegistries", what, said, ref.host)};
  if (says("manifest unknown") || says("name unknown") || says("not found"))
    return {ErrorKind::not_found, fmt::format("{}: there is no such image ({})", what, said)};
  if (says("permission denied"))
    return {ErrorKind::denied, fmt::format("{}: {}; the files must be readable for everybody (chmod -R o+rX {})", what, said, ref.path)};
  return {error.kind, fmt::format("{}: {}", what, said)};
}

}  // namespace

base::Result<std::string> find_skopeo() {
  return find_tool("skopeo");
}
base::Result<std::string> find_umoci() {
  return find_tool("umoci");
}

base::Result<std::string> OciTools::run_skopeo(const ImageRef& ref, std::vector<std::string> argv, const std::string& work, base::Duration timeout,
                                               const std::function<base::Status()>& watch, const std::stop_token& stop) const {
  THAW_ASSIGN_OR_RETURN(std::string skopeo, options_.skopeo.empty() ? find_skopeo() : base::Result<std::string>(options_.skopeo));
  const bool copies = argv.front() == "copy";
  const bool remote = ref.transport == ImageTransport::docker;
  std::error_code error;
  if (!remote && !std::filesystem::exists(ref.path, error))
    return Error{ErrorKind::not_found, fmt::format("cannot fetch image {}: there is no {} on this machine", to_string(ref), ref.path)};
  std::vector<std::string> command{std::move(skopeo), "--policy", options_.policy_path, "--tmpdir", work};
  command.push_back(argv.front());
  if (remote && holds(options_.settings.insecure_registries, ref.host))
    command.emplace_back(copies ? "--src-tls-verify=false" : "--tls-verify=false");
  if (remote && !options_.settings.auth_file.empty()) {
    // The operator's file is for root's eyes; its copy goes with the work directory.
    auto credentials = read_small_file(options_.settings.auth_file);
    if (!credentials.ok()) return credentials.error().within("node.containerImages.authFile");
    const std::string copy = work + "/auth.json";
    ::unlink(copy.c_str());
    THAW_RETURN_IF_ERROR(write_file(copy, *credentials, 0400));
    if (::chown(copy.c_str(), options_.uid, options_.uid) != 0) return base::errno_error("cannot give " + copy + " away", errno);
    command.insert(command.end(), {copies ? "--src-authfile" : "--authfile", copy});
  } else if (remote) {
    command.emplace_back(copies ? "--src-no-creds" : "--no-creds");
  }
  command.insert(command.end(), argv.begin() + 1, argv.end());
  std::unique_ptr<RegistryNetwork> network;
  ConfinedProgram program{.argv = std::move(command),
                          .directory = directory_of(ref),
                          .uid = options_.uid,
                          .temporary = work,
                          .max_file_bytes = options_.settings.max_image_bytes,
                          .timeout = timeout,
                          .watch = watch};
  if (remote) {
    if (!options_.network) return Error{ErrorKind::unavailable, "cannot fetch image " + to_string(ref) + ": this node has no way to registries"};
    THAW_ASSIGN_OR_RETURN(network, options_.network(ref));
    program.network_namespace = network->namespace_path();
    program.env = network->env();
  }
  const std::unique_ptr<Cgroup> cgroup = options_.cgroup ? options_.cgroup() : nullptr;
  auto output = run_confined(program, cgroup.get(), stop);
  if (!output.ok())
    return skopeo_error(ref, output.error(), network ? network->refusal() : std::string(), network ? network->failure() : std::string());
  return std::move(output->out);
}

base::Result<std::string> OciTools::manifest(const ImageRef& ref, const std::string& digest, const std::string& work,
                                             const std::stop_token& stop) const {
  return run_skopeo(ref, {"inspect", "--raw", source_of(ref, digest)}, work, std::min<base::Duration>(kAsk, options_.settings.timeout), {}, stop);
}

base::Result<std::string> OciTools::config(const ImageRef& ref, const std::string& digest, const std::string& work,
                                           const std::stop_token& stop) const {
  return run_skopeo(ref, {"inspect", "--config", "--raw", source_of(ref, digest)}, work, std::min<base::Duration>(kAsk, options_.settings.timeout),
                    {}, stop);
}

base::Status OciTools::copy(const ImageRef& ref, const std::string& digest, const std::string& layout, const std::string& work,
                            const std::function<base::Status()>& watch, const std::stop_token& stop) const {
  auto done = run_skopeo(ref, {"copy", "--quiet", "--remove-signatures", source_of(ref, digest), "oci:" + layout + ":image"}, work,
                         options_.settings.timeout, watch, stop);
  return done.ok() ? base::Status() : done.error();
}

base::Status OciTools::unpack(const std::string& layout, const std::string& directory, const std::string& work,
                              const std::function<base::Status()>& watch, const std::stop_token& stop) const {
  THAW_ASSIGN_OR_RETURN(const std::string umoci, options_.umoci.empty() ? find_umoci() : base::Result<std::string>(options_.umoci));
  const ConfinedProgram program{.argv = {umoci, "raw", "unpack", "--rootless", "--image", layout + ":layer", directory},
                                .directory = "/",
                                .uid = options_.uid,
                                .temporary = work,
                                .max_file_bytes = options_.settings.max_image_bytes,
                                .timeout = options_.settings.timeout,
                                .watch = watch};
  const std::unique_ptr<Cgroup> cgroup = options_.cgroup ? options_.cgroup() : nullptr;
  auto done = run_confined(program, cgroup.get(), stop);
  if (done.ok()) return {};
  const Error& error = done.error();
  if (error.message.find("no space left on device") != std::string::npos)
    return Error{ErrorKind::exhausted, "the disk of the data directory is full: " + error.message};
  return error.within("umoci cannot unpack it");
}

}  // namespace thaw::node
