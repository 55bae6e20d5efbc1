#include "node/images/replica.h"

#include <algorithm>

#include <fmt/format.h>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "node/engine/http_client.h"
#include "node/limits.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/pipes.h"
#include "node/tiers/wait_answer.h"

namespace thaw::node {
namespace {

constexpr std::size_t kSaid_bytes = 2'048;
// Not cached for others, always the same words: every replica restored from the image may repeat them.
constexpr const char* kWarmUp =
    R"({"prompt":"thaw","n_predict":4,"max_tokens":4,"temperature":0,"cache_prompt":false,"stream":false})";
constexpr const char* kMeasure =
    R"({"prompt":"thaw","n_predict":24,"max_tokens":24,"temperature":0,"cache_prompt":false,"ignore_eos":true,"stream":false})";

}  // namespace

base::Result<std::unique_ptr<LonelyReplica>> LonelyReplica::start(const wire::StartInstance& start,
                                                                  const ImageTools& tools, const TierCall& call) {
  std::unique_ptr<LonelyReplica> replica(new LonelyReplica);
  THAW_ASSIGN_OR_RETURN(const std::string engine, find_engine(start.model.engine, start.model, tools.engine_paths));
  THAW_ASSIGN_OR_RETURN(replica->launch_, plan_launch(start, engine, tools.maker.view(start.instance)));
  THAW_ASSIGN_OR_RETURN(
      replica->sandbox_,
      tools.maker.make(start.instance, {replica->launch_.model_files, replica->launch_.engine_dir, {}}));
  CgroupLimits limits = limits_for(start.model, tools.sandbox);
  limits.background = true;
  THAW_RETURN_IF_ERROR(replica->sandbox_->limit(limits));
  if (replica->launch_.tcp) {
    const LaunchPaths paths = tools.maker.view(start.instance);
    THAW_RETURN_IF_ERROR(replica->sandbox_->listen_on_tcp(paths.address, paths.port));
  }
  replica->output_ = replica->sandbox_->take_output();
  THAW_RETURN_IF_ERROR(replica->sandbox_->run(replica->launch_.argv, replica->launch_.env));
  const auto probe = [&replica, &start](const std::string& address, base::Duration timeout) {
    replica->drain();  // an engine that waits for its reader answers nobody
    return probe_model(start.model, address, timeout);
  };
  if (auto answers = wait_answer(*replica->sandbox_, call, probe); !answers.ok())
    return base::Error{answers.error().kind,
                       "the replica for the image did not start: " + answers.error().message + replica->last_words()};
  return replica;
}

void LonelyReplica::drain() {
  said_ += read_available(output_.get());
  if (said_.size() > kSaid_bytes) said_.erase(0, said_.size() - kSaid_bytes);
}

std::string LonelyReplica::last_words() {
  drain();
  std::string words = said_;
  std::replace(words.begin(), words.end(), '\n', ' ');
  return words.empty() ? words : "; it said: " + words;
}

base::Status LonelyReplica::warm_up(const TierCall& call) {
  const auto answer =
      ask_engine(sandbox_->socket_path(), {"POST", "/v1/completions", kWarmUp, true}, call.deadline, call.stop);
  drain();
  if (!answer.ok()) return answer.error().within("the replica for the image did not answer its warm-up prompt");
  return {};
}

double LonelyReplica::tokens_per_s(const TierCall& call) {
  const auto answer =
      ask_engine(sandbox_->socket_path(), {"POST", "/completion", kMeasure, true}, call.deadline, call.stop);
  drain();
  if (!answer.ok() || answer->status != 200) return 0;
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse(answer->body, error);
  const auto* timings = !error && value.is_object() ? value.get_object().if_contains("timings") : nullptr;
  const auto* rate =
      timings != nullptr && timings->is_object() ? timings->get_object().if_contains("predicted_per_second") : nullptr;
  return rate != nullptr && rate->is_number() ? rate->to_number<double>() : 0;
}

}  // namespace thaw::node
