#include "cli/context.h"

namespace thaw::cli {

base::Result<Client> Context::client() const {
  THAW_ASSIGN_OR_RETURN(Credentials credentials, find_credentials(environment));
  return Client(std::move(credentials), tenant);
}

base::Result<std::string> Context::call(const HttpRequest& request) const {
  THAW_ASSIGN_OR_RETURN(const Client server, client());
  THAW_ASSIGN_OR_RETURN(HttpResponse response, server.send(request));
  return std::move(response.body);
}

int Context::fail(const base::Error& error) const {
  out.flush();
  err << styled("thaw:", Style::red, terminal.colours && terminal.err_is_terminal) << ' ' << error.message << '\n';
  return exit_code_for(error.kind);
}

int Context::print_json(std::string_view body) const {
  while (body.ends_with('\n')) body.remove_suffix(1);
  out << body << '\n';
  return kExitOk;
}

}  // namespace thaw::cli
