#pragma once

#include <string>
#include <vector>

#include "base/result.h"

/// The problem: an engine written in Python is a script in a virtual environment whose first line names an interpreter
/// by a path that the sandbox does not have, and whose libraries lie beside it. A program elsewhere is one file, or one
/// of the host's own that every sandbox sees. This finds out which it is, what has to be shown and how it is called
/// there. Stateless; any thread; touches the file system only.
namespace thaw::node {

struct Program {
  std::vector<std::string> argv;  ///< the first words of a command line, as the engine's sandbox has them: the program,
                                  ///< or an interpreter and it
  std::string mount_dir;          ///< host directory to be shown as the engine's; empty: none
  std::string bin_dir;            ///< of the Python environment it belongs to, as seen inside; empty: none
  std::string python;             ///< that environment's interpreter, as seen inside; empty: none
};

/// `path`: host path of an executable file. `engine_dir`: where mount_dir will be seen; empty: at its own path (no
/// sandbox). In a Python environment (a bin/ beside a pyvenv.cfg or conda-meta/) the whole environment is shown and
/// scripts are run by its interpreter. Fails when that is a link to where no sandbox sees it, with the remedy.
base::Result<Program> place_program(const std::string& path, const std::string& engine_dir);

/// Whether every sandbox sees this host path at the same place (/usr, /lib …).
bool seen_everywhere(const std::string& path);

}  // namespace thaw::node
