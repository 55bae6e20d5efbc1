#pragma once

#include <array>
#include <cstdint>
#include <string_view>

/// What the OpenAPI document says of each route beside its rule (openapi.h): a row a route, and a route without one does not compile (routes.cpp).
///
/// Shapes of bodies are the names in answer_shapes.h, or "" where there is none; "any" is any JSON, as engines have it.
namespace thaw::gateway {

struct RouteDoc {
  std::string_view method;
  std::string_view pattern;
  std::string_view summary;
  std::string_view answer;                        ///< shape of what is answered when all is well
  std::uint16_t status = 200;                     ///< ... and the status; 2xx
  std::string_view request = {};                  ///< shape of the body
  std::string_view query = {};                    ///< "name:type what it is; name:type what it is"
  std::string_view content = "application/json";  ///< type of the answer; of lines of JSON the shape is a line's
};

inline constexpr std::string_view kText = "text/plain";
inline constexpr std::string_view kLines = "application/x-ndjson";

inline constexpr std::array kRouteDocs{
    RouteDoc{"POST", "/v1/chat/completions", "A chat completion; with \"stream\": true as server-sent events", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/completions", "A completion of a text", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/embeddings", "Embeddings of texts", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/responses", "A response, where the engine has the API", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/responses/input_tokens", "How many tokens a response's input has", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/messages", "A message in Anthropic's API", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/messages/count_tokens", "How many tokens a message's input has, in Anthropic's API", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/rerank", "Documents by how well they answer a query", "any", 200, "Asking"},
    RouteDoc{"POST", "/rerank", "As /v1/rerank", "any", 200, "Asking"},
    RouteDoc{"POST", "/v1/audio/transcriptions", "Speech as text", "any", 200, "AskingByForm"},
    RouteDoc{"POST", "/v1/audio/translations", "Speech as English text", "any", 200, "AskingByForm"},
    RouteDoc{"POST", "/v1/audio/speech", "Text as speech", "", 200, "Asking", {}, "audio/*"},
    RouteDoc{"POST", "/v1/images/generations", "Images from a text", "any", 200, "Asking"},
    RouteDoc{"POST", "/tokenize", "A text's tokens", "any", 200, "Asking"},
    RouteDoc{"POST", "/detokenize", "The text of tokens", "any", 200, "Asking"},
    RouteDoc{"GET", "/v1/models", "The models, also those that sleep, and their aliases", "OpenAiModels"},
    RouteDoc{"GET", "/v1/models/*", "One of them", "OpenAiModel"},
    RouteDoc{"GET", "/healthz", "Whether the process serves at all", "", 200, {}, {}, kText},
    RouteDoc{"GET", "/readyz", "Whether it takes requests: 503 while it shuts down", "", 200, {}, {}, kText},
    RouteDoc{"GET", "/metrics", "Metrics, as Prometheus reads them", "", 200, {}, {}, kText},
    RouteDoc{"GET", "/metrics/engines", "The engines' own metrics", "", 200, {}, {}, kText},
    RouteDoc{"GET", "/admin/v1/openapi.json", "This document", "any"},
    RouteDoc{"GET", "/admin/v1/status", "The server", "Status"},
    RouteDoc{"POST", "/admin/v1/reload", "Reads the configuration again", "Reloaded"},
    RouteDoc{"GET", "/admin/v1/whoami", "Who the caller is and what is left to it", "Whoami"},
    RouteDoc{"GET", "/admin/v1/routes", "Every route and who may call it", "Routes"},
    RouteDoc{"GET", "/admin/v1/models", "All models and how they stand", "Models"},
    RouteDoc{"POST", "/admin/v1/models", "Deploys a model (a spec in YAML or JSON), or changes one; 202 when its files have to be pulled first",
             "Deployed", 201, "ModelSpec", "percent:int of the requests for a changed spec; timeout_s:int until it must be ready"},
    RouteDoc{"GET", "/admin/v1/models/*", "One model, with its files and its spec", "Model"},
    RouteDoc{"DELETE", "/admin/v1/models/*", "Removes a model; requests under way are answered", "Removed"},
    RouteDoc{"POST",
             "/admin/v1/models/*/stop",
             "Stops a model's replicas until the next request",
             "Stopping",
             200,
             {},
             "kill:flag without waiting for requests"},
    RouteDoc{"POST",
             "/admin/v1/models/*/verify",
             "Hashes a model's files and compares: a line a file, and one for all",
             "VerifyLine",
             200,
             {},
             {},
             kLines},
    RouteDoc{"POST", "/admin/v1/models/*/evict", "Takes a model's weights out of the page cache", "Evicted"},
    RouteDoc{"GET", "/admin/v1/models/*/logs", "What a model's engines wrote", "", 200, {}, "tail:int the last lines; follow:flag go on", kText},
    RouteDoc{"GET",
             "/admin/v1/models/*/events",
             "Why replicas started, rested, were evicted or failed, and revisions took over. With follow: an event a line as they happen",
             "ModelEvents",
             200,
             {},
             "after:int those behind this seq; follow:flag go on"},
    RouteDoc{"GET",
             "/admin/v1/models/*/explain",
             "What would become of a request now, and how long to its first token",
             "Explanation",
             200,
             {},
             "priority:string low, normal or high, as x-thaw-priority"},
    RouteDoc{"POST", "/admin/v1/models/*/freeze", "Puts idle replicas into standby", "Freezing"},
    RouteDoc{"POST", "/admin/v1/models/*/wake", "Brings one replica up", "Waking"},
    RouteDoc{"POST", "/admin/v1/models/*/snapshot", "Makes an image", "Snapshotting", 202},
    RouteDoc{"GET", "/admin/v1/models/*/revisions", "What was deployed under a name, and what serves", "Revisions"},
    RouteDoc{"POST", "/admin/v1/models/*/rollback", "Goes back to a revision of before", "RolledOut", 200, {}, "to:int the revision"},
    RouteDoc{"POST",
             "/admin/v1/models/*/rollout",
             "Gives a revision a part of the requests, or all",
             "RolledOut",
             200,
             {},
             "to:int the revision; percent:int of the requests"},
    RouteDoc{"GET", "/admin/v1/images", "Images that replicas are restored from", "Images"},
    RouteDoc{"DELETE", "/admin/v1/images/*", "Drops an image", "ImageDropped"},
    RouteDoc{"GET", "/admin/v1/container-images", "Container images that engines run in, and what their layers take", "ContainerImages"},
    RouteDoc{"POST", "/admin/v1/container-images/gc", "Removes container images that no model has", "Collected", 200, {},
             "dry_run:flag only says what would go"},
    RouteDoc{"POST",
             "/admin/v1/nodes/*/cordon",
             "No new replica comes to a node or a device of it",
             "Duty",
             200,
             {},
             "device:string of the node (all of them without)"},
    RouteDoc{"POST", "/admin/v1/nodes/*/uncordon", "Gives it back", "Duty", 200, {}, "device:string of the node (all of them without)"},
    RouteDoc{"POST", "/admin/v1/nodes/*/drain", "Its replicas leave, too", "Duty", 200, {}, "device:string of the node (all of them without)"},
    RouteDoc{"GET", "/admin/v1/instances", "Replicas, and to those who run the platform devices and nodes", "Instances"},
    RouteDoc{"GET", "/admin/v1/requests/*", "What became of one of the last requests", "Request"},
    RouteDoc{"GET",
             "/admin/v1/usage",
             "Sums of what was used",
             "Usage",
             200,
             {},
             "by:string model, tenant, day or key; since:string first day, YYYY-MM-DD; until:string the day behind the last one"},
    RouteDoc{"GET",
             "/admin/v1/usage/requests",
             "What single requests used",
             "UsageRequests",
             200,
             {},
             "after:int those behind this seq; limit:int at most so many; since:string first day; until:string the day behind the last one"},
    RouteDoc{"GET", "/admin/v1/pulls", "Pulls under way and the last ones", "Pulls"},
    RouteDoc{"POST", "/admin/v1/pulls", "Begins a pull", "Pull", 202, "PullWanted"},
    RouteDoc{"GET", "/admin/v1/pulls/*", "One pull", "Pull"},
    RouteDoc{"DELETE", "/admin/v1/pulls/*", "Ends a pull", "PullCancelled"},
    RouteDoc{"GET", "/admin/v1/store", "What was pulled", "Store"},
    RouteDoc{"POST", "/admin/v1/store/gc", "Removes what no model has", "Collected", 200, {}, "dry_run:flag only says what would go"},
    RouteDoc{"GET", "/admin/v1/keys", "API keys, without their secrets", "Keys"},
    RouteDoc{"POST", "/admin/v1/keys", "Makes a key and shows it this once", "NewKey", 201, "KeyWanted"},
    RouteDoc{"DELETE", "/admin/v1/keys/*", "Revokes a key at once", "KeyRevoked"},
    RouteDoc{"POST", "/admin/v1/keys/*/rotate", "Makes a key in another's place", "NewKey", 201, "RotationWanted"},
    RouteDoc{"GET", "/admin/v1/tenants", "All tenants", "Tenants"},
    RouteDoc{"POST", "/admin/v1/tenants", "Adds a tenant (a spec in YAML or JSON)", "Tenant", 201, "TenantSpec"},
    RouteDoc{"GET", "/admin/v1/tenants/*", "One tenant", "Tenant"},
    RouteDoc{"PUT", "/admin/v1/tenants/*", "Changes a tenant", "Tenant", 200, "TenantSpec"},
    RouteDoc{"DELETE", "/admin/v1/tenants/*", "Removes a tenant with its keys", "TenantRemoved"},
    RouteDoc{"POST", "/admin/v1/tenants/*/erase", "Forgets who used what", "Erased"},
};

/// doc_of() != nullptr for constant expressions: compiled with -fsanitize=undefined GCC 12 takes no comparison of addresses for one.
consteval bool has_doc(std::string_view method, std::string_view pattern) {
  for (const RouteDoc& doc : kRouteDocs)
    if (doc.method == method && doc.pattern == pattern) return true;
  return false;
}

/// The row of a route; nullptr: there is none.
constexpr const RouteDoc* doc_of(std::string_view method, std::string_view pattern) {
  for (const RouteDoc& doc : kRouteDocs)
    if (doc.method == method && doc.pattern == pattern) return &doc;
  return nullptr;
}

}  // namespace thaw::gateway
