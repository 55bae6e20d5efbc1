#pragma once

#include <cstdint>

#include "base/time.h"

namespace thaw::controller {

/// The problem: a replica answers several requests at once; which part of its device's time did each of them use?
///
/// An equal part of every moment, over those that were there: the integral of dt / (requests at t). What all requests get adds up to the time in
/// which the replica was busy. A running sum makes that two additions a request, as in generalised processor sharing (virtual time).
class ServiceShare {
 public:
  /// A request begins; the mark is for leave().
  double enter(base::TimePoint now) {
    advance(now);
    ++requests_;
    return share_ns_;
  }
  /// It ends: its part.
  base::Duration leave(base::TimePoint now, double mark) {
    advance(now);
    if (requests_ > 0) --requests_;
    return base::Duration(static_cast<base::Duration::rep>(share_ns_ - mark));
  }
  [[nodiscard]] std::uint32_t requests() const { return requests_; }

 private:
  void advance(base::TimePoint now) {
    if (requests_ > 0 && now > last_) share_ns_ += static_cast<double>((now - last_).count()) / requests_;
    if (now > last_) last_ = now;
  }

  double share_ns_ = 0;  ///< of a request that was there all the time
  base::TimePoint last_{};
  std::uint32_t requests_ = 0;
};

}  // namespace thaw::controller
