#include "base/revision.h"
#include "spec/command_template.h"

#include "node/engine/adapters.h"
#include "node/engine/image_program.h"
#include "node/engine/launch_parts.h"
#include "node/engine/program.h"

/// The adapter for any server that speaks OpenAI's API: the spec has its command line, with placeholders for what only
/// thaw knows.
namespace thaw::node {

base::Result<EngineLaunch> plan_command(const wire::StartInstance& start, const std::string& program_path,
                                        const LaunchPaths& paths) {
  const spec::ModelSpec& spec = start.model;
  const bool of_entrypoint = spec.command.empty() && paths.image != nullptr;
  THAW_ASSIGN_OR_RETURN(const spec::CommandListens listens,
                        of_entrypoint ? spec::check_arguments_of_entrypoint(spec.args) : spec::check_command(spec.command));
  EngineLaunch launch;
  launch.tcp = listens == spec::CommandListens::tcp;
  if (!launch.tcp && paths.socket.empty())
    return base::Error{base::ErrorKind::invalid,
                       "cannot start " + spec.name.str() +
                           ": a server in a gVisor sandbox cannot be reached by a Unix socket; "
                           "use {host} and {port} in spec.command, or set spec.sandbox to runc"};
  THAW_ASSIGN_OR_RETURN(const Program program, place_engine(spec, program_path, paths));
  THAW_ASSIGN_OR_RETURN(const std::string model, show_model(launch, spec, paths));
  std::vector<std::string> words =
      spec::fill_command(of_entrypoint ? spec.args : spec.command, {{"model", model},
                                        {"name", base::public_model(spec.name)},
                                        {"host", paths.address},
                                        {"port", std::to_string(paths.port)},
                                        {"socket", paths.socket},
                                        {"devices", std::to_string(spec.resources.devices)},
                                        {"concurrency", std::to_string(spec.scaling.target_concurrency)}});
  launch.engine_dir = program.mount_dir;
  launch.argv = program.argv;
  launch.argv.insert(launch.argv.end(), words.begin() + (of_entrypoint ? 0 : 1), words.end());
  if (!of_entrypoint) launch.argv.insert(launch.argv.end(), spec.args.begin(), spec.args.end());
  show_device(launch, start);
  set_environment(launch, spec, paths, program.bin_dir);
  return launch;
}

}  // namespace thaw::node
