#include "control/routing.h"

#include <algorithm>
#include <cmath>

#include "control/state.h"

namespace thaw::control {

namespace {

/// splitmix64's finish: every bit of the input changes half of those of the output.
std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

std::uint64_t rank(Affinity affinity, const Instance& i, const base::ModelName& adapter) {
  constexpr std::uint64_t kHasAdapter = 1ULL << 63U;
  const std::uint64_t dice = mixed(affinity + i.id.value() * 0x9e3779b97f4a7c15U);
  if (adapter.empty()) return dice;
  return i.has(adapter) ? dice | kHasAdapter : dice & ~kHasAdapter;
}

}  // namespace

Affinity affinity_with(Affinity affinity, const base::ModelName& adapter) {
  if (adapter.empty()) return affinity;
  constexpr std::uint64_t kFnvBasis = 14695981039346656037U, kFnvPrime = 1099511628211U;
  std::uint64_t of_adapter = kFnvBasis;
  for (const char c : adapter.str()) of_adapter = (of_adapter ^ static_cast<unsigned char>(c)) * kFnvPrime;
  return mixed(affinity ^ of_adapter) | 1U;  // 0 means none
}

Instance* pick_empty(const Model& m, base::TimePoint now) {
  for (Instance* i : m.usable) {
    if (i->in_flight == 0 && !i->health.ejected(now)) return i;
  }
  return nullptr;
}

Instance* pick_slot(const Model& m, Affinity affinity, base::RequestId request, bool keep_least, base::TimePoint now, bool* first_choice,
                    const base::ModelName& adapter) {
  const Instance* kept = nullptr;
  if (keep_least) {
    for (const Instance* i : m.usable) {
      if (!i->exclusive && (kept == nullptr || i->in_flight < kept->in_flight)) kept = i;
    }
  }
  const auto free = [&](const Instance* i) {
    return i != kept && !i->exclusive && !i->health.ejected(now) && i->in_flight < m.spec.scaling.target_concurrency;
  };
  const std::size_t count = m.usable.size();
  if (affinity != 0 && count > 1) {
    std::uint64_t load = 1, takers = 0;
    for (const Instance* i : m.usable) {
      if (i->exclusive || i->health.ejected(now)) continue;
      load += i->in_flight;
      ++takers;
    }
    const auto bound = static_cast<std::uint64_t>(std::ceil(kLoadBound * static_cast<double>(load) / static_cast<double>(std::max<std::uint64_t>(takers, 1))));
    Instance* best = nullptr;
    std::uint64_t best_rank = 0, first_rank = 0;
    for (Instance* i : m.usable) {
      const std::uint64_t of_this = rank(affinity, *i, adapter);
      first_rank = std::max(first_rank, of_this);
      if (!free(i) || i->in_flight >= bound || (best != nullptr && of_this <= best_rank)) continue;
      best = i;
      best_rank = of_this;
    }
    if (first_choice != nullptr) *first_choice = best != nullptr && best_rank == first_rank;
    if (best != nullptr) return best;
  }
  if (count > kLookAtAllReplicas) {
    const std::uint64_t dice = mixed(request.value());
    const std::size_t first = dice % count;
    Instance* const one = m.usable[first];
    Instance* const other = m.usable[(first + 1 + (dice >> 32U) % (count - 1)) % count];
    if (free(one) && (!free(other) || one->in_flight <= other->in_flight)) return one;
    if (free(other)) return other;
  }
  Instance* best = nullptr;
  for (Instance* i : m.usable) {
    if (free(i) && (best == nullptr || i->in_flight < best->in_flight)) best = i;
  }
  return best;
}

bool RetryBudget::take(base::TimePoint now, std::uint32_t peak) {
  const double allowance = std::max(kLeast, 2.0 * peak);
  debt_ = std::max(debt_ - allowance * base::to_s(now - paid_at_) / base::to_s(kForgets), 0.0);
  paid_at_ = now;
  if (debt_ + 1 > allowance) return false;
  debt_ += 1;
  return true;
}

/// One answer more of `i`. A replica that is worse than the others, several times in a row, gets no new requests for a while: never more than half of
/// them, so never the only one. One that comes back no better is replaced in the end.
void Scheduler::State::judge_answer(Instance& i, bool bad, base::TimePoint now, Actions& out) {
  Health& h = i.health;
  if (!bad) {
    h.strikes = 0;
    if (++h.good >= policy.outlier_strikes) h.ejections = 0;
    return;
  }
  h.good = 0;
  if (!i.usable() || h.ejected(now) || ++h.strikes < policy.outlier_strikes) return;
  Model& m = *i.model;
  const auto ejected = std::count_if(m.usable.begin(), m.usable.end(), [&](const Instance* other) { return other->health.ejected(now); });
  if (2 * (static_cast<std::size_t>(ejected) + 1) > m.usable.size()) return;
  h.strikes = 0;
  ++m.ejections;
  ++totals.ejections;
  if (++h.ejections > policy.outlier_ejections) {
    m.last_failure = "a replica answered worse than the others";
    drain_instance(i, Instance::Drain::suspect, "suspect: it answers worse than the others", now, out);
    return;
  }
  h.ejected_until = now + std::min(policy.outlier_ejection * h.ejections, policy.outlier_ejection_max);
  touch(m);
}

/// Whether the first byte was later than the others' are, by far.
bool Scheduler::State::answers_slowly(const Instance& i, base::Duration took) const {
  constexpr int kTimesTheOthers = 4;
  base::Duration others = base::Duration::max();
  for (const Instance* other : i.model->usable) {
    const base::Duration mean = other->health.first_byte.value();
    if (other != &i && mean > base::Duration::zero()) others = std::min(others, mean);
  }
  return others != base::Duration::max() && took > policy.outlier_slow_least && took / kTimesTheOthers > others;
}

}  // namespace thaw::control
