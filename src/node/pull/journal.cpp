#include "node/pull/journal.h"

#include <boost/json.hpp>

namespace thaw::node::pull {
namespace {

namespace json = boost::json;

constexpr std::int64_t kVersion = 1;

base::Error damaged(const char* what) {
  return {base::ErrorKind::invalid, std::string("a journal of a pull is damaged: ") + what};
}

bool read_natural(const json::value* value, std::uint64_t& into) {
  if (value == nullptr) return false;
  json::error_code error;
  into = value->to_number<std::uint64_t>(error);
  return !error && (value->is_int64() || value->is_uint64());
}

}  // namespace

std::string to_json(const Journal& journal) {
  json::array ranges;
  for (const Range& range : journal.ranges) ranges.push_back(json::array{range.begin, range.end});
  return json::serialize(json::object{{"journal", kVersion},
                                      {"source", journal.source},
                                      {"total_bytes", journal.total_bytes},
                                      {"etag", journal.etag},
                                      {"ranges", std::move(ranges)}});
}

base::Result<Journal> parse_journal(std::string_view text) {
  json::error_code error;
  const json::value document = json::parse({text.data(), text.size()}, error);
  if (error || !document.is_object()) return damaged("it is no JSON object");
  const json::object& object = document.get_object();
  const auto* version = object.if_contains("journal");
  if (version == nullptr || !version->is_int64() || version->get_int64() != kVersion) return damaged("it is of another version");
  const auto* source = object.if_contains("source");
  const auto* etag = object.if_contains("etag");
  const auto* ranges = object.if_contains("ranges");
  Journal journal;
  if (source == nullptr || !source->is_string() || etag == nullptr || !etag->is_string() || ranges == nullptr || !ranges->is_array() ||
      !read_natural(object.if_contains("total_bytes"), journal.total_bytes))
    return damaged("a part is missing");
  journal.source = std::string(source->get_string());
  journal.etag = std::string(etag->get_string());
  std::uint64_t end = 0;
  for (const json::value& item : ranges->get_array()) {
    Range range;
    if (!item.is_array() || item.get_array().size() != 2 || !read_natural(&item.get_array()[0], range.begin) ||
        !read_natural(&item.get_array()[1], range.end))
      return damaged("a range is none");
    if (range.begin >= range.end || (range.begin < end) || range.end > journal.total_bytes)
      return damaged("its ranges are not in order, or not of the file");
    end = range.end;
    journal.ranges.push_back(range);
  }
  return journal;
}

}  // namespace thaw::node::pull
