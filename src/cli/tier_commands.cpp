#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

/// Posts to the model's route and prints the JSON, or what `say` makes of it.
int act_on_model(Context& context, const std::string& name, const char* act, const std::function<std::string(const json::object&)>& say) {
  const auto body = context.call({"POST", "/admin/v1/models/" + percent_encode(name) + "/" + act, ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  context.out << say(*answer) << '\n';
  return kExitOk;
}

int freeze_model(Context& context, const std::string& name) {
  return act_on_model(context, name, "freeze", [&](const json::object& answer) {
    const std::uint64_t count = count_of(answer, "freezing");
    return fmt::format("freezing {} instance{} of {}", count, count == 1 ? "" : "s", name);
  });
}

int wake_model(Context& context, const std::string& name) {
  return act_on_model(context, name, "wake", [&](const json::object& answer) {
    return flag_of(answer, "waking") ? "waking " + name : name + " is up already, or on its way";
  });
}

int snapshot_model(Context& context, const std::string& name) {
  return act_on_model(context, name, "snapshot", [&](const json::object& answer) {
    return fmt::format("making image {} of {}; `thaw images` shows it when it is done", text_of(answer, "image"), name);
  });
}

int list_images(Context& context) {
  const auto body = context.call({"GET", "/admin/v1/images", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto images = objects_of(*answer, "images");
  if (images.empty()) {
    context.err << "no images\n";
    return kExitOk;
  }
  using Align = Table::Align;
  const bool tenants = other_tenants(images);
  Table table({{"ID"}, {"MODEL"}, {"NODE"}, {"DRIVER"}, {"SIZE", Align::right}, {"RESTORES", Align::right}, {"AGE", Align::right}, {"STATE"}});
  if (tenants) table.prepend({"TENANT"});
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto now_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  for (const json::object* image : images) {
    const auto age = base::Millis(now_ms - static_cast<std::int64_t>(count_of(*image, "created_unix_ms")));
    std::vector<Table::Cell> row{{text_of(*image, "id"), Style::bold},
               {text_of(*image, "model")},
               {text_of(*image, "node")},
               {text_of(*image, "driver")},
               {base::format_bytes(count_of(*image, "bytes"))},
               {std::to_string(count_of(*image, "restores"))},
               {format_age(age)},
               {flag_of(*image, "dropping") ? "going" : "ready"}};
    if (tenants) row.insert(row.begin(), {text_of(*image, "tenant")});
    table.add(std::move(row));
  }
  context.out << table.render(context.terminal.colours);
  return kExitOk;
}

int remove_image(Context& context, const std::string& id) {
  const auto body = context.call({"DELETE", "/admin/v1/images/" + percent_encode(id), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  context.out << "dropping image " << id << '\n';
  return kExitOk;
}

std::string check_not_empty(const std::string& text) { return text.empty() ? "the name is empty" : ""; }

}  // namespace

void add_tier_commands(Commands& commands) {
  const auto add = [&commands](const char* name, const char* description, std::vector<std::string> examples,
                               int (*act)(Context&, const std::string&)) {
    auto model = std::make_shared<std::string>();
    CLI::App* command = commands.add(name, description, "The server's JSON", examples, [model, act](Context& context) { return act(context, *model); });
    commands.add_tenant_option(command);
    command->add_option("MODEL", *model, "Its name")->required()->check(CLI::Validator(check_not_empty, ""));
  };
  add("freeze", "Put a model's idle replicas into standby now", {"thaw freeze stories"}, freeze_model);
  add("wake", "Bring one replica of a model up by the fastest way there is", {"thaw wake stories"}, wake_model);
  add("snapshot", "Make an image of a model, to restore replicas from", {"thaw snapshot stories"}, snapshot_model);

  struct ImagesFlags {
    std::string act, id;
  };
  auto flags = std::make_shared<ImagesFlags>();
  CLI::App* images = commands.add("images", "List images of models, or remove one", "The server's JSON",
                                  {"thaw images", "thaw images --json", "thaw images rm stories-17"}, [flags](Context& context) {
                                    if (flags->act.empty()) return list_images(context);
                                    if (flags->id.empty()) {
                                      context.fail({base::ErrorKind::invalid, "which image? `thaw images` lists them; then: thaw images rm ID"});
                                      return static_cast<int>(kExitUsage);
                                    }
                                    return remove_image(context, flags->id);
                                  });
  commands.add_tenant_option(images);
  CLI::Option* const act = images->add_option("ACT", flags->act, "rm: remove the image ID");
  commands.offer(act->check(CLI::IsMember({"rm"}).description("")), {"rm"});
  images->add_option("ID", flags->id, "The image to remove");
}

}  // namespace thaw::cli
