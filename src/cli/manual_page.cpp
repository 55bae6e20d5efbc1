#include <algorithm>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "base/version.h"
#include "cli/completion.h"

namespace thaw::cli {
namespace {

/// Text that roff prints as it is: no escapes of its own, no request at the begin of a line, hyphens that can be
/// copied.
std::string roff(std::string_view text) {
  std::string out;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    begins = c == '\n';
  }
  return out;
}

std::string as_is(const std::string& text) {
  return ".nf\n" + roff(text) + "\n.fi\n";
}

std::string usage(const CLI::App& command, const std::string& name) {
  std::string line = name;
  for (const CLI::Option* option : command.get_options([](const CLI::Option* one) { return !one->nonpositional(); })) {
    const std::string word = option->get_name(true) + (option->get_items_expected_max() > 1 ? "..." : "");
    line += option->get_required() ? " " + word : " [" + word + "]";
  }
  return line;
}

void write_options(const CLI::App& command, std::string& out) {
  for (const CLI::Option* option : command.get_options([](const CLI::Option*) { return true; })) {
    const bool positional = !option->nonpositional();
    std::string name;
    if (positional) {
      name = option->get_name(true);
    } else {
      for (const std::string& letter : option->get_snames()) name += (name.empty() ? "-" : ", -") + letter;
      for (const std::string& word : option->get_lnames()) name += (name.empty() ? "--" : ", --") + word;
      if (option->get_items_expected_max() > 0) name += " " + option->get_type_name();
    }
    out += fmt::format(".TP\n.B {}\n{}\n", roff(name), roff(option->get_description()));
  }
}

void write_command(const CLI::App& command, const std::string& parent, std::string& out) {
  if (command.get_group().empty()) return;
  const std::string name = parent + " " + command.get_name();
  out += fmt::format(".SS {}\n{}.\n", roff(usage(command, name)), roff(command.get_description()));
  write_options(command, out);
  if (!command.get_footer().empty()) out += ".PP\n" + as_is(command.get_footer());
  for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; }))
    write_command(*child, name, out);
}

}  // namespace

std::string manual_page(const CLI::App& app) {
  std::string out = fmt::format(
      ".TH THAW 1 \"\" \"thaw {}\" \"User commands\"\n.SH NAME\nthaw \\- models that sleep until somebody asks "
      "them\n.SH SYNOPSIS\n"
      ".B thaw\nCOMMAND [OPTION]...\n.SH DESCRIPTION\n{}\n",
      base::kVersion, roff(app.get_description()));
  out += ".SH COMMANDS\n";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    write_command(*command, "thaw", out);
  out += ".SH EXAMPLES, ENVIRONMENT, EXIT CODES\n" + as_is(app.get_footer());
  return out;
}

}  // namespace thaw::cli
