#pragma once

#include "gateway/exchange.h"
#include "net/task.h"

namespace thaw::gateway {
class Server;
}

/// The OpenAI API: handlers of its routes.
namespace thaw::gateway::openai {

/// Chat completions, completions, embeddings: waits for a replica and relays.
net::Task<void> infer(Server& server, Exchange& exchange);
/// Also the sleeping ones.
net::Task<void> list_models(Server& server, Exchange& exchange);
net::Task<void> show_model(Server& server, Exchange& exchange);

}  // namespace thaw::gateway::openai
