#pragma once

#include "spec/fields.h"
#include "spec/server_config.h"

namespace thaw::spec {

/// tls.clients: which certificates stand for whom.
void read_tls_clients(const Cursor& at, ServerConfig::Tls& into);
std::string tls_clients_shape();

}  // namespace thaw::spec
