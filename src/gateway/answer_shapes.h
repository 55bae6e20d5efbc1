#pragma once

#include <array>
#include <string_view>

/// What bodies look like, by name: the components of the OpenAPI document (openapi.h). A test asks a server every GET route and holds what it answers
/// against these: what a handler says and this does not, or the other way round, fails there.
///
/// "key:type key?:type": `?` that it may be absent; types are string, int, number, bool, any, object (any members), the name of another shape,
/// [type] a list, {type} a map, and type|null.
namespace thaw::gateway {

struct AnswerShape {
  std::string_view name;
  std::string_view members;
};

inline constexpr std::array kAnswerShapes{
    // --- the OpenAI API's
    AnswerShape{"Asking", "model:string stream?:bool|null"},
    AnswerShape{"AskingByForm", "model:string file:string stream?:string"},
    AnswerShape{"OpenAiModel", "id:string object:string created:int owned_by:string root?:string"},
    AnswerShape{"OpenAiModels", "object:string data:[OpenAiModel]"},
    AnswerShape{"Error", "error:ErrorBody"},
    AnswerShape{"ErrorBody", "message:string type:string param:string|null code:string|null"},
    // --- the server and who asks it
    AnswerShape{"Status", "version:string uptime_ms:int pid:int data_dir:string sandbox:string dev:bool draining:bool models:int connections:int"},
    AnswerShape{"Whoami",
                "key:int|null subject:string|null tenant:string role:string platform:bool models:[string] expires_unix_ms:int|null "
                "requests_left:int|null tokens_left:int|null running_requests:int quotas?:object"},
    AnswerShape{"Routes", "routes:[Route]"},
    AnswerShape{"Route", "method:string path:string scope:string roles:[string] action:string|null act:bool inference:bool"},
    // --- models
    AnswerShape{"Models", "models:[Model] host_cache?:HostCache"},
    AnswerShape{"Model",
                "name:string tenant:string state:string ready?:int starting?:int waking?:int freezing?:int standby?:int stopping?:int images?:int "
                "image_bytes?:int in_flight?:int queued?:int min_replicas:int max_replicas:int device:string devices?:int priority?:string "
                "device_memory_bytes:int weights_bytes?:int files_changed?:int source:string aliases?:[string] engine:string cold_starts?:int "
                "evictions?:int start_failures?:int last_failure:string start_cost_ms?:number tiers?:Tiers created_unix_ms:int updated_unix_ms:int "
                "resident_bytes?:int|null pinned?:bool eviction_failure?:string pull?:Pull files?:[ModelFile] spec?:object "
                "revision?:int rollout?:Rollout|null image?:ContainerImage base?:string adapters?:[string]"},
    AnswerShape{"Tiers",
                "freezes:int wakes:int restores:int freeze_failures:int wake_failures:int restore_failures:int snapshot_failures:int "
                "last_snapshot_failure:string rests:string costs:Costs"},
    AnswerShape{"Costs", "start:Cost restore:Cost wake:Cost freeze:Cost"},
    AnswerShape{"Cost", "mean_ms:number deviation_ms:number samples:int"},
    AnswerShape{"ModelFile", "path:string gone:bool deployed:FileStamp changed:FileStamp|null"},
    AnswerShape{"FileStamp", "bytes:int modified_unix_ms:int sha256:string|null verified_unix_ms:int|null changed_unix_ms?:int"},
    AnswerShape{"Deployed", "name:string tenant:string created:bool spec:object facts?:Facts state?:string pull?:Pull succession?:string "
                "revision?:int rollout?:Rollout|null"},
    AnswerShape{"Rollout", "stage:string candidate:int|null percent:int draining:int last_failure:string"},
    AnswerShape{"RolledOut", "name:string tenant:string revision:int succession?:string rollout:Rollout|null"},
    AnswerShape{"Revisions", "name:string tenant:string revision:int rollout:Rollout|null revisions:[Revision]"},
    AnswerShape{"Revision",
                "number:int state:string percent:int failure:string|null created_unix_ms:int served_unix_ms:int|null spec:object"},
    AnswerShape{"Reloaded", "applied:[string] needs_restart:[string]"},
    AnswerShape{"Facts", "format:string weights_bytes:int kv_bytes_per_token:int trained_context_tokens:int estimated_device_bytes:int"},
    AnswerShape{"Removed", "name:string deleted:bool"},
    AnswerShape{"Stopping", "name:string stopping:int"},
    AnswerShape{"VerifyLine",
                "path?:string outcome?:string bytes?:int sha256?:string|null recorded_sha256?:string|null detail?:string model?:string ok?:bool "
                "error?:string|null"},
    AnswerShape{"Evicted", "name:string freed_bytes:int resident_bytes:int why_left:string"},
    AnswerShape{"ModelEvents", "model:string tenant:string events:[ModelEvent] last:int"},
    AnswerShape{"ModelEvent",
                "seq:int unix_ms:int event:string replica:int|null node:string|null device:string|null reason:string rule:string|null "
                "request:string|null took_ms:number|null"},
    AnswerShape{"Explanation",
                "model:string tenant:string prospect:string summary:string replica:int|null node:string|null devices:[string] way:string|null "
                "why:string|null displaces:[Displaced] priority:string queued_before:int first_token_ms:number|null at_least:bool parts:[EstimatedPart] "
                "refused_after_ms:number refusal:string|null retry_after_ms:number|null base?:string"},
    AnswerShape{"Displaced", "replica:int|null model:string|null tenant:string|null to:string in_flight:int"},
    AnswerShape{"EstimatedPart", "name:string ms:number|null source:string"},
    AnswerShape{"Freezing", "name:string freezing:int"},
    AnswerShape{"Waking", "name:string waking:bool"},
    AnswerShape{"Snapshotting", "name:string image:string"},
    AnswerShape{"ContainerImage",
                "image:string digest:string state:string progress:string|null error:ContainerImageError|null retry_in_s:number|null models?:[string]"},
    AnswerShape{"ContainerImageError", "kind:string message:string"},
    AnswerShape{"ContainerImages", "images:[ContainerImage] layers:int layer_bytes:int unfinished_bytes:int budget_bytes:int"},
    AnswerShape{"Images", "images:[Image]"},
    AnswerShape{
        "Image",
        "id:string model:string tenant:string node:string driver:string bytes:int device_bytes:int created_unix_ms:int restores:int dropping:bool"},
    AnswerShape{"ImageDropped", "id:string dropping:bool"},
    // --- nodes and replicas
    AnswerShape{"Duty", "node:string duty:string leaving:int device?:string"},
    AnswerShape{"Instances", "instances:[Instance] devices?:[Device] nodes?:[Node] host_cache?:HostCache"},
    AnswerShape{
        "Instance",
        "id:int model:string tenant:string node:string device:string devices:[string] state:string device_bytes:int host_bytes:int way:string "
        "image:string|null memory_bytes:int held_bytes:int weights_resident_bytes:int|null in_flight:int served:int age_ms:int "
        "idle_ms:int|null pid:int|null reason:string revision:int"},
    AnswerShape{"Device", "node:string id:string kind:string name:string total_bytes:int budget_bytes:int reserved_bytes:int duty:string"},
    AnswerShape{
        "Node",
        "node:string domain:string host_reserved_bytes:int host_budget_bytes:int image_reserved_bytes:int image_budget_bytes:int drivers:[Driver]"},
    AnswerShape{"Driver", "driver:string device:string standby:bool snapshot:bool opt_in:bool why_not:string"},
    AnswerShape{"HostCache", "cached_bytes:int budget_bytes:int evictions:int evicted_bytes:int failed_evictions:int"},
    // --- requests and usage
    AnswerShape{"Request",
                "id:string model:string tenant:string revision:int status:int done:bool cold:bool way:string|null why:string attempts:int queued_ms:number "
                "ttft_ms:number total_ms:number prompt_tokens:int completion_tokens:int failure:string|null phases:[Phase]"},
    AnswerShape{"Phase", "name:string start_ms:number duration_ms:number read_bytes?:int resident_bytes?:int"},
    AnswerShape{"Usage", "by:string currency:string|null groups:[UsageGroup] rows_lost:int incomplete:string|null"},
    AnswerShape{"UsageGroup",
                "model?:string tenant?:string day?:string key?:string requests:int ok:int failed:int refused:int cancelled:int interrupted:int "
                "prompt_tokens:int completion_tokens:int cold_starts:int restores:int wakes:int wait_ms:number service_ms:number start_ms:number "
                "cost:number|null"},
    AnswerShape{"UsageRequests", "currency:string|null requests:[UsageRequest] next:int|null incomplete:string|null"},
    AnswerShape{"UsageRequest",
                "seq:int request:string|null arrived_unix_ms:int ended_unix_ms:int tenant:string key:int|null model:string outcome:string way:string "
                "dispatched:bool status:int prompt_tokens:int completion_tokens:int wait_ms:number service_ms:number start_ms:number "
                "cost:number|null"},
    // --- pulls
    AnswerShape{"Pulls", "pulls:[Pull]"},
    AnswerShape{
        "Pull",
        "id?:int source?:string state?:string total_bytes?:int done_bytes?:int fetched_bytes?:int percent?:int bytes_per_second?:number "
        "eta_s?:number|null file?:string|null path?:string|null error?:PullError|null begun_unix_ms?:int ended_unix_ms?:int|null models?:[string]"},
    AnswerShape{"PullError", "kind:string message:string"},
    AnswerShape{"PullWanted", "model?:string source?:object directory?:bool"},
    AnswerShape{"PullCancelled", "id:int cancelled:bool"},
    AnswerShape{"Store", "sources:[StoredSource] used_bytes:int unfinished_bytes:int budget_bytes:int|null free_bytes:int"},
    AnswerShape{"StoredSource", "source:string revision:string|null bytes:int path:string pulled_unix_ms:int models:[string] files:[StoredFile]"},
    AnswerShape{"StoredFile", "name:string bytes:int sha256:string"},
    AnswerShape{"Collected", "dry_run:bool removed:[Garbage] freed_bytes:int"},
    AnswerShape{"Garbage", "what:string bytes:int"},
    // --- keys and tenants
    AnswerShape{"Keys", "keys:[Key]"},
    AnswerShape{
        "Key",
        "id:int name:string tenant:string role:string platform:bool models:[string] state:string created_unix_ms:int expires_unix_ms:int|null "
        "revoked_unix_ms:int|null last_used_unix_ms:int|null"},
    AnswerShape{"KeyWanted", "role:string name?:string platform?:bool models?:[string] expires_in_s?:int"},
    AnswerShape{"RotationWanted", "grace_s?:int"},
    AnswerShape{"NewKey",
                "key:string id:int name:string tenant:string role:string platform:bool models:[string] state:string created_unix_ms:int "
                "expires_unix_ms:int|null revoked_unix_ms:int|null last_used_unix_ms:int|null replaces?:int old_ends_unix_ms?:int"},
    AnswerShape{"KeyRevoked", "id:int revoked:bool"},
    AnswerShape{"Tenants", "tenants:[Tenant]"},
    AnswerShape{
        "Tenant",
        "name:string models:int keys:int running_requests:int refused_requests:int requests_left:int|null tokens_left:int|null disk_bytes:int "
        "created_unix_ms:int updated_unix_ms:int devices?:number device_seconds_today?:number exhausted?:bool spec:object"},
    AnswerShape{"TenantSpec", "apiVersion:string kind:string metadata:object spec?:object"},
    AnswerShape{"TenantRemoved", "name:string deleted:bool"},
    AnswerShape{"Erased", "erased:bool audit_key_destroyed:bool usage_rows_removed:int usage_days_kept:int kept_as:string|null"},
};

}  // namespace thaw::gateway
