#include "gateway/admin_adapters.h"

#include <fmt/format.h>

#include "base/revision.h"
#include "base/tenancy.h"
#include "controller/adapters.h"
#include "gateway/admin_pulls.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {

namespace {

ApiError conflict(std::string message, const char* code) {
  return {409, "invalid_request_error", code, std::move(message), {}, {}};
}

const controller::ModelEntry* entry_of(Server& server, const base::ModelName& name) {
  return server.services().controller.find(server.services().rollouts.serving(name));
}

/// Why there is no such base for it.
std::optional<ApiError> refuse_base(Server& server, const spec::ModelSpec& adapter,
                                    const controller::ModelEntry* base) {
  if (base == nullptr) {
    if (server.services().pulls.find(controller::base_of(adapter)) != nullptr)
      return conflict(
          fmt::format(
              "the files of its base, model \"{}\", are not there yet; deploy the adapter once they were pulled",
              adapter.base_model),
          "base_not_pulled");
    return invalid_request(
        fmt::format("there is no model \"{}\" that it could be an adapter of; deploy that first", adapter.base_model),
        "spec.base", "base_not_found");
  }
  if (base->spec.is_adapter())
    return invalid_request(fmt::format("model \"{0}\" is an adapter itself; name its base, \"{1}\"", adapter.base_model,
                                       base->spec.base_model),
                           "spec.base", "base_is_adapter");
  const auto adapters = controller::adapters_of(server.services().controller, controller::base_of(adapter));
  const std::string own = base::public_model(adapter.name);
  const bool known =
      std::any_of(adapters.begin(), adapters.end(), [&](const spec::Adapter& one) { return one.name == own; });
  if (!known && adapters.size() >= spec::kMaxAdapters)
    return conflict(fmt::format("model \"{}\" has {} adapters already, which is as many as one may have",
                                adapter.base_model, adapters.size()),
                    "too_many_adapters");
  return std::nullopt;
}

/// With it, a replica of the base holds more.
std::optional<ApiError> refuse_size(Server& server, const controller::ModelEntry& base, const spec::Adapter& adapter) {
  controller::ModelEntry with = base;
  std::vector<spec::Adapter> adapters = base.spec.adapters;
  std::erase_if(adapters, [&](const spec::Adapter& one) { return one.name == adapter.name; });
  adapters.push_back(adapter);
  controller::take_adapters(with, std::move(adapters));
  const base::Status fits = server.services().controller.can_ever_run(with.spec);
  if (fits.ok()) return std::nullopt;
  ApiError error =
      invalid_request("with this adapter its base could not run: " + fits.error().message, "spec.base", "cannot_fit");
  error.status = 422;
  return error;
}

std::optional<ApiError> invalid_spec(const base::Error& error) {
  ApiError answer = from_error(error);
  if (answer.status == 400) answer.code = "invalid_spec";
  return answer;
}

}  // namespace

net::Task<std::optional<ApiError>> look_into_adapter(Server& server, spec::ModelSpec& spec, std::uint32_t percent,
                                                     node::ModelFacts& facts) {
  Services& services = server.services();
  if (percent < 100)
    co_return invalid_request("?percent= is not for adapters: each request names the one that it wants");
  const auto* const before = entry_of(server, spec.name);
  if (before != nullptr && !before->spec.is_adapter())
    co_return conflict(fmt::format("\"{0}\" is a model with replicas of its own; remove it first (thaw rm {0}), or "
                                   "give the adapter another name",
                                   base::public_model(spec.name)),
                       "is_model");
  const auto base = services.controller.share(services.rollouts.serving(controller::base_of(spec)).str());
  if (auto refused = refuse_base(server, spec, base.get())) co_return refused;
  spec.engine = base->spec.engine;
  const auto looked =
      co_await services.files_worker.run([&spec, &base, &pulls = services.pulls]() -> base::Result<node::ModelFacts> {
        if (pulls.must_wait(spec)) return node::ModelFacts{};
        THAW_ASSIGN_OR_RETURN(node::ModelFacts found, node::inspect_model(spec));
        THAW_RETURN_IF_ERROR(
            node::adapter_fits(base->spec, {base::public_model(spec.name), spec.source.path, found.weights_bytes}));
        return found;
      });
  if (!looked.ok()) co_return invalid_spec(looked.error());
  facts = *looked;
  if (facts.files.empty()) co_return std::nullopt;
  const spec::Adapter adapter{base::public_model(spec.name), spec.source.path, facts.weights_bytes};
  co_return refuse_size(server, *base, adapter);
}

net::Task<std::optional<ApiError>> check_base(Server& server, const spec::ModelSpec& spec) {
  const auto* const before = entry_of(server, spec.name);
  if (before != nullptr && before->spec.is_adapter())
    co_return conflict(
        fmt::format(
            "\"{0}\" is an adapter of model \"{1}\"; remove it first (thaw rm {0}), or give the model another name",
            base::public_model(spec.name), before->spec.base_model),
        "is_adapter");
  const auto adapters = controller::adapters_of(server.services().controller, spec.name);
  if (adapters.empty() || spec.source.path.empty()) co_return std::nullopt;
  const auto fits = co_await server.services().files_worker.run([&spec, &adapters]() -> base::Status {
    for (const spec::Adapter& adapter : adapters) THAW_RETURN_IF_ERROR(node::adapter_fits(spec, adapter));
    return {};
  });
  if (fits.ok()) co_return std::nullopt;
  co_return conflict(fits.error().message + "; remove the adapter first (thaw rm), or deploy this under another name",
                     "adapter_does_not_fit");
}

std::optional<ApiError> refuse_adapter(Server& server, const base::ModelName& name, const char* command) {
  const auto* const entry = entry_of(server, name);
  if (entry == nullptr || !entry->spec.is_adapter()) return std::nullopt;
  return conflict(
      fmt::format("\"{0}\" is an adapter and has no replicas: those of its base answer for it (thaw {1} {2})",
                  base::public_model(name), command, entry->spec.base_model),
      "is_adapter");
}

std::optional<ApiError> refuse_base_of_adapters(Server& server, const base::ModelName& name) {
  const std::string names = controller::names_of_adapters(server.services().controller, name);
  if (names.empty()) return std::nullopt;
  return conflict(fmt::format("model \"{}\" has adapters, which cannot be without it: {}; remove them first (thaw rm)",
                              base::public_model(name), names),
                  "has_adapters");
}

base::ModelName answers_for(Server& server, const base::ModelName& name) {
  const auto* const entry = entry_of(server, name);
  return entry != nullptr && entry->spec.is_adapter() ? controller::base_of(entry->spec) : name;
}

}  // namespace thaw::gateway::admin
