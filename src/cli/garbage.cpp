#include "cli/garbage.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "base/units.h"
#include "cli/json.h"

namespace thaw::cli {

int collect_garbage(Context& context, const std::string& route, bool dry_run) {
  const auto body = context.call({"POST", route + (dry_run ? "?dry_run=1" : ""), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  for (const boost::json::object* one : objects_of(*answer, "removed"))
    context.out << fmt::format("{} {} ({})\n", dry_run ? "would remove" : "removed", text_of(*one, "what"),
                               base::format_bytes(count_of(*one, "bytes")));
  context.out << fmt::format("{} {}\n", dry_run ? "would free" : "freed", base::format_bytes(count_of(*answer, "freed_bytes")));
  return kExitOk;
}

}  // namespace thaw::cli
