# Standard, warnings, sanitisers, ccache: what every target of the project shares.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

set(THAW_SANITIZE "" CACHE STRING "address,undefined or thread")
if(THAW_SANITIZE)
  add_compile_options(-fsanitize=${THAW_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1)
  add_link_options(-fsanitize=${THAW_SANITIZE})
endif()

# Saves a part of the time of a build from nothing. Not by default: what is compiled with such a header is found in ccache by the same
# directory alone, which costs whoever works in several.
option(THAW_PRECOMPILE "compile the headers that nearly every file has once a component" OFF)
function(thaw_precompile target sources)
  list(LENGTH sources count)
  if(THAW_PRECOMPILE AND count GREATER 3)
    target_precompile_headers(${target} PRIVATE
      <algorithm> <atomic> <chrono> <condition_variable> <coroutine> <cstdint> <deque> <filesystem> <functional> <map> <memory> <mutex> <optional> <set> <span>
      <string> <string_view> <thread> <unordered_map> <unordered_set> <utility> <variant> <vector> <fmt/format.h>)
    if(target MATCHES "^unit-")
      target_precompile_headers(${target} PRIVATE <gtest/gtest.h>)
    endif()
  endif()
endfunction()

# Interface library: warnings are errors for our own code only, never for a library's headers.
add_library(thaw_warnings INTERFACE)
target_compile_options(thaw_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Wcast-align -Woverloaded-virtual -Wnull-dereference -Wimplicit-fallthrough
  # g++ 12 gives false alarms on optimised std::string, std::variant and coroutine code.
  -Wno-restrict -Wno-stringop-overflow -Wno-maybe-uninitialized -Wno-null-dereference -Wno-array-bounds -Wno-stringop-overread)
