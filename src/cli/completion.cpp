#include "cli/completion.h"

#include <algorithm>

#include <CLI/CLI.hpp>

namespace thaw::cli {
namespace {

constexpr const char* kBash =
    R"(# bash completion for thaw: source it, or put it into /usr/share/bash-completion/completions/thaw
_thaw() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do COMPREPLY+=("${line%%$'\t'*}"); done < <(thaw __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _thaw thaw
)";

constexpr const char* kZsh = R"(#compdef thaw
# zsh completion for thaw: put it as _thaw into a directory of $fpath, or source it after compinit
_thaw() {
  local -a lines
  lines=("${(@f)$(thaw __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  lines=("${(@)lines//:/\\:}")
  lines=("${(@)lines/$'\t'/:}")
  if [[ -n "${lines[1]}" ]]; then _describe thaw lines; else _files; fi
}
if [[ "${funcstack[1]}" == _thaw ]]; then _thaw "$@"; else compdef _thaw thaw; fi
)";

constexpr const char* kFish = R"(# fish completion for thaw: put it into ~/.config/fish/completions/thaw.fish
function __thaw_complete
    set -l words (commandline -opc)
    thaw __complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c thaw -a '(__thaw_complete)'
)";

/// What nobody is to see has no group (CLI11).
bool is_shown(const CLI::App* command) {
  return !command->get_group().empty();
}

std::vector<const CLI::App*> shown_commands(const CLI::App& app) {
  std::vector<const CLI::App*> shown;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (is_shown(command)) shown.push_back(command);
  return shown;
}

std::vector<const CLI::Option*> options_of(const CLI::App& app) {
  return app.get_options(
      [](const CLI::Option* option) { return !option->get_positional() && option->nonpositional(); });
}

std::vector<const CLI::Option*> positionals_of(const CLI::App& app) {
  return app.get_options(
      [](const CLI::Option* option) { return option->get_positional() || !option->nonpositional(); });
}

const CLI::Option* option_named(const CLI::App& app, const std::string& name) {
  for (const CLI::Option* option : options_of(app))
    if (option->check_name(name)) return option;
  return nullptr;
}

bool takes_value(const CLI::Option* option) {
  return option != nullptr && option->get_items_expected_max() > 0;
}

std::string first_line(std::string text) {
  return text.substr(0, text.find('\n'));
}

/// Where in the grammar the words before the last have led.
struct Place {
  const CLI::App* app;
  std::size_t positionals = 0;           ///< that stand already
  const CLI::Option* awaited = nullptr;  ///< an option whose value comes next
};

Place follow(const CLI::App& root, const std::vector<std::string>& words) {
  Place place{&root};
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (place.awaited != nullptr) {
      place.awaited = nullptr;
      continue;
    }
    if (word.size() > 1 && word.front() == '-') {
      const CLI::Option* option = option_named(*place.app, word);
      if (takes_value(option) && word.find('=') == std::string::npos) place.awaited = option;
      continue;
    }
    const CLI::App* next = nullptr;
    for (const CLI::App* command : shown_commands(*place.app))
      if (command->get_name() == word) next = command;
    if (next != nullptr && place.positionals == 0)
      place = {next};
    else
      ++place.positionals;
  }
  return place;
}

bool is_model(const CLI::Option* option) {
  const std::string name = option->get_name(true);
  return name == "MODEL" || name.starts_with("MODEL ") || name.ends_with("MODEL");
}

void keep_begun_with(const std::string& begun, std::vector<Candidate>& all) {
  all.erase(std::remove_if(all.begin(), all.end(), [&](const Candidate& one) { return !one.text.starts_with(begun); }),
            all.end());
}

}  // namespace

std::vector<Candidate> complete(const CLI::App& app, const std::map<const CLI::Option*, std::vector<std::string>>& offered,
                                const std::vector<std::string>& words, const std::function<std::vector<std::string>()>& models) {
  if (words.empty()) return {};
  const std::string& begun = words.back();
  const Place place = follow(app, words);
  std::vector<Candidate> all;
  const auto add_values = [&](const CLI::Option* option) {
    const auto listed = offered.find(option);
    if (listed != offered.end())
      for (const std::string& word : listed->second) all.push_back({word, ""});
    else if (is_model(option))
      for (const std::string& name : models()) all.push_back({name, ""});
  };
  if (place.awaited != nullptr) {
    add_values(place.awaited);
  } else if (begun.starts_with("-")) {
    for (const CLI::Option* option : options_of(*place.app))
      for (const std::string& name : option->get_lnames())
        all.push_back({"--" + name, first_line(option->get_description())});
  } else if (place.positionals == 0 && !shown_commands(*place.app).empty()) {
    for (const CLI::App* command : shown_commands(*place.app))
      all.push_back({command->get_name(), first_line(command->get_description())});
  } else if (const auto positionals = positionals_of(*place.app); place.positionals < positionals.size()) {
    add_values(positionals[place.positionals]);
  } else if (!positionals.empty() && positionals.back()->get_items_expected_max() > 1) {
    add_values(positionals.back());  // it takes several
  }
  keep_begun_with(begun, all);
  return all;
}

std::string completion_script(const std::string& shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  if (shell == "fish") return kFish;
  return {};
}

}  // namespace thaw::cli
