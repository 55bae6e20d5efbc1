#include "node/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <set>

#include <fmt/format.h>

#include "node/weights/buffered_file.h"
#include "node/weights/json_scan.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;
using spec::printable;

static_assert(std::endian::native == std::endian::little, "the header's length is read as it lies in the file");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::size_t kMaxDtypeBytes = 64;

struct DtypeTraits {
  std::string_view name;
  std::uint64_t bits;
};

// enum Dtype in safetensors/src/tensor.rs, of 0.8.
constexpr std::array kDtypes{
    DtypeTraits{"BOOL", 8},        DtypeTraits{"F4", 4},          DtypeTraits{"F6_E2M3", 6}, DtypeTraits{"F6_E3M2", 6}, DtypeTraits{"U8", 8},
    DtypeTraits{"I8", 8},          DtypeTraits{"F8_E5M2", 8},     DtypeTraits{"F8_E4M3", 8}, DtypeTraits{"F8_E8M0", 8}, DtypeTraits{"I16", 16},
    DtypeTraits{"U16", 16},        DtypeTraits{"F16", 16},        DtypeTraits{"BF16", 16},   DtypeTraits{"I32", 32},    DtypeTraits{"U32", 32},
    DtypeTraits{"F32", 32},        DtypeTraits{"C64", 64},        DtypeTraits{"F64", 64},    DtypeTraits{"I64", 64},    DtypeTraits{"U64", 64},
    DtypeTraits{"F8_E4M3FNUZ", 8}, DtypeTraits{"F8_E5M2FNUZ", 8},
};

Error invalid(std::string message) {
  return {ErrorKind::invalid, std::move(message)};
}

/// Takes the header's JSON: {"__metadata__": {KEY: TEXT, ...}, TENSOR: {"dtype": TEXT, "shape": [N, ...], "data_offsets": [N, N]}, ...}.
class HeaderSink : public JsonSink {
 public:
  explicit HeaderSink(SafetensorsHeader& header) : header_(header) {}

  base::Status take(JsonEvent event, std::string_view text, std::uint64_t number) override {
    switch (place_) {
      case Place::start:
        return take_start(event);
      case Place::header:
        return take_name(event, text);
      case Place::metadata:
        return take_note(event, text);
      case Place::tensor:
        return take_field(event, text);
      case Place::dtype:
        return take_dtype(event, text);
      case Place::shape:
        return take_number(event, number, tensor().shape, kMaxSafetensorsDimensions, "shape");
      case Place::offsets:
        return take_number(event, number, offsets_, 2, "data_offsets");
    }
    return invalid("unreachable");
  }

 private:
  enum class Place { start, header, metadata, tensor, dtype, shape, offsets };

  SafetensorsTensor& tensor() { return header_.tensors.back(); }
  [[nodiscard]] std::string tensor_name() const { return printable(header_.tensors.back().name); }

  base::Status take_start(JsonEvent event) {
    if (event != JsonEvent::object_begin) return invalid("the header is no JSON object");
    place_ = Place::header;
    return {};
  }

  base::Status take_name(JsonEvent event, std::string_view text) {
    if (event == JsonEvent::object_end) return {};
    if (event == JsonEvent::key) {
      in_metadata_ = text == "__metadata__";
      if (in_metadata_ && std::exchange(had_metadata_, true)) return invalid("__metadata__ a second time");
      if (in_metadata_) return {};
      if (header_.tensors.size() == kMaxSafetensorsTensors) return invalid(fmt::format("more than {} tensors", kMaxSafetensorsTensors));
      header_.tensors.emplace_back().name = text;
      return {};
    }
    if (event != JsonEvent::object_begin) return invalid(in_metadata_ ? "__metadata__ is no object" : "tensor " + tensor_name() + " is no object");
    place_ = in_metadata_ ? Place::metadata : Place::tensor;
    seen_.fill(false);
    offsets_.clear();
    return {};
  }

  base::Status take_note(JsonEvent event, std::string_view text) {
    if (event == JsonEvent::object_end) {
      notes_.clear();
      place_ = Place::header;
    } else if (event == JsonEvent::key) {
      if (notes_.size() == kMaxSafetensorsNotes) return invalid(fmt::format("more than {} keys in __metadata__", kMaxSafetensorsNotes));
      if (!notes_.emplace(text).second) return invalid(fmt::format("{} in __metadata__ a second time", printable(text)));
    } else if (event != JsonEvent::string) {
      return invalid("a value in __metadata__ is no string");
    }
    return {};
  }

  base::Status take_field(JsonEvent event, std::string_view text) {
    if (event == JsonEvent::object_end) {
      const auto missing = std::find(seen_.begin(), seen_.end(), false);
      if (missing != seen_.end())
        return invalid(fmt::format("tensor {} has no {}", tensor_name(), kFields.at(static_cast<std::size_t>(missing - seen_.begin()))));
      place_ = Place::header;
      return finish_tensor();
    }
    const auto field = std::find(kFields.begin(), kFields.end(), text);  // nothing but a key can come here
    if (field == kFields.end()) return invalid(fmt::format("tensor {} has an unknown field {}", tensor_name(), printable(text)));
    const auto index = static_cast<std::size_t>(field - kFields.begin());
    if (std::exchange(seen_.at(index), true)) return invalid(fmt::format("tensor {} has {} a second time", tensor_name(), *field));
    place_ = kPlaces.at(index);
    return {};
  }

  base::Status take_dtype(JsonEvent event, std::string_view text) {
    if (event != JsonEvent::string) return invalid("the dtype of tensor " + tensor_name() + " is no string");
    if (!safetensors_dtype_bits(text)) {
      return invalid(
          fmt::format("tensor {} is of dtype {}, which thaw does not know; convert the model to a common one", tensor_name(), printable(text)));
    }
    tensor().dtype = text;
    place_ = Place::tensor;
    return {};
  }

  base::Status take_number(JsonEvent event, std::uint64_t number, std::vector<std::uint64_t>& into, std::size_t max_count, const char* field) {
    if (event == JsonEvent::array_begin && !std::exchange(in_array_, true)) return {};
    if (event == JsonEvent::array_end) {
      in_array_ = false;
      place_ = Place::tensor;
      return {};
    }
    if (event != JsonEvent::natural || !in_array_) return invalid(fmt::format("{} of tensor {} is no array of whole numbers", field, tensor_name()));
    if (into.size() == max_count) return invalid(fmt::format("{} of tensor {} has more than {} numbers", field, tensor_name(), max_count));
    into.push_back(number);
    return {};
  }

  /// Offsets count from the header's end, until place_tensors() has moved them.
  base::Status finish_tensor() {
    if (offsets_.size() != 2 || offsets_[1] < offsets_[0]) return invalid("data_offsets of tensor " + tensor_name() + " are no begin and end");
    std::uint64_t extent = 1;  // of the dimensions that are not 0: whoever multiplies some of them must not meet an overflow either
    bool empty = false;
    for (const std::uint64_t dimension : tensor().shape) {
      empty = empty || dimension == 0;
      if (__builtin_mul_overflow(extent, std::max<std::uint64_t>(1, dimension), &extent))
        return invalid("the shape of tensor " + tensor_name() + " overflows");
    }
    const std::uint64_t elements = empty ? 0 : extent;
    std::uint64_t bits = 0;
    if (__builtin_mul_overflow(elements, *safetensors_dtype_bits(tensor().dtype), &bits))
      return invalid("the size of tensor " + tensor_name() + " overflows");
    if (bits % 8 != 0)
      return invalid(fmt::format("tensor {} has {} values of {}, no whole number of bytes", tensor_name(), elements, tensor().dtype));
    tensor().offset = offsets_[0];
    tensor().bytes = offsets_[1] - offsets_[0];
    if (tensor().bytes == bits / 8) return {};
    return invalid(
        fmt::format("tensor {} takes {} bytes by its data_offsets, but {} by its shape and dtype", tensor_name(), tensor().bytes, bits / 8));
  }

  static constexpr std::array<std::string_view, 3> kFields{"dtype", "shape", "data_offsets"};
  static constexpr std::array kPlaces{Place::dtype, Place::shape, Place::offsets};

  SafetensorsHeader& header_;
  Place place_ = Place::start;
  bool in_metadata_ = false;
  bool had_metadata_ = false;
  bool in_array_ = false;
  std::set<std::string, std::less<>> notes_;
  std::array<bool, 3> seen_{};
  std::vector<std::uint64_t> offsets_;
};

base::Status check_names(const SafetensorsHeader& header) {
  std::vector<std::string_view> names;
  names.reserve(header.tensors.size());
  for (const SafetensorsTensor& tensor : header.tensors) names.emplace_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return invalid(fmt::format("tensor {} is there twice", printable(*twice)));
  return {};
}

/// Moves offsets to the file's, and checks that the tensors cover the data section once and whole.
base::Status place_tensors(SafetensorsHeader& header) {
  std::sort(header.tensors.begin(), header.tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::pair(a.offset, a.offset + a.bytes) < std::pair(b.offset, b.offset + b.bytes);
  });
  const std::uint64_t data_bytes = header.file_bytes - header.data_offset;
  std::uint64_t expected = 0;
  for (SafetensorsTensor& tensor : header.tensors) {
    if (tensor.offset != expected) {
      return invalid(
          fmt::format("tensor {} begins at byte {} of the data, where the one before it ends at {}: tensors may neither overlap nor leave "
                      "holes",
                      printable(tensor.name), tensor.offset, expected));
    }
    expected += tensor.bytes;
    if (expected > data_bytes) {
      return invalid(fmt::format("tensor {} ends at byte {} of the data, which has {}: the file is incomplete; fetch it again",
                                 printable(tensor.name), expected, data_bytes));
    }
    tensor.offset += header.data_offset;
  }
  if (expected == data_bytes) return {};
  return invalid(
      fmt::format("the tensors end at byte {} of the data, which has {}: {} bytes belong to nothing", expected, data_bytes, data_bytes - expected));
}

base::Status read_header(BufferedFile& file, SafetensorsHeader& header) {
  std::uint64_t length = 0;
  THAW_RETURN_IF_ERROR(file.read(&length, sizeof length));
  if (length > kMaxSafetensorsHeaderBytes) {
    return invalid(
        fmt::format("it says that its header has {} bytes, more than {}: it is no safetensors file, or damaged", length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file.remaining()) {
    return invalid(
        fmt::format("its header of {} bytes does not end before the file does, at {}: it is incomplete; fetch it again", length, header.file_bytes));
  }
  header.data_offset = kLengthBytes + length;
  HeaderSink sink(header);
  const JsonLimits limits{.depth = 4, .key_bytes = kMaxSafetensorsNameBytes, .string_bytes = kMaxDtypeBytes, .begins_with_brace = true};
  THAW_RETURN_IF_ERROR(scan_json(file, length, limits, sink));
  THAW_RETURN_IF_ERROR(check_names(header));
  return place_tensors(header);
}

}  // namespace

std::optional<std::uint64_t> safetensors_dtype_bits(std::string_view dtype) {
  const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(), [dtype](const DtypeTraits& t) { return t.name == dtype; });
  if (found == kDtypes.end()) return std::nullopt;
  return found->bits;
}

base::Result<SafetensorsHeader> read_safetensors_header(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(auto file, BufferedFile::open(path, kLengthBytes + kMaxSafetensorsHeaderBytes));
  SafetensorsHeader header;
  header.path = path;
  header.file_bytes = file.file_bytes();
  const base::Status status = read_header(file, header);
  if (!status.ok()) return status.error().within("cannot read " + path);
  return header;
}

std::uint64_t SafetensorsModel::file_bytes() const {
  std::uint64_t sum = 0;
  for (const SafetensorsHeader& shard : shards) sum += shard.file_bytes;
  return sum;
}

}  // namespace thaw::node
