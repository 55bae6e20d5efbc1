#include "cli/json.h"

#include <algorithm>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/tenancy.h"

namespace thaw::cli {

namespace json = boost::json;

bool other_tenants(const std::vector<const json::object*>& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const auto* row) {
    const std::string tenant = text_of(*row, "tenant");
    return !tenant.empty() && tenant != base::kDefaultTenant;
  });
}

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

std::optional<double> number_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  json::error_code error;
  const auto number = value->to_number<double>(error);
  if (error) return std::nullopt;
  return number;
}

std::uint64_t count_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return 0;
  json::error_code error;
  const auto number = value->to_number<std::uint64_t>(error);
  return error ? 0 : number;
}

bool flag_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->as_bool();
}

const json::object* object_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

std::vector<const json::object*> objects_of(const json::object& object, std::string_view key) {
  std::vector<const json::object*> found;
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_array()) return found;
  for (const json::value& element : value->as_array())
    if (const json::object* part = element.if_object()) found.push_back(part);
  return found;
}

base::Result<json::object> parse_object(std::string_view text, std::string_view whose) {
  json::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return base::Error{base::ErrorKind::internal,
                       fmt::format("{} sent something that is no JSON object; is it a thaw server?", whose)};
  return std::move(value.as_object());
}

}  // namespace thaw::cli
