#include "controller/replica.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace thaw::controller {

void Replica::rises(wire::Way way, std::string why, base::TimePoint now) {
  stage_ = Stage::rising;
  way_ = way;
  why_ = std::move(why);
  ordered_at_ = now;
  phases_.clear();  // those of another way up
  lose_adapters();
}

std::shared_ptr<AdapterLoad> Replica::adapter(const base::ModelName& name) const {
  const auto found = adapters_.find(name);
  return found == adapters_.end() ? nullptr : found->second;
}

std::shared_ptr<AdapterLoad> Replica::loads(const base::ModelName& name) {
  auto& load = adapters_[name];
  load = std::make_shared<AdapterLoad>();
  return load;
}

void Replica::adapter_loaded(const base::ModelName& name, const std::string& error) {
  const auto found = adapters_.find(name);
  if (found == adapters_.end()) return;
  const std::shared_ptr<AdapterLoad> load = found->second;
  if (!error.empty()) adapters_.erase(found);
  load->end(error.empty() ? AdapterLoad::State::loaded : AdapterLoad::State::failed, error);
}

/// What an engine had before it slept or ended, it has no more.
void Replica::lose_adapters() {
  for (const auto& [name, load] : std::exchange(adapters_, {})) load->end(AdapterLoad::State::replica_lost, "the replica ended");
}

void Replica::freezes(base::TimePoint now) {
  stage_ = Stage::freezing;
  ordered_at_ = now;
  idle_.clear();
}

void Replica::became_ready(const wire::InstanceReady& event, base::TimePoint now) {
  const auto endpoint = base::parse_endpoint(event.socket_path);
  auto dialer = endpoint.ok() ? net::Dialer::open(*endpoint) : endpoint.error();
  dialer_.reset();
  address_error_.reset();
  if (dialer.ok())
    dialer_.emplace(std::move(dialer).value());
  else
    address_error_ = dialer.error();
  phases_.insert(phases_.end(), event.phases.begin(), event.phases.end());
  if (way_ == wire::Way::restore && event.way == wire::Way::start) {
    way_ = wire::Way::start;
    why_ += "; not restored: " + event.fell_back;
  }
  stage_ = Stage::ready;
  ready_at_ = now;
  unclaimed_start_ = now - ordered_at_;
}

void Replica::close() {
  stage_ = Stage::ended;
  closed_ = true;
  idle_.clear();
}

void Replica::cut() {
  close();
  lose_adapters();
  for (const auto& given : given_)
    if (const SocketPtr socket = given.lock()) ::shutdown(socket->fd(), SHUT_RDWR);
}

base::Result<Replica::Connection> Replica::connect(net::Loop& loop) {
  while (!idle_.empty()) {
    SocketPtr socket = std::move(idle_.back());
    idle_.pop_back();
    socket->on_hang_up(nullptr);
    if (!socket->hung_up()) return Connection{std::move(socket), true};
  }
  return connect_fresh(loop);
}

base::Result<Replica::Connection> Replica::connect_fresh(net::Loop& loop) {
  if (!dialer_) return address_error_.value_or(base::Error{base::ErrorKind::internal, "the replica is not ready"});
  THAW_ASSIGN_OR_RETURN(SocketPtr socket, net::connect(loop, *dialer_));
  if (given_.size() >= sweep_at_) {
    std::erase_if(given_, [](const auto& given) { return given.expired(); });
    sweep_at_ = std::max(kMaxIdle, given_.size() * 2);
  }
  given_.push_back(socket);
  return Connection{std::move(socket), false};
}

void Replica::keep(SocketPtr socket) {
  if (closed_ || stage_ != Stage::ready || idle_.size() >= kMaxIdle || socket->hung_up()) return;
  socket->clear_deadline();
  net::Socket* raw = socket.get();
  // The engine closes idle connections in its own time; the handler runs inside the socket's own event, so it must not be destroyed before
  // that returns: connect() passes over it by hung_up(), and here only the dead ones of before are swept out.
  socket->on_hang_up([this, raw] {
    std::erase_if(idle_, [raw](const auto& s) { return s.get() != raw && s->hung_up(); });
  });
  idle_.push_back(std::move(socket));
}

}  // namespace thaw::controller
