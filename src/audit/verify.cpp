#include "audit/verify.h"

#include <filesystem>

#include "audit/durable_file.h"
#include "audit/segments.h"

namespace thaw::audit {
namespace {

constexpr std::size_t kMaxHeadBytes = 1024;
constexpr std::size_t kMaxAnchors = 10'000'000;

/// Takes a head's line into account, or says what is wrong with it.
void take_head(std::string_view line, const std::string& file, std::uint64_t number, const std::string& key,
               ChainChecker& checker) {
  const auto head = decode_head(line);
  if (!head.ok()) {
    checker.report().add({"signature", file, number, 0, head.error().message});
  } else if (head->key != key) {
    checker.report().add({"signature", file, number, head->seq,
                          "signed with another key (" + head->key + ") than this log's (" + key + ")"});
  } else if (!signature_holds(*head)) {
    checker.report().add({"signature", file, number, head->seq, "the signature does not hold: the head was altered"});
  } else {
    checker.expect(*head, file, number);
  }
}

/// Heads beside the log: the last one and those of sealed files.
base::Status take_local_heads(const std::string& directory, const std::vector<Segment>& segments,
                              const std::string& key, ChainChecker& checker) {
  std::vector<std::string> paths{head_path(directory)};
  for (const Segment& segment : segments) paths.push_back(seal_path(segment.path));
  for (const std::string& path : paths) {
    auto text = read_small_file(path, kMaxHeadBytes);
    if (!text.ok() && text.error().kind == base::ErrorKind::not_found) continue;  // none yet
    if (!text.ok()) return text.error();
    if (text->ends_with('\n')) text->pop_back();
    take_head(*text, name_of(path), 1, key, checker);
  }
  return {};
}

base::Status take_anchors(const std::string& path, const std::string& key, ChainChecker& checker) {
  std::size_t count = 0;
  THAW_RETURN_IF_ERROR(each_line(path, 0, [&](const Line& line) {
    if (!line.complete && !decode_head(line.text).ok()) return false;  // is being written
    take_head(line.text, path, line.number, key, checker);
    return ++count < kMaxAnchors;
  }));
  if (count == 0) return base::Error{base::ErrorKind::invalid, path + " holds no signed head"};
  if (count >= kMaxAnchors)
    return base::Error{base::ErrorKind::exhausted, path + " holds more heads than can be checked at once; split it"};
  return {};
}

}  // namespace

base::Result<Report> verify(const VerifyOptions& options) {
  // Heads first: a server that goes on writing meanwhile only makes the log longer.
  THAW_ASSIGN_OR_RETURN(const auto sealed, list_segments(options.directory));
  THAW_ASSIGN_OR_RETURN(
      const std::string key,
      read_public_key(options.public_key_path.empty() ? options.directory + "/signing.pub" : options.public_key_path));
  ChainChecker checker;
  if (!options.anchor_path.empty()) THAW_RETURN_IF_ERROR(take_anchors(options.anchor_path, key, checker));
  THAW_RETURN_IF_ERROR(take_local_heads(options.directory, sealed, key, checker));
  THAW_ASSIGN_OR_RETURN(const auto segments, list_segments(options.directory));
  for (const Segment& segment : segments) {
    const bool last = &segment == &segments.back();
    checker.begin_file(name_of(segment.path));
    THAW_RETURN_IF_ERROR(each_line(segment.path, 0, [&](const Line& line) {
      checker.line(line.text, line.number, line.complete, last);
      return true;
    }));
  }
  return checker.finish();
}

}  // namespace thaw::audit
