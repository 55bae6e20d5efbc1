#pragma once

#include <string>

#include "base/result.h"

namespace thaw::node {

/// A function of a loaded library; valid as long as the library is.
template <typename Function>
struct Symbol {
  Function* address = nullptr;

  template <typename... Args>
  auto operator()(Args... args) const { return address(args...); }
  explicit operator bool() const { return address != nullptr; }
};

/// A library loaded at run time, for as long as the object lives. Functions may be looked up from any thread.
class SharedLibrary {
 public:
  /// `name`: as dlopen takes it. Fails with not_found and the linker's reason.
  static base::Result<SharedLibrary> open(const std::string& name);

  SharedLibrary(SharedLibrary&& other) noexcept;
  SharedLibrary& operator=(SharedLibrary&&) = delete;
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;
  ~SharedLibrary();

  /// The function of that name, or not_found. Function is a function type: `find<int(int)>("f")`.
  template <typename Function>
  base::Result<Symbol<Function>> find(const char* name) const {
    THAW_ASSIGN_OR_RETURN(void* const address, find_address(name));
    return Symbol<Function>{reinterpret_cast<Function*>(address)};
  }

  /// The same for destructors: empty when the function is not there, or the object was moved from.
  template <typename Function>
  [[nodiscard]] Symbol<Function> find_if_open(const char* name) const {
    return handle_ == nullptr ? Symbol<Function>{} : find<Function>(name).value_or({});
  }

 private:
  SharedLibrary(std::string name, void* handle) : name_(std::move(name)), handle_(handle) {}
  base::Result<void*> find_address(const char* name) const;

  std::string name_;
  void* handle_ = nullptr;
};

}  // namespace thaw::node
