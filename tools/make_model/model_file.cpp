#include "make_model/model_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/units.h"
#include "make_model/header.h"
#include "make_model/vocabulary.h"
#include "make_model/weights.h"

namespace thaw::make_model {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kChunk_bytes = 1ULL << 20;  // made and written at a time: fits the cache

Error write_error(const std::filesystem::path& path, int error_number) {
  if (error_number == ENOSPC || error_number == EDQUOT)
    return {
        ErrorKind::exhausted,
        fmt::format("cannot write {}: no space left on its disk; free some or choose another place", path.string())};
  return base::errno_error("cannot write " + path.string(), error_number);
}

/// The file while it is being written. Unless committed it is removed again; a lock keeps two writers apart, and a
/// partial file left over by a killed one is taken over.
class PartialFile {
 public:
  static base::Result<PartialFile> open(const std::filesystem::path& target) {
    PartialFile file;
    file.target_ = target;
    file.path_ = target.string() + ".partial";
    file.fd_ = ::open(file.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file.fd_ < 0) return base::errno_error("cannot create " + file.path_.string(), errno);
    if (::flock(file.fd_, LOCK_EX | LOCK_NB) != 0) {
      file.close();  // it is another's: leave it
      return Error{ErrorKind::conflict,
                   "cannot write " + target.string() + ": another make-model is writing it; wait for it"};
    }
    if (::ftruncate(file.fd_, 0) != 0) return write_error(file.path_, errno);
    return file;
  }

  PartialFile(PartialFile&& other) noexcept
      : target_(std::move(other.target_)), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  PartialFile& operator=(PartialFile&&) = delete;
  ~PartialFile() {
    if (fd_ < 0) return;
    ::unlink(path_.c_str());
    close();
  }

  /// Takes the space at once, so that a full disk shows before minutes of writing.
  base::Status reserve(std::uint64_t bytes) {
    if (::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0 || errno == EOPNOTSUPP) return {};
    return write_error(target_, errno);
  }

  base::Status write(std::uint64_t offset, std::span<const std::uint8_t> bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return write_error(target_, written < 0 ? errno : EIO);
      offset += static_cast<std::uint64_t>(written);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return {};
  }

  base::Status commit() {
    if (::rename(path_.c_str(), target_.c_str()) != 0)
      return base::errno_error("cannot rename " + path_.string() + " to " + target_.string(), errno);
    close();
    return {};
  }

 private:
  PartialFile() = default;
  void close() { ::close(std::exchange(fd_, -1)); }

  std::filesystem::path target_, path_;
  int fd_ = -1;
};

/// One thread: making values costs a fifth of what the kernel needs to take them, and several writers of one file only
/// wait for its lock (2 threads took as long as 1 on an idle machine, thrice as long on a busy one).
base::Status write_tensors(const PartialFile& file, std::uint64_t data_offset, const std::vector<Tensor>& tensors,
                           const Vocabulary& vocabulary, std::uint64_t seed) {
  std::vector<std::uint8_t> buffer;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = tensors[i];
    const std::uint64_t bytes_per_row = row_bytes(tensor.type, tensor.columns);
    const std::uint64_t rows_at_once = std::max<std::uint64_t>(1, kChunk_bytes / bytes_per_row);
    std::uint64_t rows = 0;
    for (std::uint64_t row = 0; row < tensor.rows; row += rows) {
      rows = std::min(rows_at_once, tensor.rows - row);
      buffer.resize(rows * bytes_per_row);
      fill_rows(tensor, i, seed, vocabulary, row, buffer);
      // The last rows carry the padding before the next tensor, so that it is written, not a hole.
      if (row + rows == tensor.rows && i + 1 < tensors.size())
        buffer.resize(tensors[i + 1].offset - tensor.offset - row * bytes_per_row);
      THAW_RETURN_IF_ERROR(file.write(data_offset + tensor.offset + row * bytes_per_row, buffer));
    }
  }
  return {};
}

base::Status check(const Options& options) {
  if (options.size_bytes < kMinSize_bytes || options.size_bytes > kMaxSize_bytes)
    return Error{ErrorKind::invalid,
                 fmt::format("cannot make a model of {}; ask for 1MB to 8GiB", base::format_bytes(options.size_bytes))};
  constexpr std::uint32_t kMinContext = 32, kMaxContext = 1U << 20;
  if (options.context < kMinContext || options.context > kMaxContext)
    return Error{ErrorKind::invalid, fmt::format("cannot make a model with a context of {} tokens; ask for {} to {}",
                                                 options.context, kMinContext, kMaxContext)};
  if (options.out.filename().empty())
    return Error{ErrorKind::invalid, "cannot write the model: no file name given; name one, like model.gguf"};
  std::error_code ignored;
  if (std::filesystem::is_directory(options.out, ignored))
    return Error{ErrorKind::invalid, "cannot write " + options.out.string() + ": it is a directory; name a file in it"};
  return {};
}

}  // namespace

base::Result<Made> write_model(const Options& options) {
  THAW_RETURN_IF_ERROR(check(options));
  const Vocabulary vocabulary = make_vocabulary();
  const char* type_name = options.type == WeightType::f16 ? "f16" : "q4_0";
  const std::string name = options.name.empty()
                               ? fmt::format("made-{}-{}", base::format_bytes(options.size_bytes), type_name)
                               : options.name;

  // The header's size hardly depends on the shape: measure it on the shape that the whole size would give.
  THAW_ASSIGN_OR_RETURN(Shape shape, choose_shape(options.size_bytes, options.type, vocabulary.size()));
  const auto header_of = [&](const std::vector<Tensor>& list) {
    return make_header(name, shape, options.context, vocabulary, list);
  };
  const std::uint64_t estimate = header_of(list_tensors(shape)).size();
  THAW_ASSIGN_OR_RETURN(shape, choose_shape(options.size_bytes - estimate, options.type, vocabulary.size()));
  const std::vector<Tensor> tensors = list_tensors(shape);
  const std::string header = header_of(tensors);

  Made made{.shape = shape, .file_bytes = header.size() + data_bytes(tensors)};
  for (const Tensor& tensor : tensors) made.weights += tensor.columns * tensor.rows;

  THAW_ASSIGN_OR_RETURN(PartialFile file, PartialFile::open(options.out));
  THAW_RETURN_IF_ERROR(file.reserve(made.file_bytes));
  const std::vector<std::uint8_t> header_bytes(header.begin(), header.end());
  THAW_RETURN_IF_ERROR(file.write(0, header_bytes));
  THAW_RETURN_IF_ERROR(write_tensors(file, header.size(), tensors, vocabulary, options.seed));
  THAW_RETURN_IF_ERROR(file.commit());
  return made;
}

}  // namespace thaw::make_model
