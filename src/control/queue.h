#pragma once

#include <array>
#include <cstddef>
#include <list>
#include <map>
#include <unordered_map>
#include <utility>

#include "control/request.h"

namespace thaw::control {

/// The requests that wait for one model. Without fairness one tenant's burst would hold up everybody else, so tenants
/// take turns: one request each, in the order in which they began to wait, and who has twice the weight has twice the turns (stride scheduling, Waldspurger
/// and Weihl 1995). A tenant's own requests go by priority. Requests that a replica failed go first.
/// Memory: proportional to what waits; a tenant with nothing waiting costs nothing. Does not own the requests.
class FairQueue {
 public:
  /// Behind its tenant's others of its priority; its deadline must be set. `weight`: its tenant's, above 0.
  void push(Request& request, double weight = 1);
  void push_retried(Request& request);  ///< in front of everybody, behind earlier retried ones
  void remove(Request& request);      ///< it left; nobody's turn is used up

  /// The first of the retried requests; null if there is none.
  [[nodiscard]] Request* first_retried() const { return retried_.empty() ? nullptr : retried_.front(); }
  /// The request whose tenant's turn it is, retried ones left aside; null if there is none.
  [[nodiscard]] Request* first_fair() const { return ring_.empty() ? nullptr : ring_.front().first(); }
  [[nodiscard]] const std::list<Request*>& retried() const { return retried_; }
  /// Those with something waiting, retried requests left aside; whose turn is next in front.
  [[nodiscard]] const std::list<Lane>& lanes() const { return ring_; }
  /// Of those that wait; `otherwise` when there are none.
  [[nodiscard]] spec::Priority highest(spec::Priority otherwise) const;
  /// Removes a request that is being served: its tenant goes to the end of the line.
  void take(Request& request);

  [[nodiscard]] std::size_t size() const { return deadlines_.size(); }
  [[nodiscard]] bool empty() const { return deadlines_.empty(); }
  [[nodiscard]] base::TimePoint earliest_deadline() const;  ///< never() when empty
  /// The request with the earliest deadline, if that is at or before `now`; else null.
  [[nodiscard]] Request* overdue(base::TimePoint now) const;
  /// Any request; null when empty. In order of deadlines, so that whoever empties the queue does it in a fixed order.
  [[nodiscard]] Request* any() const { return deadlines_.empty() ? nullptr : deadlines_.begin()->second; }

 private:
  using Key = std::pair<base::TimePoint, base::RequestId>;

  std::list<Request*> retried_;
  void sort_in(std::list<Lane>::iterator lane);

  std::list<Lane> ring_;  ///< tenants with something waiting, by their pass: the next one in front
  double virtual_ = 0;    ///< the pass of the last turn
  std::array<std::size_t, kPriorities> waiting_of_{};
  std::unordered_map<base::TenantName, std::list<Lane>::iterator> lanes_;
  std::map<Key, Request*> deadlines_;
};

}  // namespace thaw::control
