#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/garbage.h"
#include "cli/json.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

/// "docker://registry/x:1" and the digest's beginning, as people compare it.
std::string short_digest(const json::object& image) {
  constexpr std::size_t kShown = 19;  // "sha256:" and 12 digits
  return text_of(image, "digest").substr(0, kShown);
}

int list_images(Context& context) {
  const auto body = context.call({"GET", "/admin/v1/container-images", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  using Align = Table::Align;
  Table table({{"IMAGE"}, {"DIGEST"}, {"STATE"}, {"PROGRESS"}, {"MODELS", Align::right}});
  const auto images = objects_of(*answer, "images");
  for (const json::object* image : images) {
    const auto* models = image->if_contains("models");
    table.add({{text_of(*image, "image"), Style::bold},
               {short_digest(*image)},
               {text_of(*image, "state")},
               {text_of(*image, "progress").empty() ? "-" : text_of(*image, "progress")},
               {std::to_string(models != nullptr && models->is_array() ? models->get_array().size() : 0)}});
  }
  if (!images.empty()) context.out << table.render(context.terminal.colours);
  for (const json::object* image : images)
    if (const auto* error = object_of(*image, "error")) context.out << text_of(*error, "message") << '\n';
  context.out << count_of(*answer, "layers") << " layers, " << base::format_bytes(count_of(*answer, "layer_bytes")) << " of "
              << base::format_bytes(count_of(*answer, "budget_bytes"));
  if (const auto unfinished = count_of(*answer, "unfinished_bytes"); unfinished > 0)
    context.out << ", " << base::format_bytes(unfinished) << " unfinished";
  context.out << '\n';
  return kExitOk;
}

}  // namespace

void add_container_image_commands(Commands& commands) {
  struct Flags {
    std::string act;
    bool dry_run = false;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      commands.add("container-images", "List the container images that engines run in, or remove those that no model has", "The server's JSON",
                   {"thaw container-images", "thaw container-images gc --dry-run", "thaw container-images gc"},
                   [flags](Context& context) { return flags->act == "gc" ? collect_garbage(context, "/admin/v1/container-images/gc", flags->dry_run) : list_images(context); });
  CLI::Option* const act = command->add_option("ACT", flags->act, "gc: remove images and layers that no model has");
  commands.offer(act->check(CLI::IsMember({"gc"}).description("")), {"gc"});
  command->add_flag("--dry-run", flags->dry_run, "With gc: only say what would go");
}

}  // namespace thaw::cli
