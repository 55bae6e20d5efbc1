#include "wire/messages.h"

namespace thaw::wire {

const char* to_string(DownReason reason) {
  switch (reason) {
    case DownReason::stopped:
      return "stopped";
    case DownReason::start_failed:
      return "start_failed";
    case DownReason::start_timeout:
      return "start_timeout";
    case DownReason::crashed:
      return "crashed";
    case DownReason::out_of_memory:
      return "out_of_memory";
    case DownReason::freeze_failed:
      return "freeze_failed";
    case DownReason::wake_failed:
      return "wake_failed";
  }
  return "crashed";
}

const char* to_string(DriverKind kind) {
  switch (kind) {
    case DriverKind::freezer:
      return "freezer";
    case DriverKind::runsc:
      return "runsc";
    case DriverKind::cuda:
      return "cuda";
    case DriverKind::engine:
      return "engine";
    case DriverKind::criu:
      return "criu";
  }
  return "freezer";
}

const char* to_string(Way way) {
  switch (way) {
    case Way::wake:
      return "wake";
    case Way::restore:
      return "restore";
    case Way::start:
      return "start";
  }
  return "start";
}

}  // namespace thaw::wire
