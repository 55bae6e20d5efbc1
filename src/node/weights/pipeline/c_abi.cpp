/// The C ABI over Loader and Load: translates, and keeps C++ (and its exceptions) inside.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "node/weights/pipeline/loader.h"
#include "node/weights/pipeline/thaw_weights.h"

namespace pipeline = thaw::node::pipeline;
namespace base = thaw::base;

struct thaw_weights_loader {
  std::unique_ptr<pipeline::Loader> loader;
};
struct thaw_weights_load {
  std::shared_ptr<pipeline::Load> load;
};

namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

int status_of(base::ErrorKind kind) {
  switch (kind) {
    case base::ErrorKind::invalid:
      return THAW_WEIGHTS_INVALID;
    case base::ErrorKind::not_found:
      return THAW_WEIGHTS_NOT_FOUND;
    case base::ErrorKind::denied:
      return THAW_WEIGHTS_DENIED;
    case base::ErrorKind::io:
      return THAW_WEIGHTS_IO;
    case base::ErrorKind::exhausted:
      return THAW_WEIGHTS_MEMORY;
    case base::ErrorKind::unavailable:
      return THAW_WEIGHTS_DEVICE;
    case base::ErrorKind::conflict:
      return THAW_WEIGHTS_BUSY;
    case base::ErrorKind::timeout:
      return THAW_WEIGHTS_TIMEOUT;
    case base::ErrorKind::internal:
      break;
  }
  return THAW_WEIGHTS_INTERNAL;
}

int refuse(const base::Error& error) {
  last_error() = error.message;
  return status_of(error.kind);
}

/// Runs a call's body; what a lack of memory throws becomes a status.
template <typename Body>
int guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return refuse({base::ErrorKind::exhausted, "the host has no memory left"});
  } catch (const std::exception& fault) {
    return refuse({base::ErrorKind::internal, fault.what()});
  }
}

/// Notes go to standard error: standard output is the engine's.
void use_stderr_for_notes() {
#ifdef THAW_WEIGHTS_SHARED_LIBRARY
  static const bool done = [] {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("thaw_weights", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
    return true;
  }();
  (void)done;
#endif
}

pipeline::LoaderOptions loader_options(const thaw_weights_options* options) {
  pipeline::LoaderOptions result;
  if (options == nullptr) return result;
  if (options->chunk_bytes != 0) result.ring.chunk_bytes = options->chunk_bytes;
  if (options->chunks != 0) result.ring.depth = options->chunks;
  if (options->cuda_library != nullptr) result.cuda_library = options->cuda_library;
  return result;
}

pipeline::TensorPart part_of(const thaw_weights_tensor& tensor) {
  pipeline::TensorPart part;
  part.file = tensor.file;
  part.device = tensor.device;
  part.offset = tensor.offset;
  part.row_bytes = tensor.row_bytes;
  part.rows = tensor.rows;
  part.file_stride = tensor.file_stride;
  part.destination = tensor.destination;
  part.destination_stride = tensor.destination_stride;
  return part;
}

}  // namespace

extern "C" {

int thaw_weights_version(void) {
  return THAW_WEIGHTS_VERSION;
}

const char* thaw_weights_error(void) {
  return last_error().c_str();
}

int thaw_weights_open(const thaw_weights_options* options, thaw_weights_loader** loader) {
  return guarded([&] {
    if (loader == nullptr) return refuse({base::ErrorKind::invalid, "thaw_weights_open: no place for the loader"});
    use_stderr_for_notes();
    auto opened = pipeline::Loader::open(loader_options(options));
    if (!opened.ok()) return refuse(opened.error());
    *loader = new thaw_weights_loader{std::move(opened).value()};
    return static_cast<int>(THAW_WEIGHTS_OK);
  });
}

void thaw_weights_close(thaw_weights_loader* loader) {
  delete loader;
}

int thaw_weights_start(thaw_weights_loader* loader, const char* const* files, size_t file_count,
                       const thaw_weights_tensor* tensors, size_t tensor_count,
                       const thaw_weights_load_options* options, thaw_weights_load** load) {
  return guarded([&] {
    if (loader == nullptr || load == nullptr || (file_count > 0 && files == nullptr) ||
        (tensor_count > 0 && tensors == nullptr))
      return refuse({base::ErrorKind::invalid, "thaw_weights_start: a pointer is missing"});
    // Before anything is copied: these are the caller's numbers.
    if (file_count > pipeline::Plan::kMaxFiles || tensor_count > pipeline::Plan::kMaxTensors)
      return refuse({base::ErrorKind::invalid, "thaw_weights_start: too many files or tensors"});
    std::vector<std::string> paths(files, files + file_count);
    std::vector<pipeline::TensorPart> parts;
    parts.reserve(tensor_count);
    for (size_t i = 0; i < tensor_count; ++i) parts.push_back(part_of(tensors[i]));
    const bool has_window = options != nullptr && options->window_bytes != 0;
    const std::uint64_t window_bytes = has_window ? options->window_bytes : pipeline::LoadOptions{}.window_bytes;
    auto started = loader->loader->start(std::move(paths), std::move(parts), window_bytes);
    if (!started.ok()) return refuse(started.error());
    *load = new thaw_weights_load{std::move(started).value()};
    return static_cast<int>(THAW_WEIGHTS_OK);
  });
}

int thaw_weights_next(thaw_weights_load* load, int timeout_ms, thaw_weights_event* event) {
  return guarded([&] {
    std::optional<base::Duration> timeout;
    if (timeout_ms >= 0) timeout = base::Millis(timeout_ms);
    const auto next = load->load->next(timeout);
    if (!next.ok())
      return load->load->cancelled() ? static_cast<int>(THAW_WEIGHTS_CANCELLED) : status_of(next.error().kind);
    if (!*next) return static_cast<int>(THAW_WEIGHTS_TIMEOUT);
    using Kind = pipeline::LoadEvent::Kind;
    const Kind kind = (*next)->kind;
    event->kind = kind == Kind::end    ? THAW_WEIGHTS_END
                  : kind == Kind::done ? THAW_WEIGHTS_DONE
                                       : THAW_WEIGHTS_NEEDS_DESTINATION;
    event->tensor = (*next)->tensor;
    return static_cast<int>(THAW_WEIGHTS_OK);
  });
}

int thaw_weights_provide(thaw_weights_load* load, uint32_t tensor, uint64_t destination) {
  return guarded([&] {
    const base::Status status = load->load->provide(tensor, destination);
    return status.ok() ? static_cast<int>(THAW_WEIGHTS_OK) : refuse(status.error());
  });
}

void thaw_weights_get_progress(thaw_weights_load* load, thaw_weights_progress* progress) {
  const pipeline::LoadProgress now = load->load->progress();
  *progress = {now.tensors,    now.tensors_done,   now.bytes,          now.bytes_done,
               now.read_bytes, now.buffered_bytes, now.pageable_bytes, base::to_s(now.duration)};
}

void thaw_weights_cancel(thaw_weights_load* load) {
  load->load->cancel();
}

void thaw_weights_free(thaw_weights_load* load) {
  if (load == nullptr) return;
  load->load->cancel();
  load->load->wait_ended();
  delete load;
}

const char* thaw_weights_load_error(thaw_weights_load* load) {
  return load->load->error_text();
}

}  // extern "C"
