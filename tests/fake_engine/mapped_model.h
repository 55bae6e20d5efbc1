#pragma once

#include <cstddef>
#include <string>

namespace thaw::fake_engine {

/// A model file in memory as llama.cpp keeps it: mapped, read-only, its pages the page cache's.
class MappedModel {
 public:
  /// Maps and reads the file. Empty: none. Ends the process where that is impossible.
  explicit MappedModel(const std::string& path);
  ~MappedModel();
  MappedModel(const MappedModel&) = delete;
  MappedModel& operator=(const MappedModel&) = delete;

  /// Touches every page, as an answer does.
  void read() const;

 private:
  const char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace thaw::fake_engine
