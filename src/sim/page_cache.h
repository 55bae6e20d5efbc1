#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

namespace thaw::sim {

/// Which models' weights a machine has in its page cache: the longest unused leave first, whole, as the kernel does it;
/// parts of them where somebody orders it.
class PageCache {
 public:
  explicit PageCache(std::uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  [[nodiscard]] bool has(std::uint32_t model) const { return by_model_.count(model) > 0; }
  [[nodiscard]] std::uint64_t resident(std::uint32_t model) const;  ///< bytes
  [[nodiscard]] std::uint64_t used_bytes() const { return used_bytes_; }
  void use(std::uint32_t model, std::uint64_t bytes);   ///< they are in memory now, all of them
  void keep(std::uint32_t model, std::uint64_t bytes);  ///< the rest leaves
  void demote(std::uint32_t model);                     ///< the first to leave
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
