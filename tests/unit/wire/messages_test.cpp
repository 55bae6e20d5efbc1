#include "wire/messages.h"

#include <gtest/gtest.h>

#include "base/revision.h"
#include "spec/parse.h"

namespace thaw::wire {
namespace {

ImageInfo image() {
  return {base::ImageId("m-17"), base::ModelName("m"), DriverKind::runsc, 1'600'000, 1ULL << 30, 1'700'000'000};
}

void expect_same(const ImageInfo& a, const ImageInfo& b) {
  EXPECT_EQ(a.image, b.image);
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.driver, b.driver);
  EXPECT_EQ(a.bytes, b.bytes);
  EXPECT_EQ(a.device_bytes, b.device_bytes);
  EXPECT_EQ(a.created_unix_s, b.created_unix_s);
}

NodeHello hello() {
  NodeHello hello;
  hello.node = base::NodeName("node-1");
  hello.devices = {{base::DeviceId("cpu0"), spec::DeviceKind::cpu, "AMD EPYC \"x\"", "", 1ULL << 40, 1ULL << 39},
                   {base::DeviceId("cuda0"), spec::DeviceKind::cuda, "A100", "GPU-1234", ~0ULL, 5}};
  hello.drivers = {{DriverKind::freezer, spec::DeviceKind::cpu, true, false, ""},
                   {DriverKind::criu, spec::DeviceKind::cuda, false, false, "not installed; apt install criu", true}};
  hello.host_budget_bytes = 1ULL << 33;
  hello.image_budget_bytes = 1ULL << 34;
  hello.images = {image()};
  hello.host_cache = {1ULL << 35, 1ULL << 36};
  return hello;
}

StartInstance start() {
  StartInstance start;
  start.instance = base::InstanceId(~0ULL);
  start.device = base::DeviceId("cpu0");
  start.deadline = base::Millis(1'500);
  start.model.name = base::ModelName("m");
  start.model.source.path = "/models/m \xe2\x82\xac.gguf";
  start.model.args = {"-c", "512", "line\nline"};
  start.model.env = {{"A", "b"}};
  start.model.resources.device_memory_bytes = 123;
  return start;
}

InstanceReady ready() {
  return {base::InstanceId(7),
          "/run/thaw/7/engine.sock",
          {{"sandbox", base::Duration(0), base::Millis(3)}, {"load", base::Millis(3), base::Duration(1)}},
          Way::start,
          "image m-17: digest of pages.img differs",
          12'345,
          true,
          true};
}

InstanceDown down() {
  return {base::InstanceId(8), DownReason::out_of_memory, "signal 9 (Killed)", "line 1\nline 2\n"};
}

TEST(Messages, HelloComesBack) {
  const auto back = parse_hello(to_json(hello()));
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->node, hello().node);
  ASSERT_EQ(back->devices.size(), 2U);
  EXPECT_EQ(back->devices[0].name, "AMD EPYC \"x\"");
  EXPECT_EQ(back->devices[1].id.str(), "cuda0");
  EXPECT_EQ(back->devices[1].kind, spec::DeviceKind::cuda);
  EXPECT_EQ(back->devices[1].uuid, "GPU-1234");
  EXPECT_EQ(back->devices[1].total_bytes, ~0ULL);
  EXPECT_EQ(back->devices[1].budget_bytes, 5U);
  ASSERT_EQ(back->drivers.size(), 2U);
  EXPECT_EQ(back->drivers[0].driver, DriverKind::freezer);
  EXPECT_TRUE(back->drivers[0].standby);
  EXPECT_FALSE(back->drivers[0].snapshot);
  EXPECT_EQ(back->drivers[1].device, spec::DeviceKind::cuda);
  EXPECT_EQ(back->drivers[1].why_not, "not installed; apt install criu");
  EXPECT_TRUE(back->drivers[1].opt_in);
  EXPECT_FALSE(back->drivers[0].opt_in);
  EXPECT_EQ(back->host_budget_bytes, 1ULL << 33);
  EXPECT_EQ(back->image_budget_bytes, 1ULL << 34);
  ASSERT_EQ(back->images.size(), 1U);
  expect_same(back->images[0], image());
  EXPECT_EQ(back->host_cache.max_bytes, 1ULL << 35);
  EXPECT_EQ(back->host_cache.shared_bytes, 1ULL << 36);
  EXPECT_EQ(to_json(*back), to_json(hello()));
}

TEST(Messages, CommandsComeBack) {
  const auto started = parse_command(to_json(NodeCommand(start())));
  ASSERT_TRUE(started.ok()) << started.error().message;
  const auto& message = std::get<StartInstance>(*started);
  EXPECT_EQ(message.instance.value(), ~0ULL);
  EXPECT_EQ(message.device.str(), "cpu0");
  EXPECT_EQ(message.deadline, base::Millis(1'500));
  EXPECT_EQ(spec::to_json(message.model), spec::to_json(start().model));

  const auto stopped = parse_command(to_json(NodeCommand(StopInstance{base::InstanceId(3), base::Seconds(5)})));
  ASSERT_TRUE(stopped.ok()) << stopped.error().message;
  EXPECT_EQ(std::get<StopInstance>(*stopped).instance.value(), 3U);
  EXPECT_EQ(std::get<StopInstance>(*stopped).grace, base::Seconds(5));
}

TEST(Messages, AFailureDomainComesBackAndNeedNotBeThere) {
  NodeHello with = hello();
  with.domain = "rack1";
  with.drivers[0].gangs = true;
  const auto back = parse_hello(to_json(with));
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->domain, "rack1");
  EXPECT_TRUE(back->drivers[0].gangs);
  EXPECT_FALSE(back->drivers[1].gangs);
  EXPECT_EQ(parse_hello(to_json(hello()))->domain, "");
}

TEST(Messages, SayOfWhichRevisionAModelsEnginesAre) {
  StartInstance second = start();
  second.model.name = base::at_revision(second.model.name, 2);
  const auto back = parse_command(to_json(NodeCommand(second)));
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(std::get<StartInstance>(*back).model.name, second.model.name);
  std::string wrong = to_json(NodeCommand(second));
  wrong.replace(wrong.find("\"revision\":2"), 12, "\"revision\":1");
  EXPECT_FALSE(parse_command(wrong).ok());
}

TEST(Messages, CommandsForStandbyAndImagesComeBack) {
  StartInstance restore = start();
  restore.image = base::ImageId("m-17");
  EXPECT_EQ(std::get<StartInstance>(*parse_command(to_json(NodeCommand(restore)))).image.str(), "m-17");
  EXPECT_TRUE(std::get<StartInstance>(*parse_command(to_json(NodeCommand(start())))).image.empty());

  const auto freeze = parse_command(to_json(NodeCommand(FreezeInstance{base::InstanceId(4), base::Seconds(2)})));
  ASSERT_TRUE(freeze.ok()) << freeze.error().message;
  EXPECT_EQ(std::get<FreezeInstance>(*freeze).instance.value(), 4U);
  EXPECT_EQ(std::get<FreezeInstance>(*freeze).deadline, base::Seconds(2));

  const auto wake = parse_command(to_json(NodeCommand(WakeInstance{base::InstanceId(5), base::Seconds(3)})));
  ASSERT_TRUE(wake.ok()) << wake.error().message;
  EXPECT_EQ(std::get<WakeInstance>(*wake).instance.value(), 5U);
  EXPECT_EQ(std::get<WakeInstance>(*wake).deadline, base::Seconds(3));

  const auto drop = parse_command(to_json(NodeCommand(DropImage{base::ImageId("m-17")})));
  ASSERT_TRUE(drop.ok()) << drop.error().message;
  EXPECT_EQ(std::get<DropImage>(*drop).image.str(), "m-17");

  const auto forget = parse_command(to_json(NodeCommand(ForgetModel{base::TenantName("acme"), base::ModelName("m")})));
  ASSERT_TRUE(forget.ok()) << forget.error().message;
  EXPECT_EQ(std::get<ForgetModel>(*forget).tenant.str(), "acme");
  EXPECT_EQ(std::get<ForgetModel>(*forget).model.str(), "m");

  const auto load = parse_command(to_json(NodeCommand(LoadAdapter{base::InstanceId(6), base::ModelName("acme~tone"), base::Seconds(60)})));
  ASSERT_TRUE(load.ok()) << load.error().message;
  EXPECT_EQ(std::get<LoadAdapter>(*load).adapter.str(), "acme~tone");
  EXPECT_EQ(std::get<LoadAdapter>(*load).deadline, base::Seconds(60));
  const auto unload = parse_command(to_json(NodeCommand(UnloadAdapter{base::InstanceId(6), base::ModelName("tone")})));
  ASSERT_TRUE(unload.ok()) << unload.error().message;
  EXPECT_EQ(std::get<UnloadAdapter>(*unload).instance.value(), 6U);
  const auto loaded = parse_event(to_json(NodeEvent(AdapterLoaded{base::InstanceId(6), base::ModelName("tone"), "too large"})));
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(std::get<AdapterLoaded>(*loaded).error, "too large");

  const TakeSnapshot take{base::ImageId("m-18"),  base::InstanceId(18), start().model,
                          base::DeviceId("cpu0"), base::Seconds(60),    1ULL << 31};
  const auto back = parse_command(to_json(NodeCommand(take)));
  ASSERT_TRUE(back.ok()) << back.error().message;
  const auto& message = std::get<TakeSnapshot>(*back);
  EXPECT_EQ(message.image, take.image);
  EXPECT_EQ(message.instance, take.instance);
  EXPECT_EQ(message.device, take.device);
  EXPECT_EQ(message.deadline, take.deadline);
  EXPECT_EQ(message.max_bytes, take.max_bytes);
  EXPECT_EQ(spec::to_json(message.model), spec::to_json(take.model));
}

TEST(Messages, EventsOfStandbyAndImagesComeBack) {
  for (const DriverKind driver :
       {DriverKind::freezer, DriverKind::runsc, DriverKind::cuda, DriverKind::engine, DriverKind::criu}) {
    const InstanceStandby sent{base::InstanceId(4), driver, 1, 2, {{"page_out", base::Duration(0), base::Millis(7)}}};
    const auto received = parse_event(to_json(NodeEvent(sent)));
    ASSERT_TRUE(received.ok()) << received.error().message;
    const auto& standby = std::get<InstanceStandby>(*received);
    EXPECT_EQ(standby.instance.value(), 4U);
    EXPECT_EQ(standby.driver, driver);
    EXPECT_EQ(standby.held_host_bytes, 1U);
    EXPECT_EQ(standby.held_device_bytes, 2U);
    ASSERT_EQ(standby.phases.size(), 1U);
    EXPECT_EQ(standby.phases[0].name, "page_out");
  }
  for (const bool still_ready : {false, true}) {
    const auto failed =
        parse_event(to_json(NodeEvent(FreezeFailed{base::InstanceId(5), "bad \xff luck", still_ready})));
    ASSERT_TRUE(failed.ok()) << failed.error().message;
    EXPECT_EQ(std::get<FreezeFailed>(*failed).instance.value(), 5U);
    EXPECT_EQ(std::get<FreezeFailed>(*failed).reason, "bad ? luck");
    EXPECT_EQ(std::get<FreezeFailed>(*failed).still_ready, still_ready);
  }
  const auto taken = parse_event(to_json(
      NodeEvent(SnapshotTaken{base::InstanceId(6), image(), {{"checkpoint", base::Duration(1), base::Duration(2)}}})));
  ASSERT_TRUE(taken.ok()) << taken.error().message;
  EXPECT_EQ(std::get<SnapshotTaken>(*taken).instance.value(), 6U);
  expect_same(std::get<SnapshotTaken>(*taken).image, image());
  EXPECT_EQ(std::get<SnapshotTaken>(*taken).phases.at(0).duration, base::Duration(2));

  const auto failed = parse_event(
      to_json(NodeEvent(SnapshotFailed{base::InstanceId(6), base::ImageId("m-6"), base::ModelName("m"), "disk full"})));
  ASSERT_TRUE(failed.ok()) << failed.error().message;
  EXPECT_EQ(std::get<SnapshotFailed>(*failed).instance.value(), 6U);
  EXPECT_EQ(std::get<SnapshotFailed>(*failed).image.str(), "m-6");
  EXPECT_EQ(std::get<SnapshotFailed>(*failed).model.str(), "m");
  EXPECT_EQ(std::get<SnapshotFailed>(*failed).reason, "disk full");

  const auto gone = parse_event(to_json(NodeEvent(ImageGone{base::ImageId("m-6"), 99, "dropped"})));
  ASSERT_TRUE(gone.ok()) << gone.error().message;
  EXPECT_EQ(std::get<ImageGone>(*gone).image.str(), "m-6");
  EXPECT_EQ(std::get<ImageGone>(*gone).freed_bytes, 99U);
  EXPECT_EQ(std::get<ImageGone>(*gone).reason, "dropped");
}

TEST(Messages, EventsComeBack) {
  const auto back = parse_event(to_json(NodeEvent(ready())));
  ASSERT_TRUE(back.ok()) << back.error().message;
  const auto& message = std::get<InstanceReady>(*back);
  EXPECT_EQ(message.instance.value(), 7U);
  EXPECT_EQ(message.socket_path, "/run/thaw/7/engine.sock");
  ASSERT_EQ(message.phases.size(), 2U);
  EXPECT_EQ(message.phases[1].name, "load");
  EXPECT_EQ(message.phases[1].start, base::Millis(3));
  EXPECT_EQ(message.phases[1].duration, base::Duration(1));
  EXPECT_EQ(message.way, Way::start);
  EXPECT_EQ(message.fell_back, ready().fell_back);
  EXPECT_EQ(message.held_host_bytes, 12'345U);
  EXPECT_TRUE(message.copied_weights);
  EXPECT_TRUE(message.can_freeze);
  for (const Way way : {Way::wake, Way::restore, Way::start}) {
    InstanceReady sent = ready();
    sent.way = way;
    EXPECT_EQ(std::get<InstanceReady>(*parse_event(to_json(NodeEvent(sent)))).way, way);
  }

  for (const DownReason reason :
       {DownReason::stopped, DownReason::start_failed, DownReason::start_timeout, DownReason::crashed,
        DownReason::out_of_memory, DownReason::freeze_failed, DownReason::wake_failed}) {
    InstanceDown sent = down();
    sent.reason = reason;
    const auto received = parse_event(to_json(NodeEvent(sent)));
    ASSERT_TRUE(received.ok()) << received.error().message;
    EXPECT_EQ(std::get<InstanceDown>(*received).reason, reason);
    EXPECT_EQ(std::get<InstanceDown>(*received).detail, sent.detail);
    EXPECT_EQ(std::get<InstanceDown>(*received).log_tail, sent.log_tail);
  }

  const InstanceWeights sent{base::InstanceId(8), {"weights", base::Millis(1), base::Millis(700), PhaseBytes{2'000'000'000, 4096}}};
  const auto weights = parse_event(to_json(NodeEvent(sent)));
  ASSERT_TRUE(weights.ok()) << weights.error().message;
  EXPECT_EQ(std::get<InstanceWeights>(*weights).instance.value(), 8U);
  EXPECT_EQ(std::get<InstanceWeights>(*weights).phase.name, "weights");
  EXPECT_EQ(std::get<InstanceWeights>(*weights).phase.duration, base::Millis(700));
  EXPECT_EQ(std::get<InstanceWeights>(*weights).phase.bytes.value().read, 2'000'000'000U);
  EXPECT_EQ(std::get<InstanceWeights>(*weights).phase.bytes.value().resident, 4096U);

  const auto gone = parse_event(to_json(NodeEvent(InstanceGone{base::InstanceId(9)})));
  ASSERT_TRUE(gone.ok()) << gone.error().message;
  EXPECT_EQ(std::get<InstanceGone>(*gone).instance.value(), 9U);
}

FileStamp file(const char* path) {
  return {path, 1ULL << 50, ~0ULL, 7};
}

TEST(Messages, WhatIsSaidOfFilesComesBack) {
  const auto seen = parse_event(to_json(NodeEvent(FilesSeen{base::InstanceId(3), {file("/a"), file("/b")}})));
  ASSERT_TRUE(seen.ok()) << seen.error().message;
  EXPECT_EQ(std::get<FilesSeen>(*seen).instance.value(), 3U);
  EXPECT_EQ(std::get<FilesSeen>(*seen).files, (std::vector<FileStamp>{file("/a"), file("/b")}));

  const auto changed = parse_event(to_json(NodeEvent(FilesChanged{base::InstanceId(3), file("/a"), "it was written to", true})));
  ASSERT_TRUE(changed.ok()) << changed.error().message;
  EXPECT_EQ(std::get<FilesChanged>(*changed).file, file("/a"));
  EXPECT_EQ(std::get<FilesChanged>(*changed).detail, "it was written to");
  EXPECT_TRUE(std::get<FilesChanged>(*changed).gone);

  const auto hash = parse_command(to_json(NodeCommand(HashFile{9, "/a", true})));
  ASSERT_TRUE(hash.ok()) << hash.error().message;
  EXPECT_EQ(std::get<HashFile>(*hash).id, 9U);
  EXPECT_EQ(std::get<HashFile>(*hash).path, "/a");
  EXPECT_TRUE(std::get<HashFile>(*hash).urgent);

  for (const FileHashed& sent : {FileHashed{9, file("/a"), std::string(64, 'f'), ""}, FileHashed{9, file("/a"), "", "no such file"}}) {
    const auto back = parse_event(to_json(NodeEvent(sent)));
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(std::get<FileHashed>(*back).file, sent.file);
    EXPECT_EQ(std::get<FileHashed>(*back).sha256, sent.sha256);
    EXPECT_EQ(std::get<FileHashed>(*back).error, sent.error);
  }
  EXPECT_FALSE(parse_event(to_json(NodeEvent(FileHashed{9, file("/a"), "", ""}))).ok());
  EXPECT_FALSE(parse_event(to_json(NodeEvent(FileHashed{9, file("/a"), std::string(65, 'f'), ""}))).ok());
}

TEST(FileStamps, SayHowTheyDiffer) {
  const FileStamp before = file("/a");
  EXPECT_EQ(describe_change(before, before), "");
  FileStamp now = before;
  now.mtime_ns = 1;
  EXPECT_EQ(describe_change(before, now), "it was written to");
  now.inode = 8;
  EXPECT_EQ(describe_change(before, now), "another file was put in its place");
  now.bytes = 5;
  EXPECT_EQ(describe_change(before, now), "its size went from 1125899906842624 to 5 bytes");
}

TEST(Messages, OrdersAndNewsOfTheHostCacheComeBack) {
  const auto look = parse_command(to_json(NodeCommand(LookAtWeights{"/models/m \xe2\x82\xac.gguf"})));
  ASSERT_TRUE(look.ok()) << look.error().message;
  EXPECT_EQ(std::get<LookAtWeights>(*look).source, "/models/m \xe2\x82\xac.gguf");
  const auto evict = parse_command(to_json(NodeCommand(EvictWeights{"/m.gguf", ~0ULL})));
  ASSERT_TRUE(evict.ok()) << evict.error().message;
  EXPECT_EQ(std::get<EvictWeights>(*evict).source, "/m.gguf");
  EXPECT_EQ(std::get<EvictWeights>(*evict).keep_bytes, ~0ULL);

  const auto state = parse_event(to_json(NodeEvent(WeightsState{base::NodeName("n"), "/m.gguf", 4, 3, false, 2})));
  ASSERT_TRUE(state.ok()) << state.error().message;
  const auto& found = std::get<WeightsState>(*state);
  EXPECT_EQ(found.node.str(), "n");
  EXPECT_EQ(found.source, "/m.gguf");
  EXPECT_EQ(found.weights_bytes, 4U);
  EXPECT_EQ(found.resident_bytes, 3U);
  EXPECT_FALSE(found.resident_known);
  EXPECT_EQ(found.read_bytes_per_s, 2U);

  const auto evicted = parse_event(to_json(NodeEvent(WeightsEvicted{base::NodeName("n"), "/m.gguf", 5, 6, "in use\xff"})));
  ASSERT_TRUE(evicted.ok()) << evicted.error().message;
  const auto& left = std::get<WeightsEvicted>(*evicted);
  EXPECT_EQ(left.node.str(), "n");
  EXPECT_EQ(left.freed_bytes, 5U);
  EXPECT_EQ(left.resident_bytes, 6U);
  EXPECT_EQ(left.why_left, "in use?");
}

TEST(Messages, LogsOfAnyBytesAndLengthGetThrough) {
  InstanceDown sent = down();
  sent.log_tail = std::string(3'000, 'x') + std::string("\xff\0\xe2\x82 end", 8);
  sent.detail = "\xc3";
  const auto back = parse_event(to_json(NodeEvent(sent)));
  ASSERT_TRUE(back.ok()) << back.error().message;
  const std::string& tail = std::get<InstanceDown>(*back).log_tail;
  EXPECT_EQ(tail.size(), 2'048U);
  EXPECT_TRUE(tail.ends_with(std::string("x?\0?? end", 9))) << tail;
  EXPECT_EQ(std::get<InstanceDown>(*back).detail, "?");
}

std::string command_error(std::string_view text) {
  const auto result = parse_command(text);
  return result.ok() ? "(no error)" : result.error().message;
}

std::string event_error(std::string_view text) {
  const auto result = parse_event(text);
  return result.ok() ? "(no error)" : result.error().message;
}

std::string hello_error(std::string_view text) {
  const auto result = parse_hello(text);
  return result.ok() ? "(no error)" : result.error().message;
}

TEST(MessageErrors, NameTheFieldAndTheProblem) {
  EXPECT_EQ(command_error("[]"), "command: must be an object");
  EXPECT_EQ(command_error("{}"), "command.type: is missing");
  EXPECT_EQ(command_error(R"({"type":5})"), "command.type: must be a string");
  EXPECT_EQ(command_error(R"({"type":"instance_gone","instance":1})"), "command.type: \"instance_gone\" is unknown");
  EXPECT_EQ(command_error(R"({"type":"stop_instance"})"), "stop_instance.instance: is missing");
  EXPECT_EQ(command_error(R"({"type":"stop_instance","instance":0,"grace_ns":1})"),
            "stop_instance.instance: must not be 0");
  for (const char* number : {"-1", "1.5", "1e3", "18446744073709551616", "\"1\"", "null", "true"})
    EXPECT_EQ(command_error(R"({"type":"stop_instance","instance":)" + std::string(number) + R"(,"grace_ns":1})"),
              "stop_instance.instance: must be a whole number from 0 to 2^64 - 1");
  EXPECT_EQ(command_error(R"({"type":"stop_instance","instance":1,"grace_ns":9223372036854775808})"),
            "stop_instance.grace_ns: is longer than 2^63 - 1 nanoseconds");
  EXPECT_EQ(command_error(R"({"type":"stop_instance","instance":1,"grace_ns":1,"force":true})"),
            "stop_instance.force: unknown field");
  EXPECT_EQ(event_error(R"({"type":"instance_down","instance":1,"reason":"bored","detail":"","log_tail":""})"),
            "instance_down.reason: is unknown");
  EXPECT_EQ(event_error(R"({"type":"instance_down","instance":1,"reason":"crashed","detail":"","log_tail":")" +
                        std::string(2'049, 'x') + "\"}"),
            "instance_down.log_tail: is longer than 2048 bytes");
  EXPECT_EQ(
      event_error(R"({"type":"instance_ready","instance":1,"socket_path":"/s","phases":[{"name":"a","start_ns":1}]})"),
      "instance_ready.phases[0].duration_ns: is missing");
  EXPECT_EQ(event_error(R"({"type":"instance_weights","instance":1,"phase":{"name":"weights","start_ns":1,"duration_ns":1}})"),
            "instance_weights.phase.read_bytes: is missing");
  EXPECT_EQ(event_error(R"({"type":"instance_weights","instance":1,"phase":{"name":"weights","start_ns":1,"duration_ns":1,"read_bytes":5}})"),
            "instance_weights.phase.resident_bytes: is missing");
  EXPECT_EQ(event_error(R"({"type":"instance_weights","instance":1,"phase":7})"), "instance_weights.phase: must be an object");
  EXPECT_EQ(event_error(R"({"type":"instance_ready","instance":1,"socket_path":"/s","phases":{}})"),
            "instance_ready.phases: must be an array");
  EXPECT_EQ(hello_error(R"({"type":"instance_gone","instance":1})"), "hello.type: is \"instance_gone\"");
  EXPECT_EQ(hello_error(R"({"type":"hello","node":"","devices":[]})"), "hello.node: is empty");
  EXPECT_EQ(hello_error(R"({"type":"hello","node":"n","devices":[5]})"), "hello.devices[0]: must be an object");
  EXPECT_EQ(
      hello_error(
          R"({"type":"hello","node":"n","devices":[{"id":"a","kind":"cpu","name":"","uuid":"","total_bytes":1,"budget_bytes":2}]})"),
      "hello.devices[0].budget_bytes: is more than total_bytes");
}

TEST(MessageErrors, AnImageIdIsAPlainFileName) {
  for (const char* id : {"", ".", "..", ".a", "a/b", "../a", "A", "a b", "a\\u0000"})
    EXPECT_EQ(command_error(R"({"type":"drop_image","image":")" + std::string(id) + "\"}"),
              "drop_image.image: must be 1 to 128 of [a-z0-9._~@-] and not begin with a dot");
  EXPECT_EQ(command_error(R"({"type":"drop_image","image":")" + std::string(129, 'a') + "\"}"),
            "drop_image.image: must be 1 to 128 of [a-z0-9._~@-] and not begin with a dot");
  EXPECT_EQ(command_error(R"({"type":"drop_image","image":")" + std::string(128, 'a') + "\"}"), "(no error)");
  EXPECT_EQ(event_error(R"({"type":"freeze_failed","instance":1,"reason":"","still_ready":1})"),
            "freeze_failed.still_ready: must be true or false");
  EXPECT_EQ(event_error(R"({"type":"snapshot_taken","instance":1,"image":{"image":"a"},"phases":[]})"),
            "snapshot_taken.image.model: is missing");
  EXPECT_EQ(event_error(R"({"type":"snapshot_taken","instance":1,"image":"a","phases":[]})"),
            "snapshot_taken.image: must be an object");
}

TEST(MessageErrors, ChecksTheSpecInside) {
  StartInstance without_memory = start();
  without_memory.model.resources.device_memory_bytes.reset();
  EXPECT_EQ(command_error(to_json(NodeCommand(without_memory))),
            "start_instance.model: spec.resources.deviceMemory: missing; a controller always sets it");
  StartInstance wrong = start();
  wrong.model.scaling.max_replicas = 0;
  EXPECT_EQ(command_error(to_json(NodeCommand(wrong))),
            "start_instance.model: spec.scaling.maxReplicas: 0 is out of range; give 1 to 1000");
}

TEST(MessageErrors, NameAllDevicesOfAReplicaThatTakesSeveral) {
  StartInstance gang = start();
  gang.device = base::DeviceId("cuda1");
  EXPECT_EQ(gang.all_devices(), std::vector{gang.device});
  EXPECT_EQ(to_json(NodeCommand(gang)).find("\"devices\":[\""), std::string::npos);  // one is said as ever
  gang.devices = {base::DeviceId("cuda1"), base::DeviceId("cuda3")};
  const auto back = parse_command(to_json(NodeCommand(gang)));
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(std::get<StartInstance>(*back).all_devices(), gang.devices);
  gang.devices = {base::DeviceId("cuda3"), base::DeviceId("cuda1")};
  EXPECT_EQ(command_error(to_json(NodeCommand(gang))), "start_instance.devices: must begin with the one in device");
  gang.devices = {base::DeviceId("cuda1"), base::DeviceId("cuda1")};
  EXPECT_EQ(command_error(to_json(NodeCommand(gang))), "start_instance.devices: names one twice");
  gang.devices = {base::DeviceId("cuda1"), base::DeviceId("")};
  EXPECT_EQ(command_error(to_json(NodeCommand(gang))), "start_instance.devices: must be an array of names");
}

TEST(MessageErrors, BoundWhatIsRead) {
  EXPECT_EQ(command_error(std::string((2U << 20) + 1, ' ')), "command: 2097153 bytes; at most 2097152 are read");
  EXPECT_TRUE(command_error(std::string(1'000, '[')).starts_with("command: no JSON: "))
      << command_error(std::string(1'000, '['));
  EXPECT_TRUE(command_error("{\"type\":\"\xff\"}").starts_with("command: no JSON: "));
  std::string phases;
  for (int i = 0; i < 65; ++i)
    phases += std::string(i == 0 ? "" : ",") + R"({"name":"a","start_ns":1,"duration_ns":1})";
  EXPECT_EQ(event_error(R"({"type":"instance_ready","instance":1,"socket_path":"/s","phases":[)" + phases + "]}"),
            "instance_ready.phases: has more than 64 elements");
}

// Every cut and every changed byte of every message is refused or read; the sanitisers watch.
TEST(MessageErrors, SurviveDamagedText) {
  for (const std::string& text :
       {to_json(hello()), to_json(NodeCommand(start())), to_json(NodeEvent(ready())), to_json(NodeEvent(down())),
        to_json(NodeEvent(FilesChanged{base::InstanceId(3), file("/a"), "x", false})),
        to_json(NodeEvent(SnapshotTaken{base::InstanceId(6), image(), {}}))}) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const std::string_view cut = std::string_view(text).substr(0, i);
      EXPECT_FALSE(parse_hello(cut).ok() || parse_command(cut).ok() || parse_event(cut).ok()) << cut;
      for (const char byte : {'\0', '"', '}', ']', '9', '-', '\\', '\xff'}) {
        std::string changed = text;
        changed[i] = byte;
        for (const std::string& message : {hello_error(changed), command_error(changed), event_error(changed)})
          EXPECT_FALSE(message.empty());
      }
    }
  }
}

}  // namespace
}  // namespace thaw::wire
