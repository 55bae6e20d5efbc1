// decode ARCHITECTURE TOKEN TOKEN positions|none: one llama_decode() as a program that links libllama makes it. Prints what it returned, how many
// calls reached the library, and what of the arguments arrived there.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int32_t tokens[2] = {atoi(argv[2]), atoi(argv[3])};
  int32_t positions[2] = {0, 1};
  struct llama_batch batch = {.n_tokens = 2, .token = tokens, .pos = strcmp(argv[4], "positions") == 0 ? positions : NULL, .tail = {[7] = 42}};
  const int returned = llama_decode(argv[1], batch);
  printf("returned %d, decoded %d, saw %ld\n", returned, fake_decoded(), fake_sum());
  return 0;
}
