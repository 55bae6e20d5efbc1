#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "wire/messages.h"

namespace thaw::gateway {

/// What became of one request: shown by `thaw run --timing` and GET /admin/v1/requests/{id}.
struct RequestRecord {
  base::RequestId id;
  base::ModelName model;
  base::TenantName tenant;
  std::uint32_t revision = 0;  ///< of the model, that served it or was to
  base::KeyId key;
  int status = 0;
  bool done = false;
  bool cold = false;
  wire::Way way = wire::Way::start;  ///< by which the replica came up that a cold request waited for
  std::string why;                   ///< ... and why so: "first request; restores in 0.4 s, starts in 2 s"
  std::uint32_t attempts = 0;
  base::Duration queued{}, first_byte{}, total{};
  std::uint32_t prompt_tokens = 0, completion_tokens = 0;
  std::string failure;  ///< empty: none
  std::vector<wire::Phase>
      start_phases;  ///< of the start that a cold request waited for, counted from the request's arrival

  /// All of it, counted from the arrival: the wait, the start's own parts, the way to the first byte, the answer.
  [[nodiscard]] std::vector<wire::Phase> timeline() const;
};

/// The last kCapacity requests, in memory. Loop thread only.
class RequestLog {
 public:
  static constexpr std::size_t kCapacity = 1024;

  explicit RequestLog(std::uint32_t process_tag) : tag_(process_tag), records_(kCapacity) {}

  /// The next request's number.
  base::RequestId next() { return base::RequestId(++last_); }
  /// "req_" + this process's tag + the number: unique over restarts.
  void format(base::RequestId id, char (&text)[32]) const;
  RequestRecord& record(base::RequestId id);
  [[nodiscard]] const RequestRecord* find(std::string_view id_text) const;

 private:
  std::uint32_t tag_;
  std::uint64_t last_ = 0;
  std::vector<RequestRecord> records_;  ///< slot = number mod capacity
};

}  // namespace thaw::gateway
