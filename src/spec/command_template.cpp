#include "spec/command_template.h"

#include <algorithm>
#include <array>
#include <functional>

#include <fmt/format.h>

#include "spec/problems.h"

namespace thaw::spec {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::array<std::string_view, 7> kNames{"model", "name", "host", "port", "socket", "concurrency", "devices"};

/// The text with each {word} replaced by what `replacement` makes of the word; nothing: left as it is.
template <typename Replacement>
std::string replace_words(std::string_view text, Replacement replacement) {
  std::string out;
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    out += text.substr(0, open);
    if (open == std::string_view::npos) break;
    text.remove_prefix(open);
    const std::size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz", 1);
    const bool is_word = end != std::string_view::npos && end > 1 && text[end] == '}';
    const std::string_view whole = text.substr(0, is_word ? end + 1 : 1);
    out += is_word ? replacement(whole.substr(1, end - 1), whole) : std::string(whole);
    text.remove_prefix(whole.size());
  }
  return out;
}

base::Result<CommandListens> check_words(const std::vector<std::string>& command) {
  bool port = false;
  bool socket = false;
  std::string unknown;
  for (const std::string& word : command) {
    (void)replace_words(word, [&](std::string_view name, std::string_view whole) {
      port = port || name == "port";
      socket = socket || name == "socket";
      if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) unknown = std::string(whole);
      return std::string();
    });
  }
  if (!unknown.empty())
    return Error{
        ErrorKind::invalid,
        fmt::format(
            "{} is no placeholder; there are {{model}}, {{name}}, {{host}}, {{port}}, {{socket}}, {{concurrency}} and {{devices}}",
            printable(unknown))};
  if (port == socket)
    return Error{ErrorKind::invalid, port ? "names both {port} and {socket}; a server listens in one way"
                                          : "does not say where to listen; pass {port} (and {host}), or {socket}"};
  return port ? CommandListens::tcp : CommandListens::unix_socket;
}

}  // namespace

base::Result<CommandListens> check_command(const std::vector<std::string>& command) {
  const std::string& program = command.front();
  if (program.empty() || (program.find('/') != std::string::npos && !program.starts_with("/")))
    return Error{
        ErrorKind::invalid,
        fmt::format("\"{}\" is no program; give an absolute path, or the name of one in /usr/bin", printable(program))};
  return check_words(command);
}

base::Result<CommandListens> check_arguments_of_entrypoint(const std::vector<std::string>& arguments) {
  auto listens = check_words(arguments);
  if (listens.ok()) return listens;
  return Error{ErrorKind::invalid, "of the image's entrypoint: " + listens.error().message};
}

std::vector<std::string> fill_command(const std::vector<std::string>& command,
                                      const std::map<std::string, std::string, std::less<>>& values) {
  std::vector<std::string> out;
  for (const std::string& word : command) {
    out.push_back(replace_words(word, [&](std::string_view name, std::string_view whole) {
      const auto found = values.find(name);
      return found == values.end() ? std::string(whole) : found->second;
    }));
  }
  return out;
}

}  // namespace thaw::spec
