#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}

/// The problem: whoever types a command should be offered what can stand there, by bash, zsh and fish alike, and what
/// is offered must be what this binary takes. So the shells' scripts know nothing: they ask `thaw __complete -- WORDS`,
/// which looks into the grammar itself.
namespace thaw::cli {

struct Candidate {
  std::string text;
  std::string description;  ///< one line; may be empty
};

/// What can stand in the place of the last of `words`, which may be empty or begun. `words`: as typed, without "thaw".
/// `offered`: what values options can have, where
/// that is a list. `models` is asked only where a model's name may stand. Empty: nothing of ours, the shell offers files.
std::vector<Candidate> complete(const CLI::App& app, const std::map<const CLI::Option*, std::vector<std::string>>& offered,
                                const std::vector<std::string>& words, const std::function<std::vector<std::string>()>& models);

/// The script that has a shell ask us; empty for a shell that is not known.
std::string completion_script(const std::string& shell);

/// The manual page, thaw(1), in roff (man(7) macros).
std::string manual_page(const CLI::App& app);

}  // namespace thaw::cli
