#include "node/weights/source_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPartPattern = "-00001-of-00003.gguf";  // llama.cpp's llama_split_path
constexpr std::size_t kDigits = 5;

std::optional<std::size_t> digits(std::string_view text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Of how many files this is one, by its name; 1 when it is no part.
std::size_t part_count(std::string_view path) {
  if (path.size() <= kPartPattern.size()) return 1;
  const std::string_view tail = path.substr(path.size() - kPartPattern.size());
  const auto number = digits(tail.substr(1, kDigits));
  const auto count = digits(tail.substr(kDigits + 5, kDigits));
  const bool is_part = number && count && tail == fmt::format("-{:05}-of-{:05}.gguf", *number, *count) &&
                       *number >= 1 && *number <= *count;
  return is_part ? *count : 1;
}

std::vector<std::string> parts(const std::string& path, std::size_t count) {
  std::vector<std::string> files;
  std::error_code error;
  for (std::size_t part = 1; part <= std::min(count, kMaxSourceFiles); ++part) {
    std::string file =
        path.substr(0, path.size() - kPartPattern.size()) + fmt::format("-{:05}-of-{:05}.gguf", part, count);
    if (fs::exists(file, error)) files.push_back(std::move(file));
  }
  return files;
}

std::vector<std::string> safetensors_in(const fs::path& directory) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end && files.size() < kMaxSourceFiles;
       entry.increment(error))
    if (entry->path().extension() == ".safetensors") files.push_back(entry->path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<std::string> source_files(const std::string& source) {
  std::error_code error;
  const fs::file_status status = fs::status(source, error);
  if (fs::is_directory(status)) return safetensors_in(source);
  if (source.ends_with(".index.json")) return safetensors_in(fs::path(source).parent_path());
  if (const std::size_t count = part_count(source); count > 1) return parts(source, count);
  return fs::exists(status) ? std::vector<std::string>{source} : std::vector<std::string>();
}

}  // namespace thaw::node
