#include "gateway/admin_container_images.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/json/value.hpp>

#include "base/tenancy.h"
#include "base/units.h"
#include "gateway/admin.h"
#include "gateway/server.h"
#include "node/egress/egress.h"
#include "node/oci/container_images.h"

namespace thaw::gateway {
namespace {

namespace json = boost::json;
using node::ContainerImages;
using State = ContainerImages::State;

constexpr auto kAskAgain = base::Seconds(5);

/// Of the model's image; of none where the node has no images.
ContainerImages::View look(Server& server, const spec::ModelSpec& spec) {
  const auto images = server.services().node.container_images();
  if (images.ok()) return (*images)->look(spec.image_digest);
  ContainerImages::View view;
  view.state = State::failed;
  view.error = images.error();
  return view;
}

/// "43% of 1.2 GiB", "layer 3 of 7".
std::string how_far(const ContainerImages::View& view) {
  if (view.state == State::unpacking)
    return fmt::format("unpacking layer {} of {}", std::min(view.done_bytes + 1, view.total_bytes), view.total_bytes);
  if (view.state == State::fetching && view.total_bytes > 0)
    return fmt::format("{}% of {}", view.done_bytes * 100 / view.total_bytes, base::format_bytes(view.total_bytes));
  return view.state == State::fetching ? "just begun" : "it waits for others";
}

json::object describe(const ContainerImages::View& view) {
  json::object o{{"image", view.image}, {"digest", view.digest}, {"state", to_string(view.state)},
                 {"progress", nullptr}, {"error", nullptr},      {"retry_in_s", nullptr}};
  if (view.state == State::fetching || view.state == State::unpacking) o["progress"] = how_far(view);
  if (view.error && view.state != State::ready) o["error"] = json::object{{"kind", to_string(view.error->kind)}, {"message", view.error->message}};
  if (view.retry_in) o["retry_in_s"] = base::to_s(*view.retry_in);
  return o;
}

}  // namespace

std::optional<ApiError> image_not_here(Server& server, const spec::ModelSpec& spec) {
  if (spec.image.empty()) return std::nullopt;
  const ContainerImages::View view = look(server, spec);
  if (view.state == State::ready) return std::nullopt;
  // What went away (thaw container-images gc by hand) comes back.
  if (view.state == State::absent) admin::want_container_image(server.services().node, spec);
  if (view.state == State::failed && view.error) {
    ApiError error{503,
                   "server_error",
                   "image_not_fetched",
                   fmt::format("the container image of model \"{}\" is not here: {}", base::public_name(spec.name), view.error->message),
                   "model",
                   {}};
    if (view.retry_in) error.retry_after = std::max<base::Duration>(base::Seconds(1), *view.retry_in);
    return error;
  }
  return ApiError{503,
                  "server_error",
                  "image_pulling",
                  fmt::format("the container image of model \"{}\" is being fetched: {}", base::public_name(spec.name), how_far(view)),
                  "model",
                  kAskAgain};
}

namespace admin {

void add_egress_levels(Server& server, observe::Levels& levels) {
  const node::EgressCounts& counts = server.services().node.egress().counts();
  levels.egress_connections = static_cast<double>(counts.connected);
  levels.egress_refused = static_cast<double>(counts.refused);
}

net::Task<std::optional<ApiError>> pin_container_image(Server& server, spec::ModelSpec& spec) {
  std::optional<ApiError> refused;
  if (spec.image.empty()) co_return refused;
  const node::Agent& node = server.services().node;
  const std::string image = spec.image;
  // A pinned one is not asked for: it is what it is, and the registry may be away.
  if (!spec.image_digest.empty()) {
    if (const auto images = node.container_images(); !images.ok()) refused = from_error(images.error().within("spec.image"));
    co_return refused;
  }
  auto digest = co_await server.images_worker().run([&] { return node.resolve_image(image); });
  if (digest.ok())
    spec.image_digest = *digest;
  else
    refused = from_error(digest.error().within("spec.image"));
  co_return refused;
}

void want_container_image(node::Agent& node, const spec::ModelSpec& spec) {
  if (spec.image.empty()) return;
  const auto images = node.container_images();
  const base::Status wanted = images.ok() ? (*images)->want(spec.image, spec.image_digest) : base::Status(images.error());
  if (!wanted.ok()) spdlog::error("{}: {}", spec.name.str(), wanted.error().message);
}

void add_container_image(Server& server, const spec::ModelSpec& spec, json::object& model) {
  if (spec.image.empty()) return;
  ContainerImages::View view = look(server, spec);
  view.image = spec.image;
  view.digest = spec.image_digest;
  model["image"] = describe(view);
  if (view.state == State::ready) return;
  model["state"] = view.state == State::failed ? "not pulled" : "pulling";
  if (view.error) model["last_failure"] = view.error->message;
}

net::Task<void> list_container_images(Server& server, Exchange& exchange) {
  const auto images = server.services().node.container_images();
  if (!images.ok()) {
    co_await exchange.respond_error(from_error(images.error()));
    co_return;
  }
  std::map<std::string, json::array> models;
  for (const auto& [name, model] : server.services().controller.models())
    if (!model->spec.image.empty()) models[model->spec.image_digest].push_back(json::value(name.str()));
  json::array all;
  for (const ContainerImages::View& view : (*images)->all()) {
    json::object o = describe(view);
    o["models"] = models[view.digest];
    all.push_back(std::move(o));
  }
  const auto usage = co_await server.services().files_worker.run([&] { return (*images)->usage(); });
  const json::object answer{{"images", std::move(all)},
                            {"layers", usage.layers},
                            {"layer_bytes", usage.layer_bytes},
                            {"unfinished_bytes", usage.work_bytes},
                            {"budget_bytes", usage.budget_bytes}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> collect_container_images(Server& server, Exchange& exchange) {
  const auto images = server.services().node.container_images();
  if (!images.ok()) {
    co_await exchange.respond_error(from_error(images.error()));
    co_return;
  }
  const bool dry_run = exchange.query("dry_run") == "1";
  std::set<std::string> used;
  for (const auto& [name, model] : server.services().controller.models())
    if (!model->spec.image.empty()) used.insert(model->spec.image_digest);
  for (const auto& [name, pending] : server.services().pulls.pending())  // its weights come beside its image
    if (!pending.spec.image.empty()) used.insert(pending.spec.image_digest);
  const auto garbage = co_await server.services().files_worker.run([&] { return (*images)->collect(used, dry_run); });
  if (!garbage.ok()) {
    co_await exchange.respond_error(from_error(garbage.error()));
    co_return;
  }
  constexpr std::string_view kOf = "container images and layers";
  co_await respond_collected(exchange, dry_run, *garbage, kOf);
}

}  // namespace admin
}  // namespace thaw::gateway
