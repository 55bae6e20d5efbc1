#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

namespace thaw::sim {

/// Which models' weights a machine has in its page cache: whole, the longest unused leave first, as the kernel does it.
class PageCache {
 public:
  explicit PageCache(std::uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  [[nodiscard]] bool has(std::uint32_t model) const { return by_model_.count(model) > 0; }
  void use(std::uint32_t model, std::uint64_t bytes);  ///< they are in memory now
  void demote(std::uint32_t model);                    ///< the first to leave
  void resize(std::uint64_t capacity_bytes);

 private:
  struct Entry {
    std::uint32_t model;
    std::uint64_t bytes;
  };
  void trim();

  std::uint64_t capacity_bytes_, used_bytes_ = 0;
  std::list<Entry> entries_;  ///< the longest unused last
  std::unordered_map<std::uint32_t, std::list<Entry>::iterator> by_model_;
};

}  // namespace thaw::sim
