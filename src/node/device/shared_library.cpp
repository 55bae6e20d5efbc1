#include "node/device/shared_library.h"

#include <dlfcn.h>

#include <utility>

namespace thaw::node {
namespace {

std::string linker_error() {
  const char* text = ::dlerror();  // NOLINT(concurrency-mt-unsafe): per thread in glibc
  return text != nullptr ? text : "unknown error";
}

}  // namespace

base::Result<SharedLibrary> SharedLibrary::open(const std::string& name) {
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return base::Error{base::ErrorKind::not_found, "cannot load " + linker_error()};
  return SharedLibrary(name, handle);
}

SharedLibrary::SharedLibrary(SharedLibrary&& other) noexcept
    : name_(std::move(other.name_)), handle_(std::exchange(other.handle_, nullptr)) {}

SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr) ::dlclose(handle_);
}

base::Result<void*> SharedLibrary::find_address(const char* name) const {
  void* address = ::dlsym(handle_, name);
  if (address == nullptr) {
    return base::Error{base::ErrorKind::not_found, name_ + " has no " + name + "; a newer NVIDIA driver is needed"};
  }
  return address;
}

}  // namespace thaw::node
