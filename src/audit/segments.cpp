#include "audit/segments.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "audit/durable_file.h"
#include "audit/record.h"

namespace thaw::audit {
namespace {

constexpr std::string_view kPrefix = "audit-";
constexpr std::string_view kSuffix = ".log";
constexpr std::size_t kDigits = 16;
constexpr std::size_t kReadBytes = 256UL << 10U;

/// 0: not a segment's name.
std::uint64_t seq_of(std::string_view name) {
  if (name.size() != kPrefix.size() + kDigits + kSuffix.size() || !name.starts_with(kPrefix) ||
      !name.ends_with(kSuffix))
    return 0;
  const std::string_view digits = name.substr(kPrefix.size(), kDigits);
  std::uint64_t seq = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seq);
  return error == std::errc{} && end == digits.data() + digits.size() ? seq : 0;
}

}  // namespace

std::string segment_path(const std::string& directory, std::uint64_t first_seq) {
  return fmt::format("{}/{}{:0{}}{}", directory, kPrefix, first_seq, kDigits, kSuffix);
}

std::string seal_path(const std::string& segment) {
  return segment + ".seal";
}
std::string head_path(const std::string& directory) {
  return directory + "/head.json";
}
std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

base::Result<std::vector<Segment>> list_segments(const std::string& directory) {
  std::error_code error;
  std::vector<Segment> segments;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    if (const std::uint64_t seq = seq_of(name_of(path)); seq != 0) segments.push_back({path, seq});
  }
  if (error == std::errc::no_such_file_or_directory)
    return base::Error{base::ErrorKind::not_found,
                       "there is no audit log in " + directory + "; name the server's data directory with --data-dir"};
  if (error) return base::errno_error("cannot list " + directory, error.value());
  std::sort(segments.begin(), segments.end(),
            [](const Segment& a, const Segment& b) { return a.first_seq < b.first_seq; });
  return segments;
}

base::Status each_line(const std::string& path, std::uint64_t offset, const std::function<bool(const Line&)>& on_line) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return base::errno_error("cannot read " + path, errno);
  std::string buffer(kReadBytes, '\0');
  std::string begun;  // of a line that goes on in the next piece; bounded
  Line line{{}, 1, offset, offset, true};
  std::uint64_t at = offset;
  for (;;) {
    const ssize_t count = ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::errno_error("cannot read " + path, errno);
    if (count == 0) break;
    std::string_view rest(buffer.data(), static_cast<std::size_t>(count));
    while (!rest.empty()) {
      const std::size_t newline = rest.find('\n');
      const std::string_view part = rest.substr(0, newline);
      begun.append(part.substr(0, kMaxLineBytes + 1 - begun.size()));
      if (newline == std::string_view::npos) {
        at += part.size();
        break;
      }
      at += newline + 1;
      rest.remove_prefix(newline + 1);
      line.text = begun;
      line.end = at;
      if (!on_line(line)) return {};
      begun.clear();
      ++line.number;
      line.offset = at;
    }
  }
  if (at == line.offset) return {};
  line.text = begun;
  line.end = at;
  line.complete = false;
  on_line(line);
  return {};
}

}  // namespace thaw::audit
