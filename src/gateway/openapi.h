#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

namespace thaw::gateway {

/// The whole API as an OpenAPI 3.1 document, made from the route table, its descriptions (route_docs.h) and the shapes of bodies (answer_shapes.h).
boost::json::object openapi();
/// The same as text, indented, as `thaw schema api` prints it.
std::string openapi_text();

/// JSON Schema of a shape in the notation of answer_shapes.h.
boost::json::object shape_schema(std::string_view members);

}  // namespace thaw::gateway
