#include "node/oci/image_fetch.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/units.h"
#include "node/caches/tree.h"
#include "node/images/digest.h"
#include "node/oci/layer_scan.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using spec::ImageRef;
using spec::ImageTransport;

constexpr std::uint64_t kReserveBytes = 512ULL << 20;  // left free on the disk: the server's own books are on it
constexpr std::uint64_t kSlackBytes = 64ULL << 20;     // of what a copy may take beyond what the manifest says
constexpr const char* kOwnArchive = "application/vnd.oci.image.layer.v1.tar";

std::string digest_of(std::string_view bytes) {
  Sha256 sum;
  sum.add(bytes);
  return "sha256:" + sum.finish();
}

std::string hex_of(const std::string& digest) {
  return digest.substr(digest.find(':') + 1);
}

/// A file below a directory that a stranger wrote, by no link.
base::Result<Fd> open_below(const std::string& directory, const std::string& path) {
  const Fd root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return base::errno_error("cannot open " + directory, errno);
  struct open_how how {};
  how.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  Fd fd(static_cast<int>(::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return Error{ErrorKind::invalid, "the fetched image has no " + path};
  return fd;
}

base::Result<std::string> read_below(const std::string& directory, const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const Fd fd, open_below(directory, path));
  std::string text;
  std::array<char, 16384> chunk{};
  while (text.size() <= kMaxManifest_bytes) {
    const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0) return base::errno_error("cannot read " + path, errno);
    if (got == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return Error{ErrorKind::invalid, path + " of the fetched image is larger than 4 MiB"};
}

std::string blob_path(const std::string& digest) {
  return "blobs/sha256/" + hex_of(digest);
}

/// A layout of one layer alone, for umoci: a directory of ours with a second name for the fetched file.
base::Status write_layer_layout(const std::string& directory, const Fd& blob, const OciBlob& layer, const std::string& diff_id) {
  THAW_RETURN_IF_ERROR(remove_foreign_tree(directory));
  THAW_RETURN_IF_ERROR(make_directories(directory + "/blobs/sha256", 0755));
  const std::string name = fmt::format("/proc/self/fd/{}", blob.get());
  if (::linkat(AT_FDCWD, name.c_str(), AT_FDCWD, (directory + "/" + blob_path(layer.digest)).c_str(), AT_SYMLINK_FOLLOW) != 0)
    return base::errno_error("cannot link a layer", errno);
  const auto put = [&](const std::string& text) -> base::Result<json::object> {
    const std::string digest = digest_of(text);
    THAW_RETURN_IF_ERROR(write_file(directory + "/" + blob_path(digest), text, 0644));
    return json::object{{"digest", digest}, {"size", text.size()}};
  };
  THAW_ASSIGN_OR_RETURN(json::object config,
                        put(json::serialize(json::object{{"architecture", own_architecture()},
                                                         {"os", "linux"},
                                                         {"config", json::object()},
                                                         {"rootfs", {{"type", "layers"}, {"diff_ids", json::array{diff_id}}}}})));
  config["mediaType"] = "application/vnd.oci.image.config.v1+json";
  const json::object blob_of_layer{
      {"mediaType", std::string(kOwnArchive) + (is_gzip_layer(layer.media_type) ? "+gzip" : "")}, {"digest", layer.digest}, {"size", layer.bytes}};
  THAW_ASSIGN_OR_RETURN(
      json::object manifest,
      put(json::serialize(json::object{{"schemaVersion", 2}, {"config", std::move(config)}, {"layers", json::array{blob_of_layer}}})));
  manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json";
  manifest["annotations"] = json::object{{"org.opencontainers.image.ref.name", "layer"}};
  THAW_RETURN_IF_ERROR(write_file(directory + "/index.json",
                                  json::serialize(json::object{{"schemaVersion", 2}, {"manifests", json::array{std::move(manifest)}}}), 0644));
  return write_file(directory + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})", 0644);
}

Error another_one(const ImageRef& ref, const std::string& digest) {
  return {ErrorKind::conflict,
          fmt::format("cannot fetch image {}: it is not the one any more that was deployed ({}); deploy the model again to have the new one",
                      to_string(ref), digest)};
}

}  // namespace

base::Result<std::string> ImageFetch::resolve(const OciTools& tools, const ImageRef& ref, const std::string& work, const std::stop_token& stop) {
  THAW_ASSIGN_OR_RETURN(const std::string text, tools.manifest(ref, ref.digest, work, stop));
  auto read = read_manifest(text, own_architecture());
  if (!read.ok()) return read.error().within("cannot use image " + to_string(ref));
  const std::string digest = digest_of(text);
  if (!ref.digest.empty() && ref.digest != digest)
    return Error{ErrorKind::invalid, fmt::format("cannot use image {}: the registry sent a manifest of digest {}", to_string(ref), digest)};
  return digest;
}

base::Result<ImageFetch::Plan> ImageFetch::plan(const ImageRef& ref, const std::string& digest) {
  const bool remote = ref.transport == ImageTransport::docker;
  const std::string asked = remote ? digest : std::string();
  Plan plan{digest, std::nullopt, {}};
  THAW_ASSIGN_OR_RETURN(const std::string text, in_.tools.manifest(ref, asked, in_.work + "/tmp", in_.stop));
  if (digest_of(text) != digest) return another_one(ref, digest);
  THAW_ASSIGN_OR_RETURN(ManifestOrIndex found, read_manifest(text, own_architecture()));
  if (found.is_index) plan.manifest_digest = found.own_platform;
  if (!found.is_index) plan.manifest = std::move(found.manifest);
  if (found.is_index && remote) {
    THAW_ASSIGN_OR_RETURN(const std::string own, in_.tools.manifest(ref, plan.manifest_digest, in_.work + "/tmp", in_.stop));
    if (digest_of(own) != plan.manifest_digest) return Error{ErrorKind::invalid, "the registry sent another manifest than its index names"};
    THAW_ASSIGN_OR_RETURN(ManifestOrIndex inner, read_manifest(own, own_architecture()));
    if (inner.is_index) return Error{ErrorKind::invalid, "the image's index leads to another index"};
    plan.manifest = std::move(inner.manifest);
  }
  THAW_ASSIGN_OR_RETURN(const std::string config, in_.tools.config(ref, remote ? plan.manifest_digest : std::string(), in_.work + "/tmp", in_.stop));
  if (plan.manifest && digest_of(config) != plan.manifest->config.digest)
    return Error{ErrorKind::invalid, "the registry sent another config than the manifest names"};
  THAW_ASSIGN_OR_RETURN(plan.config, read_image_config(config));
  if (plan.manifest && plan.manifest->layers.size() != plan.config.diff_ids.size())
    return Error{ErrorKind::invalid, "the image's config names another number of layers than its manifest"};
  return plan;
}

base::Status ImageFetch::check_room(std::uint64_t bytes) const {
  if (bytes > in_.settings.max_image_bytes)
    return Error{ErrorKind::exhausted, fmt::format("it has {}, more than an image may have ({}); raise node.containerImages.maxImage",
                                                   base::format_bytes(bytes), base::format_bytes(in_.settings.max_image_bytes))};
  const std::uint64_t used = in_.used_bytes();
  if (used + bytes > in_.settings.budget_bytes)
    return Error{ErrorKind::exhausted,
                 fmt::format("{} of images are on this node and {} more are needed, but node.containerImages.budget is {}; remove what no model has "
                             "(thaw container-images gc), or raise it",
                             base::format_bytes(used), base::format_bytes(bytes), base::format_bytes(in_.settings.budget_bytes))};
  return check_disk(bytes);
}

base::Status ImageFetch::check_disk(std::uint64_t bytes) const {
  struct statvfs disk {};
  if (::statvfs(in_.work.c_str(), &disk) != 0) return base::errno_error("cannot look at the disk of " + in_.work, errno);
  const std::uint64_t free_bytes = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (free_bytes < bytes + kReserveBytes)
    return Error{ErrorKind::exhausted,
                 fmt::format("the disk of {} has {} left, and {} are needed beside a reserve of {}; make room (thaw container-images gc)", in_.work,
                             base::format_bytes(free_bytes), base::format_bytes(bytes), base::format_bytes(kReserveBytes))};
  return {};
}

/// While something is written: what the registry sends may be more than it said, and others write too.
base::Status ImageFetch::watch(std::uint64_t total_bytes) const {
  THAW_RETURN_IF_ERROR(check_disk(0));
  auto bytes = tree_bytes(in_.work);
  if (!bytes.ok()) return {};  // a file went meanwhile: looked at again in a moment
  if (in_.progress) in_.progress({FetchProgress::Step::fetching, total_bytes, std::min(*bytes, total_bytes)});
  const std::uint64_t most = total_bytes == 0 ? in_.settings.max_image_bytes : total_bytes + kSlackBytes;
  if (*bytes > most)
    return Error{ErrorKind::exhausted,
                 fmt::format("more than {} came, which is more than the image has; nothing of it is used", base::format_bytes(most))};
  return {};
}

/// As skopeo wrote it: a manifest of Docker's has become one of OCI's, and layers that were plain may be compressed. What counts are the diffIDs.
base::Result<OciManifest> ImageFetch::copied_manifest(const std::string& layout, const Plan& plan) const {
  THAW_ASSIGN_OR_RETURN(const std::string index, read_below(layout, "index.json"));
  json::error_code error;
  const json::value parsed = json::parse(index, error);
  const json::value* const entry = error ? nullptr : parsed.find_pointer("/manifests/0/digest", error);
  const std::string digest = entry != nullptr && entry->is_string() ? std::string(entry->get_string()) : std::string();
  if (!spec::is_digest(digest)) return Error{ErrorKind::invalid, "the fetched image has no manifest"};
  THAW_ASSIGN_OR_RETURN(const std::string text, read_below(layout, blob_path(digest)));
  THAW_ASSIGN_OR_RETURN(ManifestOrIndex found, read_manifest(text, own_architecture()));
  // Without a manifest of before, this one is what hangs on the pinned index.
  if (!plan.manifest && (digest_of(text) != plan.manifest_digest || found.is_index))
    return Error{ErrorKind::invalid, "the fetched image is another one than its index names"};
  if (found.manifest.layers.size() != plan.config.diff_ids.size())
    return Error{ErrorKind::invalid, "the image's config names another number of layers than its manifest"};
  return std::move(found.manifest);
}

base::Status ImageFetch::add_layer(const std::string& layout, const OciBlob& layer, const std::string& diff_id, std::uint64_t& left_bytes) {
  THAW_ASSIGN_OR_RETURN(const Fd blob, open_below(layout, blob_path(layer.digest)));
  const LayerBounds bounds{.file_bytes = left_bytes};
  THAW_ASSIGN_OR_RETURN(const ScannedLayer scanned, scan_layer(blob.get(), is_gzip_layer(layer.media_type), bounds, in_.stop));
  if (scanned.diff_id != diff_id)
    return Error{ErrorKind::invalid, fmt::format("a layer is not what the image's config says: its digest is {}, not {}", scanned.diff_id, diff_id)};
  left_bytes -= scanned.contents.file_bytes;
  THAW_RETURN_IF_ERROR(check_room(scanned.contents.file_bytes));
  const std::string alone = in_.work + "/layer";
  THAW_RETURN_IF_ERROR(write_layer_layout(alone, blob, layer, diff_id));
  base::Status added = in_.layers.add(diff_id, scanned.contents, bounds, in_.tools.uid(), [&](const std::string& directory) {
    return in_.tools.unpack(
        alone, directory, in_.work + "/tmp", [this] { return check_disk(0); }, in_.stop);
  });
  (void)remove_foreign_tree(alone);
  return added;
}

base::Result<OciConfig> ImageFetch::run(const ImageRef& ref, const std::string& digest) {
  const std::string layout = in_.work + "/layout";
  THAW_ASSIGN_OR_RETURN(const Plan plan, this->plan(ref, digest));
  const bool whole =
      std::all_of(plan.config.diff_ids.begin(), plan.config.diff_ids.end(), [this](const std::string& id) { return in_.layers.has(id); });
  if (whole) return plan.config;
  const std::uint64_t total_bytes = plan.manifest ? plan.manifest->bytes() : 0;
  THAW_RETURN_IF_ERROR(check_room(total_bytes));
  THAW_RETURN_IF_ERROR(in_.tools.copy(
      ref, ref.transport == ImageTransport::docker ? plan.manifest_digest : std::string(), layout, in_.work + "/tmp",
      [&] { return watch(total_bytes); }, in_.stop));
  THAW_ASSIGN_OR_RETURN(const OciManifest copied, copied_manifest(layout, plan));
  std::uint64_t left_bytes = in_.settings.max_image_bytes;
  for (std::size_t i = 0; i < copied.layers.size(); ++i) {
    const std::lock_guard one_at_a_time(in_.unpacking);
    if (in_.progress) in_.progress({FetchProgress::Step::unpacking, copied.layers.size(), i});
    if (in_.layers.has(plan.config.diff_ids[i])) continue;
    THAW_RETURN_IF_ERROR(add_layer(layout, copied.layers[i], plan.config.diff_ids[i], left_bytes));
  }
  return plan.config;
}

}  // namespace thaw::node
