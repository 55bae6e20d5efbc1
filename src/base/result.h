#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace thaw::base {

/// What kind of failure it is, as far as a caller must act on it. The message tells people the rest.
enum class ErrorKind {
  invalid,      ///< the caller's input is wrong; repeating it will not help
  not_found,    ///< the named thing does not exist
  conflict,     ///< the named thing exists already, or is in a state that forbids the act
  denied,       ///< the caller may not do this
  exhausted,    ///< a budget, quota or queue is full; may pass later
  unavailable,  ///< the other side is not there (yet); may pass later
  timeout,      ///< a deadline passed
  io,           ///< the operating system refused; the message has errno's text
  internal,     ///< a fault of ours
};

/// Short lower-case name, e.g. "not_found".
const char* to_string(ErrorKind kind);

/// A failure as a value. `message` names the place, what went wrong and the remedy: "cannot X: Y; do Z".
struct Error {
  ErrorKind kind = ErrorKind::internal;
  std::string message;

  /// The same error with "context: " in front of its message.
  [[nodiscard]] Error within(const std::string& context) const { return {kind, context + ": " + message}; }
};

/// An io error that carries errno's text: "cannot open /x: No such file or directory".
Error errno_error(const std::string& what, int error_number);

/// A value or an Error. Neither throws nor allocates beyond what T and the message need.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  /// The value; calling it on a failure is a programming error.
  T& value() & { assert(ok()); return *std::get_if<0>(&state_); }
  const T& value() const& { assert(ok()); return *std::get_if<0>(&state_); }
  T&& value() && { assert(ok()); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const { assert(!ok()); return *std::get_if<1>(&state_); }
  T value_or(T other) && { return ok() ? std::move(*this).value() : std::move(other); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { assert(!ok()); return *error_; }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace thaw::base

#define THAW_CONCAT_INNER(a, b) a##b
#define THAW_CONCAT(a, b) THAW_CONCAT_INNER(a, b)

/// Returns the error of `expr` from the enclosing function, if it is one.
#define THAW_RETURN_IF_ERROR(expr)                               \
  do {                                                           \
    auto thaw_status_ = (expr);                                  \
    if (!thaw_status_.ok()) return thaw_status_.error();         \
  } while (false)

/// THAW_ASSIGN_OR_RETURN(auto x, f()): x is f's value, or the enclosing function returns f's error.
#define THAW_ASSIGN_OR_RETURN(declaration, expr) THAW_ASSIGN_OR_RETURN_(THAW_CONCAT(thaw_result_, __LINE__), declaration, expr)
#define THAW_ASSIGN_OR_RETURN_(result, declaration, expr) \
  auto result = (expr);                                   \
  if (!result.ok()) return result.error();                \
  declaration = std::move(result).value()
