#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// The problem: any server can be an engine, but only thaw knows where in a sandbox its model lies and where it has to
/// listen. So a spec's `command` has placeholders for that:
///
///     {model}        the model's file or directory
///     {name}         what requests call the model
///     {host} {port}  the address to listen on, or
///     {socket}       the Unix socket to listen on: one of the two ways
///     {concurrency}  requests that it gets at once (scaling.targetConcurrency)
///     {devices}      how many devices it has (resources.devices); which ones says CUDA_VISIBLE_DEVICES
///
/// A word in braces is letters a to z only, so JSON in an argument is left alone. Pure.
namespace thaw::spec {

/// How the server is told to listen.
enum class CommandListens { tcp, unix_socket };

/// Fails (invalid) when the program is neither a name nor an absolute path, a word in braces is no placeholder, or the
/// command names neither {port} nor {socket}, or both. `command` is not empty.
base::Result<CommandListens> check_command(const std::vector<std::string>& command);

/// The same for the arguments of a program that the spec does not name: a container image's entrypoint.
base::Result<CommandListens> check_arguments_of_entrypoint(const std::vector<std::string>& arguments);

/// The command with `values` in the place of their names. Words in braces without a value stay as they are.
std::vector<std::string> fill_command(const std::vector<std::string>& command,
                                      const std::map<std::string, std::string, std::less<>>& values);

}  // namespace thaw::spec
