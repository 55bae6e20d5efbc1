#include "node/oci/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "spec/problems.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxText = 64ULL << 10;
constexpr std::size_t kMaxPath = 4'096;
constexpr std::size_t kMaxWhiteouts = 100'000;
constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";

// Offsets and lengths of a header's fields: POSIX.1-1988 "ustar".
constexpr std::size_t kSizeAt = 124, kSizeLength = 12, kSumAt = 148, kSumLength = 8, kTypeAt = 156, kMagicAt = 257, kPrefixAt = 345;
constexpr std::size_t kNameLength = 100, kPrefixLength = 155;

Error wrong(std::string_view why) {
  return {ErrorKind::invalid, fmt::format("it is no layer that can be unpacked: {}", why)};
}

std::string field(const std::array<char, 512>& block, std::size_t at, std::size_t length) {
  const char* const begin = block.data() + at;
  return {begin, static_cast<const char*>(std::find(begin, begin + length, '\0'))};
}

/// Octal digits, perhaps with spaces around them; or GNU's big-endian binary, whose first bit is set.
base::Result<std::uint64_t> number(const std::array<char, 512>& block, std::size_t at, std::size_t length) {
  if ((static_cast<unsigned char>(block.at(at)) & 0x80U) != 0) {
    std::uint64_t value = 0;
    for (std::size_t i = 1; i < length; ++i) {
      if (value > UINT64_MAX >> 9U) return wrong("a number is too large");
      value = value << 8U | static_cast<unsigned char>(block.at(at + i));
    }
    return value;
  }
  std::string text = field(block, at, length);
  text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
  if (text.empty()) return std::uint64_t{0};
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error != std::errc() || end != text.data() + text.size()) return wrong("a number in a header is none");
  return value;
}

/// The sum of all bytes, those of the sum itself as spaces; some wrote it with signed bytes.
bool sum_is_right(const std::array<char, 512>& block, std::uint64_t said) {
  std::uint64_t unsigned_sum = 0;
  std::int64_t signed_sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const char c = i >= kSumAt && i < kSumAt + kSumLength ? ' ' : block.at(i);
    unsigned_sum += static_cast<unsigned char>(c);
    signed_sum += static_cast<signed char>(c);
  }
  return said == unsigned_sum || static_cast<std::int64_t>(said) == signed_sum;
}

/// "./usr//lib/" -> "usr/lib". Fails for what leads out, and for a NUL.
base::Result<std::string> clean(std::string_view path) {
  if (path.size() > kMaxPath) return wrong("a path is longer than 4,096 bytes");
  if (path.find('\0') != std::string_view::npos) return wrong("a path has a NUL");
  std::string out;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (part == "..") return wrong("a path leads out of it (\"..\")");
    out += (out.empty() ? "" : "/") + std::string(part);
  }
  return out;
}

}  // namespace

base::Status TarReader::add(std::string_view bytes) {
  while (!bytes.empty()) {
    if (filled_ == 0 && skip_blocks_ > 0 && bytes.size() >= kBlock) {
      const std::uint64_t blocks = std::min<std::uint64_t>(skip_blocks_, bytes.size() / kBlock);
      skip_blocks_ -= blocks;
      bytes.remove_prefix(static_cast<std::size_t>(blocks * kBlock));
      continue;
    }
    const std::size_t taken = std::min(kBlock - filled_, bytes.size());
    std::memcpy(block_.data() + filled_, bytes.data(), taken);
    filled_ += taken;
    bytes.remove_prefix(taken);
    if (filled_ < kBlock) return {};
    filled_ = 0;
    THAW_RETURN_IF_ERROR(take_block());
  }
  return {};
}

base::Status TarReader::take_block() {
  if (skip_blocks_ > 0) {
    --skip_blocks_;
    return {};
  }
  if (text_left_ > 0) {
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(text_left_, kBlock));
    text_.append(block_.data(), taken);
    text_left_ -= taken;
    return text_left_ > 0 ? base::Status() : take_body();
  }
  if (ended_) return {};  // padding: tar pads to 10 KiB, and nobody reads it
  if (std::all_of(block_.begin(), block_.end(), [](char c) { return c == 0; })) {
    ended_ = ++zero_blocks_ == 2;
    return {};
  }
  if (zero_blocks_ > 0) return wrong("there is something after its end");
  return take_header();
}

base::Status TarReader::take_header() {
  THAW_ASSIGN_OR_RETURN(const std::uint64_t sum, number(block_, kSumAt, kSumLength));
  if (!sum_is_right(block_, sum)) return wrong("a header's checksum differs");
  THAW_ASSIGN_OR_RETURN(std::uint64_t size, number(block_, kSizeAt, kSizeLength));
  const char type = block_.at(kTypeAt);
  switch (type) {
    case 'L':
      body_ = Body::long_name;
      break;
    case 'K':
      body_ = Body::long_link;
      break;
    case 'x':
      body_ = Body::pax;
      break;
    case 'g':
      body_ = Body::pax_global;
      break;
    default: {
      std::string name = field(block_, 0, kNameLength);
      const bool ustar = std::memcmp(block_.data() + kMagicAt, "ustar\0", 6) == 0;
      if (const std::string prefix = field(block_, kPrefixAt, kPrefixLength); ustar && !prefix.empty()) name = prefix + "/" + name;
      if (!next_name_.empty()) name = std::move(next_name_);
      if (!next_size_.empty()) {
        const auto [end, error] = std::from_chars(next_size_.data(), next_size_.data() + next_size_.size(), size);
        if (error != std::errc() || end != next_size_.data() + next_size_.size()) return wrong("a pax size is no number");
      }
      next_name_.clear();
      next_size_.clear();
      return take_entry(name, type, size);
    }
  }
  if (size == 0 || size > kMaxText) return wrong("a long name or a pax record is empty or longer than 64 KiB");
  text_.clear();
  text_left_ = size;
  return {};
}

base::Status TarReader::take_body() {
  if (body_ == Body::pax || body_ == Body::pax_global) return take_pax();
  if (body_ == Body::long_link) return {};
  next_name_ = text_.substr(0, text_.find('\0'));
  return {};
}

/// "27 path=usr/lib/x\n", again and again.
base::Status TarReader::take_pax() {
  std::string_view rest = text_;
  while (!rest.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<std::size_t>(end - rest.data());
    if (error != std::errc() || length <= digits + 2 || length > rest.size() || rest[digits] != ' ' || rest[length - 1] != '\n')
      return wrong("a pax record is none");
    const std::string_view record = rest.substr(digits + 1, length - digits - 2);
    rest.remove_prefix(length);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) return wrong("a pax record is none");
    const std::string_view key = record.substr(0, equals);
    if (key.starts_with("GNU.sparse")) return wrong("it has a sparse file");
    const bool counts = key == "path" || key == "size";
    if (counts && body_ == Body::pax_global) return wrong("a pax record names all files alike");
    if (key == "path") next_name_ = std::string(record.substr(equals + 1));
    if (key == "size") next_size_ = std::string(record.substr(equals + 1));
  }
  return {};
}

base::Status TarReader::take_entry(const std::string& raw_name, char type, std::uint64_t size) {
  if (type == 'S') return wrong("it has a sparse file");
  if (++contents_.entries > bounds_.entries)
    return Error{ErrorKind::exhausted, fmt::format("a layer has more than {} files; make the image of fewer", bounds_.entries)};
  // Only files have bodies: links and directories of old tars that say a size have none (Go's reader, umoci's, sees it alike).
  const bool has_body = type == '0' || type == '\0' || type == '7';
  if (!has_body && type != '5' && type != '1' && type != '2' && type != '3' && type != '4' && type != '6')
    return wrong(fmt::format("it has an entry of type \"{}\"", spec::printable(std::string(1, type))));
  if (has_body) {
    if (size > bounds_.file_bytes || contents_.file_bytes > bounds_.file_bytes - size)
      return Error{ErrorKind::exhausted, "a layer unpacks to more than an image may have; raise node.containerImages.maxImage if it is meant to"};
    contents_.file_bytes += size;
    skip_blocks_ = (size + kBlock - 1) / kBlock;
    last_bytes_ = size == 0 ? 0 : static_cast<std::size_t>((size - 1) % kBlock + 1);
  }
  THAW_ASSIGN_OR_RETURN(const std::string name, clean(raw_name));
  const std::size_t slash = name.rfind('/');
  const std::string base_name = slash == std::string::npos ? name : name.substr(slash + 1);
  const std::string directory = slash == std::string::npos ? std::string() : name.substr(0, slash);
  if (!base_name.starts_with(kWhiteout)) return {};
  if (contents_.whiteouts.size() + contents_.opaque_dirs.size() >= kMaxWhiteouts)
    return wrong("it takes more than 100,000 files out of lower layers");
  if (base_name == kOpaque) {
    contents_.opaque_dirs.push_back(directory);
    return {};
  }
  const std::string gone = base_name.substr(kWhiteout.size());
  if (gone.empty() || gone == "." || gone == ".." || gone.starts_with(kWhiteout)) return wrong("a whiteout names nothing");
  contents_.whiteouts.push_back(directory.empty() ? gone : directory + "/" + gone);
  return {};
}

base::Result<LayerContents> TarReader::finish() {
  // Without the two empty blocks at its end it is accepted, as by Go's reader, and without the padding of its last file (umoci insert writes
  // neither).
  const bool only_padding = skip_blocks_ == 1 && filled_ >= last_bytes_;
  if (!only_padding && (filled_ != 0 || skip_blocks_ > 0 || text_left_ > 0)) return wrong("it ends in the middle of a file");
  return contents_;
}

}  // namespace thaw::node
