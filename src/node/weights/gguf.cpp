#include "node/weights/gguf.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "node/weights/buffered_file.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;
using spec::printable;

static_assert(std::endian::native == std::endian::little, "GGUF values are read as they lie in the file");

constexpr std::uint64_t kMaxKeyBytes = 65'535;  // the format's bound
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxAlignment = 1ULL << 20;

// enum gguf_type in ggml/include/gguf.h
enum ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, value_type_count };

std::uint64_t scalar_bytes(std::uint32_t type) {
  switch (type) {
    case u8: case i8: case boolean: return 1;
    case u16: case i16: return 2;
    case u32: case i32: case f32: return 4;
    case u64: case i64: case f64: return 8;
    default: return 0;
  }
}

/// Reads one header, keeping track of where it is, so that every error can say so.
class HeaderReader {
 public:
  HeaderReader(BufferedFile& file, GgufHeader& header) : file_(file), header_(header) {}

  base::Status read();

 private:
  [[nodiscard]] Error invalid(const std::string& what) const {
    return {ErrorKind::invalid, fmt::format("{} at byte {}", what, file_.position())};
  }
  template <typename T>
  base::Result<T> scalar() {
    T value{};
    THAW_RETURN_IF_ERROR(file_.read(&value, sizeof value));
    return value;
  }
  base::Result<std::string> text(std::uint64_t max_bytes, const char* what);
  base::Status keep(std::uint64_t bytes);
  base::Result<GgufValue> value(std::uint32_t type, const std::string& key);
  base::Result<GgufValue> scalar_value(std::uint32_t type);
  base::Result<GgufValue> string_value();
  base::Result<GgufValue> array_value(const std::string& key);
  base::Status skip_strings(std::uint64_t count);
  base::Status metadata(std::uint64_t count);
  base::Status tensor_infos(std::uint64_t count);
  base::Result<GgufTensor> tensor_info();
  base::Status place_tensors();

  BufferedFile& file_;
  GgufHeader& header_;
  std::uint64_t kept_bytes_ = 0;
};

/// Counts what the metadata takes in memory: a file of one-byte numbers grows eightfold there.
base::Status HeaderReader::keep(std::uint64_t bytes) {
  kept_bytes_ += bytes;
  if (kept_bytes_ <= kMaxGgufKeptBytes) return {};
  return invalid(fmt::format("the metadata takes more than {} bytes", kMaxGgufKeptBytes));
}

base::Result<std::string> HeaderReader::text(std::uint64_t max_bytes, const char* what) {
  THAW_ASSIGN_OR_RETURN(const auto length, scalar<std::uint64_t>());
  if (length > max_bytes) return invalid(fmt::format("{} of {} bytes, longer than {}", what, length, max_bytes));
  std::string result(length, '\0');
  THAW_RETURN_IF_ERROR(file_.read(result.data(), length));
  return result;
}

base::Result<GgufValue> HeaderReader::scalar_value(std::uint32_t type) {
  const auto as = [this]<typename Raw, typename Kept>(Raw, Kept) -> base::Result<GgufValue> {
    THAW_ASSIGN_OR_RETURN(const Raw raw, scalar<Raw>());
    return GgufValue{static_cast<Kept>(raw)};
  };
  switch (type) {
    case u8: return as(std::uint8_t{}, std::uint64_t{});
    case u16: return as(std::uint16_t{}, std::uint64_t{});
    case u32: return as(std::uint32_t{}, std::uint64_t{});
    case u64: return as(std::uint64_t{}, std::uint64_t{});
    case i8: return as(std::int8_t{}, std::int64_t{});
    case i16: return as(std::int16_t{}, std::int64_t{});
    case i32: return as(std::int32_t{}, std::int64_t{});
    case i64: return as(std::int64_t{}, std::int64_t{});
    case f32: return as(float{}, double{});
    case f64: return as(double{}, double{});
    case boolean: {
      THAW_ASSIGN_OR_RETURN(const auto raw, scalar<std::uint8_t>());
      return GgufValue{raw != 0};
    }
    default: return invalid(fmt::format("unknown value type {}", type));
  }
}

base::Result<GgufValue> HeaderReader::string_value() {
  THAW_ASSIGN_OR_RETURN(const auto length, scalar<std::uint64_t>());
  if (length > kMaxKeptStringBytes) {
    THAW_RETURN_IF_ERROR(file_.skip(length));
    return GgufValue{std::string()};
  }
  THAW_RETURN_IF_ERROR(keep(length));
  std::string result(length, '\0');
  THAW_RETURN_IF_ERROR(file_.read(result.data(), length));
  return GgufValue{std::move(result)};
}

base::Status HeaderReader::skip_strings(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    THAW_ASSIGN_OR_RETURN(const auto length, scalar<std::uint64_t>());
    THAW_RETURN_IF_ERROR(file_.skip(length));
  }
  return {};
}

base::Result<GgufValue> HeaderReader::array_value(const std::string& key) {
  THAW_ASSIGN_OR_RETURN(const auto type, scalar<std::uint32_t>());
  GgufArray result;
  THAW_ASSIGN_OR_RETURN(result.count, scalar<std::uint64_t>());
  // A string takes 8 bytes at least: a count that cannot fit the file is refused before anything is done with it.
  const std::uint64_t element_bytes = type == string ? 8 : scalar_bytes(type);
  if (element_bytes == 0) return invalid(fmt::format("array {} of unsupported type {}", printable(key), type));
  if (result.count > file_.remaining() / element_bytes) {
    return invalid(fmt::format("array {} of {} elements, more than the file can hold", printable(key), result.count));
  }
  if (type == string) {
    THAW_RETURN_IF_ERROR(skip_strings(result.count));
    return GgufValue{std::move(result)};
  }
  if (result.count > GgufArray::kMaxKeptNumbers) {
    THAW_RETURN_IF_ERROR(file_.skip(result.count * element_bytes));
    return GgufValue{std::move(result)};
  }
  THAW_RETURN_IF_ERROR(keep(result.count * sizeof(double)));
  for (std::uint64_t i = 0; i < result.count; ++i) {
    THAW_ASSIGN_OR_RETURN(const auto element, scalar_value(type));
    result.numbers.push_back(std::visit(
        [](const auto& v) -> double {
          if constexpr (std::is_arithmetic_v<std::decay_t<decltype(v)>>) return static_cast<double>(v);
          else return 0;
        },
        element));
  }
  return GgufValue{std::move(result)};
}

base::Result<GgufValue> HeaderReader::value(std::uint32_t type, const std::string& key) {
  if (type == string) return string_value();
  if (type == array) return array_value(key);
  return scalar_value(type);
}

base::Status HeaderReader::metadata(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    THAW_ASSIGN_OR_RETURN(auto key, text(kMaxKeyBytes, "a key"));
    if (key.empty()) return invalid(fmt::format("key {} is empty", i));
    THAW_RETURN_IF_ERROR(keep(key.size() + sizeof(GgufValue)));
    THAW_ASSIGN_OR_RETURN(const auto type, scalar<std::uint32_t>());
    THAW_ASSIGN_OR_RETURN(auto read_value, value(type, key));
    if (!header_.metadata.emplace(key, std::move(read_value)).second) return invalid("key " + printable(key) + " a second time");
  }
  return {};
}

base::Result<GgufTensor> HeaderReader::tensor_info() {
  GgufTensor tensor;
  THAW_ASSIGN_OR_RETURN(tensor.name, text(kMaxGgufTensorNameBytes, "a tensor's name"));
  THAW_ASSIGN_OR_RETURN(const auto dimensions, scalar<std::uint32_t>());
  if (dimensions > tensor.shape.size()) return invalid(fmt::format("tensor {} of {} dimensions", printable(tensor.name), dimensions));
  std::uint64_t extent = 1;  // of the dimensions that are not 0: whoever multiplies some of them must not meet an overflow either
  bool empty = false;
  for (std::uint32_t d = 0; d < dimensions; ++d) {
    THAW_ASSIGN_OR_RETURN(tensor.shape.at(d), scalar<std::uint64_t>());
    empty = empty || tensor.shape.at(d) == 0;
    if (__builtin_mul_overflow(extent, std::max<std::uint64_t>(1, tensor.shape.at(d)), &extent) || extent > INT64_MAX) {
      return invalid("the shape of tensor " + printable(tensor.name) + " overflows");
    }
  }
  const std::uint64_t elements = empty ? 0 : extent;
  THAW_ASSIGN_OR_RETURN(tensor.type, scalar<std::uint32_t>());
  THAW_ASSIGN_OR_RETURN(tensor.offset, scalar<std::uint64_t>());
  const auto bytes = gguf_type_bytes(tensor.type, elements);
  if (!bytes || !gguf_type_bytes(tensor.type, tensor.shape.front())) {  // a row is a whole number of blocks too
    return invalid(fmt::format("tensor {} of {} ({} elements), which thaw does not know; convert the model to a common type", printable(tensor.name),
                               gguf_type_name(tensor.type), elements));
  }
  tensor.bytes = *bytes;
  return tensor;
}

base::Status HeaderReader::tensor_infos(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    THAW_ASSIGN_OR_RETURN(auto tensor, tensor_info());
    header_.tensors.push_back(std::move(tensor));
  }
  std::vector<std::string_view> names;
  names.reserve(header_.tensors.size());
  for (const GgufTensor& tensor : header_.tensors) names.emplace_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return Error{ErrorKind::invalid, fmt::format("tensor {} is there twice", printable(*twice))};
  return {};
}

/// Turns offsets within the data section into offsets within the file, and checks that each tensor lies in it, just behind the one before: llama.cpp
/// loads no other files, and tensors that overlap would make sums of their sizes meaningless.
base::Status HeaderReader::place_tensors() {
  const bool given = header_.metadata.contains("general.alignment");
  const std::uint64_t alignment = header_.number("general.alignment").value_or(given ? 0 : kDefaultAlignment);
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    return Error{ErrorKind::invalid, fmt::format("general.alignment is {}, no power of two up to {}", alignment, kMaxAlignment)};
  }
  header_.data_offset = (file_.position() + alignment - 1) / alignment * alignment;
  std::uint64_t expected = header_.data_offset;
  for (GgufTensor& tensor : header_.tensors) {
    if (tensor.offset % alignment != 0) return Error{ErrorKind::invalid, "tensor " + printable(tensor.name) + " is not aligned"};
    std::uint64_t end = 0;
    if (__builtin_add_overflow(tensor.offset, header_.data_offset, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, tensor.bytes, &end)) {
      return Error{ErrorKind::invalid, "the offset of tensor " + printable(tensor.name) + " overflows"};
    }
    if (end > header_.file_bytes) {
      return Error{ErrorKind::invalid, fmt::format("tensor {} ends at byte {}, the file at {}: it is incomplete; fetch it again",
                                                   printable(tensor.name), end, header_.file_bytes)};
    }
    if (tensor.offset != expected) {
      return Error{ErrorKind::invalid, fmt::format("tensor {} begins at byte {}, where the one before it ends at {}: tensors may neither overlap nor "
                                                   "leave gaps; convert the model again", printable(tensor.name), tensor.offset, expected)};
    }
    expected = (end + alignment - 1) / alignment * alignment;
  }
  return {};
}

base::Status HeaderReader::read() {
  std::array<char, 4> magic{};
  THAW_RETURN_IF_ERROR(file_.read(magic.data(), magic.size()));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    return Error{ErrorKind::invalid, "no GGUF file (it does not begin with \"GGUF\"); convert the model with llama.cpp's convert_hf_to_gguf.py"};
  }
  THAW_ASSIGN_OR_RETURN(header_.version, scalar<std::uint32_t>());
  if (header_.version != 2 && header_.version != 3) {
    return Error{ErrorKind::invalid, fmt::format("GGUF version {} (supported: 2 and 3, little-endian)", header_.version)};
  }
  THAW_ASSIGN_OR_RETURN(const auto tensors, scalar<std::uint64_t>());
  THAW_ASSIGN_OR_RETURN(const auto keys, scalar<std::uint64_t>());
  if (tensors > kMaxGgufTensors) return invalid(fmt::format("{} tensors, more than {}", tensors, kMaxGgufTensors));
  if (keys > kMaxGgufKeys) return invalid(fmt::format("{} metadata keys, more than {}", keys, kMaxGgufKeys));
  THAW_RETURN_IF_ERROR(metadata(keys));
  THAW_RETURN_IF_ERROR(tensor_infos(tensors));
  return place_tensors();
}

/// "NAME-00002-of-00003.gguf" -> the path of part `part` (from 1); nothing when the name is not made so.
std::optional<std::string> part_path(const std::string& path, std::uint64_t current, std::uint64_t part, std::uint64_t count) {
  const std::string suffix = fmt::format("-{:05}-of-{:05}.gguf", current, count);
  if (path.size() < suffix.size() || path.compare(path.size() - suffix.size(), suffix.size(), suffix) != 0) return std::nullopt;
  return path.substr(0, path.size() - suffix.size()) + fmt::format("-{:05}-of-{:05}.gguf", part, count);
}

/// That the parts hold what the first says they do, each tensor once.
base::Status check_parts(const GgufModel& model) {
  std::vector<std::pair<std::string_view, const GgufHeader*>> tensors;
  for (const GgufHeader& part : model.parts) {
    for (const GgufTensor& tensor : part.tensors) tensors.emplace_back(tensor.name, &part);
  }
  std::sort(tensors.begin(), tensors.end());
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice != tensors.end()) {
    return Error{ErrorKind::invalid, fmt::format("tensor {} is in {} and in {}; the parts were mixed up", printable(twice->first),
                                                 twice->second->path, std::next(twice)->second->path)};
  }
  const auto said = model.head().number("split.tensors.count");
  if (said && *said != tensors.size()) {
    return Error{ErrorKind::invalid, fmt::format("{} says that the parts hold {} tensors, but they hold {}; the parts were mixed up",
                                                 model.head().path, *said, tensors.size())};
  }
  return {};
}

}  // namespace

std::optional<std::uint64_t> GgufHeader::number(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  if (const auto* v = std::get_if<std::uint64_t>(&found->second)) return *v;
  if (const auto* v = std::get_if<std::int64_t>(&found->second); v != nullptr && *v >= 0) return static_cast<std::uint64_t>(*v);
  if (const auto* v = std::get_if<bool>(&found->second)) return *v ? 1 : 0;
  return std::nullopt;
}

std::optional<double> GgufHeader::real(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  if (const auto* v = std::get_if<double>(&found->second)) return *v;
  if (const auto* v = std::get_if<std::int64_t>(&found->second)) return static_cast<double>(*v);
  if (const auto* v = std::get_if<std::uint64_t>(&found->second)) return static_cast<double>(*v);
  return std::nullopt;
}

std::string GgufHeader::text(const std::string& key) const {
  const auto found = metadata.find(key);
  const auto* value = found == metadata.end() ? nullptr : std::get_if<std::string>(&found->second);
  return value != nullptr ? *value : std::string();
}

const GgufArray* GgufHeader::array(const std::string& key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : std::get_if<GgufArray>(&found->second);
}

base::Result<GgufHeader> read_gguf_header(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(auto file, BufferedFile::open(path, kMaxGgufHeaderBytes));
  GgufHeader header;
  header.path = path;
  header.file_bytes = file.file_bytes();
  const base::Status status = HeaderReader(file, header).read();
  if (!status.ok()) return status.error().within("cannot read " + path);
  return header;
}

std::uint64_t GgufModel::file_bytes() const {
  std::uint64_t sum = 0;
  for (const GgufHeader& part : parts) sum += part.file_bytes;
  return sum;
}

std::uint64_t GgufModel::tensor_bytes() const {
  std::uint64_t sum = 0;
  for (const GgufHeader& part : parts) {
    for (const GgufTensor& tensor : part.tensors) sum += tensor.bytes;  // each lies in its file, so no overflow
  }
  return sum;
}

std::vector<std::string> GgufModel::files() const {
  std::vector<std::string> paths;
  for (const GgufHeader& part : parts) paths.push_back(part.path);
  return paths;
}

base::Result<GgufModel> open_gguf_model(const std::string& path) {
  GgufModel model;
  THAW_ASSIGN_OR_RETURN(auto head, read_gguf_header(path));
  const std::uint64_t count = head.number("split.count").value_or(0);
  const std::uint64_t number = head.number("split.no").value_or(0);
  model.parts.push_back(std::move(head));
  if (count <= 1) return model;
  if (count > kMaxGgufParts) return Error{ErrorKind::invalid, fmt::format("{} is split into {} files, more than {}", path, count, kMaxGgufParts)};
  if (number >= count) return Error{ErrorKind::invalid, fmt::format("{} says that it is part {} of {}; fetch it again", path, number, count)};

  const auto first = part_path(path, number + 1, 1, count);
  if (!first) {
    return Error{ErrorKind::invalid, fmt::format("{} is part {} of {} but not named NAME-{:05}-of-{:05}.gguf; give it back its name, so that the "
                                                 "others can be found beside it", path, number + 1, count, number + 1, count)};
  }
  if (number != 0) return Error{ErrorKind::invalid, fmt::format("{} is part {} of {}; name the first: {}", path, number + 1, count, *first)};
  for (std::uint64_t part = 2; part <= count; ++part) {
    THAW_ASSIGN_OR_RETURN(auto header, read_gguf_header(*part_path(path, 1, part, count)));
    if (header.number("split.no").value_or(0) != part - 1 || header.number("split.count").value_or(0) != count) {
      return Error{ErrorKind::invalid, fmt::format("{} does not say that it is part {} of {}; the parts were mixed up", header.path, part, count)};
    }
    model.parts.push_back(std::move(header));
  }
  THAW_RETURN_IF_ERROR(check_parts(model));
  return model;
}

}  // namespace thaw::node
