#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace thaw::cli {

/// Reads an environment variable; absent when unset. Passed in, so that a test owns the environment.
using Environment = std::function<std::optional<std::string>(const char* name)>;
Environment process_environment();

/// Which server to talk to, and as whom.
struct Credentials {
  std::string url;      ///< "http://127.0.0.1:7420", without a slash at its end
  std::string api_key;  ///< "thaw_…"; empty: send none

  friend bool operator==(const Credentials&, const Credentials&) = default;
};

inline constexpr const char* kDefaultUrl = "http://127.0.0.1:7420";

/// Where a local server leaves its URL and key for the CLI: ${XDG_CONFIG_HOME:-~/.config}/thaw/client.json. Home is
/// $HOME, else the user database's. Empty when there is no home at all.
std::string credentials_path(const Environment& environment);

/// Reads such a file: {"url":…,"api_key":…}. ErrorKind::not_found when there is none, invalid when it is damaged.
base::Result<Credentials> load_credentials(const std::string& path);

/// Writes it with mode 0600, replacing an old one in one step: a reader sees the old file or the new one, and nobody
/// else can read the key at any time. Makes missing directories with mode 0700.
base::Status save_credentials(const std::string& path, const Credentials& credentials);

/// Where a server that runs as a service leaves its own (data directory's default), readable by root alone.
inline constexpr const char* kServiceCredentials = "/var/lib/thaw/client.json";

/// THAW_URL and THAW_API_KEY, else the file, else that of the `service`, else kDefaultUrl without a key. The file's key goes to the file's URL
/// only: a THAW_URL that names another server never gets the local server's key. Fails only on a damaged file that is
/// needed.
base::Result<Credentials> find_credentials(const Environment& environment, const std::string& service = kServiceCredentials);

}  // namespace thaw::cli
