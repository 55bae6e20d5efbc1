#include "node/cdi/registry.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "node/sandbox/fd.h"
#include "spec/yaml.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNamed = 8;  // devices and problems that an error lists

base::Result<std::string> read_trusted(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return base::errno_error("cannot read " + path, errno);
  if (!S_ISREG(info.st_mode)) return base::Error{base::ErrorKind::invalid, path + " is no file"};
  if ((info.st_uid != 0 && info.st_uid != ::geteuid()) || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("{} is not used: others than root may write it; chown root {} && chmod 644 {}", path, path, path)};
  if (static_cast<std::uint64_t>(info.st_size) > spec::kMaxYamlBytes)
    return base::Error{base::ErrorKind::invalid, fmt::format("{} has {} bytes; at most {} are read", path, info.st_size, spec::kMaxYamlBytes)};
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + at, text.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error("cannot read " + path, errno);
    if (got == 0) break;
    at += static_cast<std::size_t>(got);
  }
  text.resize(at);
  return text;
}

std::string first_of(const std::vector<std::string>& all) {
  const std::vector<std::string> shown(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), kNamed)));
  return fmt::format("{}{}", fmt::join(shown, ", "), all.size() > kNamed ? ", …" : "");
}

}  // namespace

CdiRegistry CdiRegistry::load(const std::vector<std::string>& directories) {
  CdiRegistry registry;
  for (std::size_t level = 0; level < directories.size(); ++level) registry.read_directory(directories[level], level);
  return registry;
}

void CdiRegistry::read_directory(const std::string& directory, std::size_t level) {
  std::error_code error;
  std::vector<std::string> paths;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string suffix = entry->path().extension();
    if (suffix == ".json" || suffix == ".yaml" || suffix == ".yml") paths.push_back(entry->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) problems_.push_back(fmt::format("cannot list {}: {}", directory, error.message()));
  std::sort(paths.begin(), paths.end());
  if (paths.size() > kMaxFiles) {
    problems_.push_back(fmt::format("{} has {} files; those after {} are left out", directory, paths.size(), paths[kMaxFiles - 1]));
    paths.resize(kMaxFiles);
  }
  for (const std::string& path : paths) read_file(path, level);
}

void CdiRegistry::read_file(const std::string& path, std::size_t level) {
  auto text = read_trusted(path);
  auto parsed = text.ok() ? parse_cdi(*text, path) : base::Result<CdiSpec>(text.error());
  if (!parsed.ok()) {
    problems_.push_back(parsed.error().message);
    return;
  }
  const std::size_t index = specs_.size();
  for (std::size_t i = 0; i < parsed->devices.size(); ++i) {
    const auto [found, fresh] = by_name_.try_emplace(parsed->kind + "=" + parsed->devices[i].name, Found{index, i, level, {}});
    if (fresh) continue;
    if (found->second.level == level)
      found->second.other = path;
    else
      found->second = Found{index, i, level, {}};
  }
  files_.push_back(path);
  specs_.push_back(std::move(parsed).value());
}

bool CdiRegistry::has_kind(const std::string& kind) const {
  return std::any_of(specs_.begin(), specs_.end(), [&](const CdiSpec& one) { return one.kind == kind; });
}

std::vector<std::string> CdiRegistry::devices(const std::string& kind) const {
  std::vector<std::string> names;
  for (const auto& [name, found] : by_name_)
    if (specs_[found.spec].kind == kind) names.push_back(specs_[found.spec].devices[found.device].name);
  return names;
}

base::Result<CdiEdits> CdiRegistry::edits_for(const std::vector<std::string>& names) const {
  CdiEdits edits;
  std::set<std::size_t> used;
  for (const std::string& name : names) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) {
      std::vector<std::string> known;
      for (const auto& [other, where] : by_name_) known.push_back(other);
      std::string message = fmt::format("no CDI file declares the device {}; ", name);
      message += known.empty() ? "none declares any" : "declared are " + first_of(known);
      if (!problems_.empty()) message += "; not used: " + first_of(problems_);
      return base::Error{base::ErrorKind::not_found, message};
    }
    const Found& at = found->second;
    if (!at.other.empty())
      return base::Error{base::ErrorKind::conflict, fmt::format("the device {} is declared by both {} and {}; remove one", name, files_[at.spec], at.other)};
    if (used.insert(at.spec).second) edits.append(specs_[at.spec].edits);
    edits.append(specs_[at.spec].devices[at.device].edits);
  }
  return edits;
}

}  // namespace thaw::node
