#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

namespace thaw::node::pull {

/// The problem: who may name an URL that the server fetches may so reach what only the server reaches: its own ports, the
/// cloud's metadata service, the machines of its network. A name proves nothing, since whoever owns it says where it
/// leads, and may say something else a moment later: so the very address that is being connected to is asked. Pure.

/// Whether anybody on the internet could reach it too: none of the special ranges of IANA's registries (RFC 6890 and its
/// successors), nor what carries an IPv4 address of them inside. What is no IPv4 or IPv6 address is not public.
bool is_public(const sockaddr& address);

/// "10.0.0.1", "fe80::1"; "?" for other families.
std::string format_address(const sockaddr& address);

}  // namespace thaw::node::pull
