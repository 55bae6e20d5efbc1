#include "node/cdi/library_hooks.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

#include "spec/problems.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr const char* kLinks = "create-symlinks";
constexpr const char* kCache = "update-ldcache";
constexpr const char* kNames = "create-soname-symlinks";
constexpr std::array kKnown{kLinks,
                            kCache,
                            kNames,
                            "enable-cuda-compat",
                            "chmod",
                            "disable-device-node-modification",
                            "update-nvidia-params",         // the same of later releases
                            "check-requirements",           // what an image says it needs of a driver
                            "update-application-profile"};  // of OpenGL
constexpr std::size_t kMaxLinks = 1024;
constexpr std::size_t kMaxFolders = 64;
constexpr std::size_t kMaxPath = 1024;

bool has(const std::vector<std::string>& all, std::string_view one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

/// The values of `--name VALUE` and `--name=VALUE`.
std::vector<std::string> values_of(const std::vector<std::string>& args, const std::string& name) {
  std::vector<std::string> values;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == name && i + 1 < args.size()) values.push_back(args[++i]);
    if (args[i].starts_with(name + "=")) values.push_back(args[i].substr(name.size() + 1));
  }
  return values;
}

bool is_text(const std::string& path) {
  return !path.empty() && path.size() <= kMaxPath &&
         std::none_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; });
}

/// Absolute, and nothing that leads elsewhere.
bool is_place(const std::string& path) {
  return is_text(path) && path.starts_with('/') && (path + "/").find("/../") == std::string::npos &&
         path.find("::") == std::string::npos;
}

std::string normal(const std::string& path) {
  std::string out = std::filesystem::path(path).lexically_normal();
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

base::Result<GrantedLink> link_of(const std::string& text) {
  const std::size_t between = text.find("::");
  const std::string target = text.substr(0, between);
  const std::string path = between == std::string::npos ? std::string() : text.substr(between + 2);
  if (is_place(path) && normal(path) != "/" && is_text(target)) return GrantedLink{normal(path), target};
  return Error{
      ErrorKind::invalid,
      fmt::format(
          "the hook {} has the link \"{}\"; it must be written TARGET::PATH, with an absolute path without \"..\"",
          kLinks, spec::printable(text))};
}

Error unknown(const CdiHook& hook) {
  return {ErrorKind::invalid, fmt::format("the hook \"{} {}\" would run as root on a container image's files, which no "
                                          "program of the host is let do; take it out of the CDI "
                                          "file (nvidia-ctk cdi generate --disable-hook=NAME), or leave spec.image out",
                                          hook.path, spec::printable(fmt::format("{}", fmt::join(hook.args, " "))))};
}

}  // namespace

bool is_library_hook(const CdiHook& hook) {
  const std::string program = std::filesystem::path(hook.path).filename();
  if (program != "nvidia-ctk" && program != "nvidia-cdi-hook" && program != "nvidia-ctk-hook") return false;
  return std::any_of(kKnown.begin(), kKnown.end(), [&](const char* name) { return has(hook.args, name); });
}

base::Result<LibraryHooks> read_library_hooks(const std::vector<CdiHook>& hooks) {
  LibraryHooks read;
  for (const CdiHook& hook : hooks) {
    if (!is_library_hook(hook)) return unknown(hook);
    if (has(hook.args, kLinks))
      for (const std::string& text : values_of(hook.args, "--link")) {
        THAW_ASSIGN_OR_RETURN(GrantedLink link, link_of(text));
        read.links.push_back(std::move(link));
      }
    if (!has(hook.args, kCache) && !has(hook.args, kNames)) continue;
    for (const std::string& folder : values_of(hook.args, "--folder")) {
      if (!is_place(folder) ||
          folder.find(':') != std::string::npos)  // which would be two directories in LD_LIBRARY_PATH
        return Error{
            ErrorKind::invalid,
            fmt::format("the hook {} has the folder \"{}\"; it must be an absolute path without \"..\" and \":\"",
                        kCache, spec::printable(folder))};
      if (!has(read.folders, normal(folder))) read.folders.push_back(normal(folder));
    }
  }
  if (read.links.size() > kMaxLinks || read.folders.size() > kMaxFolders)
    return Error{ErrorKind::invalid, fmt::format("its hooks have {} links and {} folders; at most {} and {} are made",
                                                 read.links.size(), read.folders.size(), kMaxLinks, kMaxFolders)};
  return read;
}

}  // namespace thaw::node
