#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/fwd.hpp>

#include "base/result.h"

namespace thaw::cli {

/// Reads the server's answers tolerantly: a field that is absent, null or of another type counts as empty or absent, so
/// that an older CLI still shows what it knows of a newer server's answer.
std::string text_of(const boost::json::object& object, std::string_view key);
std::optional<double> number_of(const boost::json::object& object, std::string_view key);
std::uint64_t count_of(const boost::json::object& object, std::string_view key);  ///< 0 when absent or negative
bool flag_of(const boost::json::object& object, std::string_view key);
const boost::json::object* object_of(const boost::json::object& object, std::string_view key);
/// The objects of an array; what is none is left out. They live as long as `object`.
std::vector<const boost::json::object*> objects_of(const boost::json::object& object, std::string_view key);

/// Whether some of the server's rows are not the default tenant's: then tables say of all whose they are.
bool other_tenants(const std::vector<const boost::json::object*>& rows);

/// The JSON object that `text` is, or an error that says whose answer is damaged.
base::Result<boost::json::object> parse_object(std::string_view text, std::string_view whose);

}  // namespace thaw::cli
