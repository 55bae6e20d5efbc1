#include "gateway/request_log.h"

#include <charconv>
#include <cstdio>

namespace thaw::gateway {

std::vector<wire::Phase> RequestRecord::timeline() const {
  std::vector<wire::Phase> phases{{"queue", base::Duration::zero(), queued}};
  phases.insert(phases.end(), start_phases.begin(), start_phases.end());
  const base::Duration first = first_byte > base::Duration::zero() ? first_byte : total;
  if (first > queued) phases.push_back({"first token", queued, first - queued});
  if (total > first) phases.push_back({"answer", first, total - first});
  return phases;
}

void RequestLog::format(base::RequestId id, char (&text)[32]) const {
  static constexpr char kDigits[] = "0123456789abcdef";
  char* at = text;
  for (const char c : {'r', 'e', 'q', '_'}) *at++ = c;
  for (int shift = 28; shift >= 0; shift -= 4) *at++ = kDigits[(tag_ >> shift) & 15U];
  for (int shift = 36; shift >= 0; shift -= 4) *at++ = kDigits[(id.value() >> shift) & 15U];
  *at = '\0';
}

RequestRecord& RequestLog::record(base::RequestId id) {
  RequestRecord& slot = records_[id.value() % kCapacity];
  if (slot.id != id) {
    slot = RequestRecord{};
    slot.id = id;
  }
  return slot;
}

const RequestRecord* RequestLog::find(std::string_view id_text) const {
  if (id_text.size() != 22 || id_text.substr(0, 4) != "req_") return nullptr;
  std::uint32_t tag = 0;
  std::uint64_t number = 0;
  const auto tag_end = std::from_chars(id_text.data() + 4, id_text.data() + 12, tag, 16);
  const auto number_end = std::from_chars(id_text.data() + 12, id_text.data() + 22, number, 16);
  if (tag_end.ptr != id_text.data() + 12 || number_end.ptr != id_text.data() + 22 || tag != tag_) return nullptr;
  const RequestRecord& slot = records_[number % kCapacity];
  return number != 0 && slot.id.value() == number ? &slot : nullptr;
}

}  // namespace thaw::gateway
