#include "node/cpu/yielding.h"

namespace thaw::node {
namespace {

constexpr auto kKeptUp = base::Seconds(5);  // who does it again soon is not looked for anew
constexpr int kHeldUpShare = 4;  // of the time; one with as many threads as its limit is held up for moments only

}  // namespace

bool Yielding::look(const CpuSeen& seen) {
  if (seen.held_up * kHeldUpShare >= seen.since_last) {
    yields_ = true;
    until_ = seen.at + kKeptUp;
  } else if (seen.processors_wanted || seen.at >= until_) {
    yields_ = false;
  }
  return yields_;
}

}  // namespace thaw::node
