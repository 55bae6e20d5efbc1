#include "node/sandbox/init_message.h"

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace thaw::node {
namespace {

constexpr std::uint32_t kMagic = 0x57414854;  // "THAW"
constexpr std::size_t kMaxPayload_bytes = 256 * 1024;
constexpr std::size_t kMaxStrings = 8192;

}  // namespace

base::Result<std::string> init_message(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env) {
  std::string payload;
  const auto append = [&payload](const std::string& text) {
    payload += text;
    payload += '\0';
    return text.find('\0') == std::string::npos;
  };
  bool clean = true;
  for (const std::string& arg : argv) clean = append(arg) && clean;
  for (const auto& [name, value] : env) clean = append(name + "=" + value) && clean;

  if (argv.empty()) return base::Error{base::ErrorKind::internal, "cannot start an engine: empty command line"};
  if (!clean) return base::Error{base::ErrorKind::invalid, "cannot start an engine: a NUL in its arguments or environment"};
  if (payload.size() > kMaxPayload_bytes || argv.size() + env.size() > kMaxStrings)
    return base::Error{base::ErrorKind::invalid,
                       "cannot start an engine: its arguments and environment exceed 256 KiB or 8192 entries; shorten spec.args or spec.env"};

  const std::array<std::uint32_t, 4> header{kMagic, static_cast<std::uint32_t>(payload.size()),
                                            static_cast<std::uint32_t>(argv.size()), static_cast<std::uint32_t>(env.size())};
  std::string message(sizeof header, '\0');
  std::memcpy(message.data(), header.data(), sizeof header);
  return message + payload;
}

std::optional<Exit> read_ending(int control) {
  std::array<std::uint32_t, 2> how{};
  if (::recv(control, how.data(), sizeof how, MSG_DONTWAIT) != static_cast<ssize_t>(sizeof how)) return std::nullopt;
  return Exit{how[0] != 0, static_cast<int>(how[1])};
}

}  // namespace thaw::node
