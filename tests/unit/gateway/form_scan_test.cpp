#include "gateway/form_scan.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace thaw::gateway {
namespace {

constexpr const char* kType = "multipart/form-data; boundary=XX";

std::string form(const std::vector<std::pair<std::string, std::string>>& parts) {
  std::string body;
  for (const auto& [head, value] : parts) body += "--XX\r\n" + head + "\r\n\r\n" + value + "\r\n";
  return body + "--XX--\r\n";
}

std::string field(const std::string& name) { return "Content-Disposition: form-data; name=\"" + name + "\""; }

std::string refusal(const std::string& body, const std::string& type = kType) {
  const auto facts = scan_form(body, type);
  return facts.ok() ? "taken" : facts.error().message;
}

TEST(FormScan, FindsModelAndStreamWhereverTheyStand) {
  const std::string file(100'000, '\0');
  for (const auto& parts : std::vector<std::vector<std::pair<std::string, std::string>>>{
           {{field("model"), "whisper"}, {field("file") + "; filename=\"a.wav\"\r\nContent-Type: audio/wav", file}, {field("stream"), "true"}},
           {{field("file") + "; filename=\"model\"", file}, {field("stream"), "true"}, {field("model"), "whisper"}}}) {
    const auto facts = scan_form(form(parts), kType);
    ASSERT_TRUE(facts.ok()) << facts.error().message;
    EXPECT_EQ(facts->model, "whisper");
    EXPECT_TRUE(facts->stream);
  }
  EXPECT_FALSE(scan_form(form({{field("model"), "m"}, {field("stream"), "false"}}), kType)->stream);
}

TEST(FormScan, ReadsHeadersAsOthersWriteThem) {
  const std::string body = form({{"content-type: text/plain\r\ncontent-disposition:form-data;  NAME=model", "m"}});
  for (const char* type : {"multipart/form-data; boundary=XX", "Multipart/Form-Data;charset=utf-8;boundary=\"XX\"", "multipart/form-data ; Boundary=XX "}) {
    const auto facts = scan_form(body, type);
    ASSERT_TRUE(facts.ok()) << type << ": " << facts.error().message;
    EXPECT_EQ(facts->model, "m");
  }
  EXPECT_EQ(scan_form("a preamble\r\n" + form({{field("model"), "m"}}), kType)->model, "m");
}

TEST(FormScan, AFileMayHoldAnythingButTheBoundary) {
  const std::string file = "\r\n--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nother\r\n--";
  EXPECT_EQ(scan_form(form({{field("file"), file}, {field("model"), "m"}}), kType)->model, "m");
  EXPECT_EQ(scan_form(form({{field("empty"), ""}, {field("model"), "m"}}), kType)->model, "m");
}

TEST(FormScan, RefusalsSayWhatIsWrong) {
  EXPECT_NE(refusal(form({{field("file"), "x"}})).find("the field \"model\" is missing"), std::string::npos);
  EXPECT_NE(refusal(form({{field("model"), ""}})).find("the field \"model\" is missing"), std::string::npos);
  EXPECT_NE(refusal("{}", "application/json").find("must be multipart/form-data"), std::string::npos);
  EXPECT_NE(refusal("--XX--", "multipart/form-data").find("must name the boundary"), std::string::npos);
  EXPECT_NE(refusal("--XX--", "multipart/form-data; boundary=" + std::string(71, 'X')).find("must name the boundary"), std::string::npos);
  EXPECT_NE(refusal("nothing", kType).find("is not in it"), std::string::npos);
  EXPECT_NE(refusal("--XX\r\n" + field("model") + "\r\n\r\nm").find("does not end"), std::string::npos);
  EXPECT_NE(refusal("--XX\r\n" + field("model")).find("without an end of its headers"), std::string::npos);
  EXPECT_NE(refusal("--XX junk\r\n").find("not followed by a new line"), std::string::npos);
  EXPECT_NE(refusal("--XX").find("malformed"), std::string::npos);
  EXPECT_NE(refusal("").find("is not in it"), std::string::npos);
  std::vector<std::pair<std::string, std::string>> many(65, {field("x"), "1"});
  EXPECT_NE(refusal(form(many)).find("more than 64 parts"), std::string::npos);
  EXPECT_NE(refusal("--XX\r\nx: " + std::string(5000, 'a') + "\r\n\r\n1\r\n--XX--").find("without an end of its headers"), std::string::npos);
}

TEST(FormScan, WhateverIsCutOffIsRefusedOrTaken) {
  const std::string whole = form({{field("file") + "; filename=\"a\\\"b\"", "abc"}, {field("model"), "m"}});
  std::size_t taken = 0;
  for (std::size_t size = 0; size <= whole.size(); ++size) taken += scan_form(whole.substr(0, size), kType).ok() ? 1U : 0U;
  EXPECT_EQ(taken, 3U) << "whole, and without the line's end behind it";
}

}  // namespace
}  // namespace thaw::gateway
