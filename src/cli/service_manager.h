#pragma once

#include <string_view>

#include "cli/credentials.h"

namespace thaw::cli {

/// Says `state` ("READY=1", "STOPPING=1", lines joined by \n) to the service manager that started this process: one
/// datagram to the Unix socket that $NOTIFY_SOCKET names (sd_notify(3)), "@" for an abstract one. Without that variable
/// nothing happens. Never blocks; what cannot be said is logged.
void tell_service_manager(const Environment& environment, std::string_view state);

/// "RELOADING=1" with the time that systemd asks for beside it (MONOTONIC_USEC); READY=1 must follow.
void tell_reloading(const Environment& environment);

/// Whether a service manager started this process and waits for what it says: then it has no person's home to leave
/// anything in.
bool has_service_manager(const Environment& environment);

}  // namespace thaw::cli
