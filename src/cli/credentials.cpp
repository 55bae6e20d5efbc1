#include "cli/credentials.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "cli/files.h"
#include "node/user_directory.h"

namespace thaw::cli {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxFileBytes = 64 << 10;

std::string home_directory(const Environment& environment) {
  if (const auto home = environment("HOME"); home && !home->empty()) return *home;
  return node::user_directory();
}

std::string without_trailing_slash(std::string url) {
  while (!url.empty() && url.back() == '/') url.pop_back();
  return url;
}

/// mkdir -p with mode 0700 for what was missing.
base::Status make_private_directories(const std::filesystem::path& directory) {
  std::error_code error;
  if (directory.empty() || std::filesystem::is_directory(directory, error)) return {};
  THAW_RETURN_IF_ERROR(make_private_directories(directory.parent_path()));
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return base::errno_error("cannot make the directory " + directory.string(), errno);
  return {};
}

}  // namespace

Environment process_environment() {
  return [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets variables while commands run
    if (value == nullptr) return std::nullopt;
    return value;
  };
}

std::string credentials_path(const Environment& environment) {
  // The XDG specification: a relative path is to be ignored.
  if (const auto config = environment("XDG_CONFIG_HOME"); config && config->starts_with('/'))
    return *config + "/thaw/client.json";
  const std::string home = home_directory(environment);
  return home.empty() ? home : home + "/.config/thaw/client.json";
}

base::Result<Credentials> load_credentials(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxFileBytes));
  const Error damaged{ErrorKind::invalid,
                      path +
                          " is damaged: it must hold {\"url\":…,\"api_key\":…}; delete it and start the "
                          "server again, or set THAW_URL and THAW_API_KEY"};
  boost::json::error_code error;
  const boost::json::value document = boost::json::parse(text, error);
  if (error || !document.is_object()) return damaged;
  const auto* url = document.as_object().if_contains("url");
  const auto* key = document.as_object().if_contains("api_key");
  if (url == nullptr || !url->is_string() || url->as_string().empty()) return damaged;
  if (key != nullptr && !key->is_string()) return damaged;
  Credentials credentials;
  credentials.url = without_trailing_slash(std::string(url->as_string()));
  if (key != nullptr) credentials.api_key = key->as_string();
  return credentials;
}

base::Status save_credentials(const std::string& path, const Credentials& credentials) {
  if (path.empty())
    return Error{ErrorKind::not_found,
                 "cannot save the API key for the local CLI: no home directory; set HOME or XDG_CONFIG_HOME"};
  THAW_RETURN_IF_ERROR(make_private_directories(std::filesystem::path(path).parent_path()));

  const boost::json::object document{{"url", credentials.url}, {"api_key", credentials.api_key}};
  const std::string text = boost::json::serialize(document) + "\n";
  std::string temporary = path + ".XXXXXX";
  const FileDescriptor file(mkostemp(temporary.data(), O_CLOEXEC));  // made with mode 0600
  if (file.get() < 0) return base::errno_error("cannot write " + temporary, errno);
  base::Status status = write_all(file.get(), text, temporary);
  if (status.ok() && fsync(file.get()) != 0) status = base::errno_error("cannot write " + temporary, errno);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0)
    status = base::errno_error("cannot write " + path, errno);
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

base::Result<Credentials> find_credentials(const Environment& environment, const std::string& service) {
  const auto url = environment("THAW_URL");
  const auto key = environment("THAW_API_KEY");
  Credentials found{kDefaultUrl, ""};
  if (!(url && key)) {
    auto saved = load_credentials(credentials_path(environment));
    // A service leaves them in its data directory alone, for root (and says nothing to who may not read there).
    if (!saved.ok() && saved.error().kind == ErrorKind::not_found)
      if (auto of_service = load_credentials(service); of_service.ok()) saved = std::move(of_service);
    if (saved.ok()) {
      found = *saved;
    } else if (saved.error().kind != ErrorKind::not_found) {
      return saved.error();
    }
  }
  if (url && !url->empty()) {
    const std::string wanted = without_trailing_slash(*url);
    if (wanted != found.url) found = {wanted, ""};
  }
  if (key) found.api_key = *key;
  return found;
}

}  // namespace thaw::cli
