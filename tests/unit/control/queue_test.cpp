#include "control/priority.h"
#include "control/queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace thaw::control {

namespace {

class QueueTest : public testing::Test {
 protected:
  Request& add(std::uint64_t id, const std::string& tenant, int deadline_s = 100, spec::Priority priority = spec::Priority::normal, double weight = 1) {
    Request& r = requests_.emplace_back();
    r.id = base::RequestId(id);
    r.tenant = base::TenantName(tenant);
    r.deadline = base::TimePoint{} + base::Seconds(deadline_s);
    r.priority = priority;
    queue_.push(r, weight);
    return r;
  }
  std::vector<std::uint64_t> serve_all() {
    std::vector<std::uint64_t> order;
    while (!queue_.empty()) {
      Request* r = queue_.first_retried() != nullptr ? queue_.first_retried() : queue_.first_fair();
      queue_.take(*r);
      order.push_back(r->id.value());
    }
    return order;
  }

  std::list<Request> requests_;
  FairQueue queue_;
};

using Ids = std::vector<std::uint64_t>;

}  // namespace

TEST_F(QueueTest, tenants_take_turns) {
  for (std::uint64_t id = 1; id <= 4; ++id) add(id, "big");
  add(5, "small");
  add(6, "small");
  add(7, "other");
  EXPECT_EQ(serve_all(), (Ids{1, 5, 7, 2, 6, 3, 4}));
}

TEST_F(QueueTest, a_tenant_that_was_served_goes_behind_one_that_comes_later) {
  add(1, "a");
  add(2, "a");
  queue_.take(*queue_.first_fair());
  add(3, "b");
  add(4, "b");
  EXPECT_EQ(serve_all(), (Ids{2, 3, 4}));  // a was in line first
}

TEST_F(QueueTest, turns_are_by_weight) {
  for (std::uint64_t id = 1; id <= 6; ++id) add(id, "twice", 100, spec::Priority::normal, 2);
  for (std::uint64_t id = 11; id <= 13; ++id) add(id, "once");
  EXPECT_EQ(serve_all(), (Ids{1, 11, 2, 3, 12, 4, 5, 13, 6}));
}

TEST_F(QueueTest, a_tenants_own_go_by_priority_which_counts_as_waiting) {
  Request& low = add(1, "a", 100, spec::Priority::low);
  add(2, "a");
  add(3, "a", 100, spec::Priority::high);
  add(4, "b", 100, spec::Priority::low);
  EXPECT_EQ(queue_.highest(spec::Priority::low), spec::Priority::high);
  EXPECT_EQ(serve_all(), (Ids{3, 4, 2, 1}));
  EXPECT_EQ(queue_.highest(spec::Priority::low), spec::Priority::low);
  low.queued_at = base::TimePoint{};
  queue_.push(low);
  Request& late = add(5, "a", 100, spec::Priority::high);
  queue_.remove(late);
  late.queued_at = base::TimePoint{} + 2 * kLevelWaits + base::Millis(1);  // two levels, and it came later by more
  queue_.push(late);
  EXPECT_EQ(serve_all(), (Ids{1, 5}));
}

TEST_F(QueueTest, one_that_leaves_uses_up_nobodys_turn) {
  Request& first = add(1, "a");
  add(2, "a");
  add(3, "b");
  queue_.remove(first);
  EXPECT_EQ(queue_.size(), 2U);
  EXPECT_EQ(serve_all(), (Ids{2, 3}));
}

TEST_F(QueueTest, retried_requests_go_first_in_their_order) {
  add(1, "a");
  Request& second = add(2, "b");
  Request& third = add(3, "b");
  for (Request* r : {&third, &second}) {
    queue_.take(*r);
    queue_.push_retried(*r);
  }
  EXPECT_EQ(serve_all(), (Ids{3, 2, 1}));
}

TEST_F(QueueTest, the_earliest_deadline_is_known_whatever_the_order) {
  EXPECT_EQ(queue_.earliest_deadline(), base::never());
  EXPECT_EQ(queue_.overdue(base::never()), nullptr);
  add(1, "a", 30);
  Request& soon = add(2, "b", 10);
  add(3, "a", 20);
  EXPECT_EQ(queue_.earliest_deadline(), soon.deadline);
  EXPECT_EQ(queue_.overdue(soon.deadline - base::Duration(1)), nullptr);
  EXPECT_EQ(queue_.overdue(soon.deadline), &soon);
  queue_.remove(soon);
  EXPECT_EQ(queue_.earliest_deadline(), base::TimePoint{} + base::Seconds(20));
}

}  // namespace thaw::control
