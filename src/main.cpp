#include <iostream>

#include "cli/app.h"

int main(int argc, char** argv) {
  const thaw::cli::Environment environment = thaw::cli::process_environment();
  thaw::cli::Context context{std::cout,
                             std::cerr,
                             thaw::cli::detect_terminal(environment),
                             environment,
                             thaw::cli::run_serve,
                             thaw::node::examine_host};
  return thaw::cli::run_cli({argv + 1, argv + argc}, context);
}
