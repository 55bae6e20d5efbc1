// A stand-in for libllama.so with the functions that libthaw_lazy_map.so knows of. Its batch is larger than what that library was compiled with.
#include <stdlib.h>
#include <string.h>

#include "llama.h"

static int g_decoded;
static long g_sum;

const void *llama_get_model(const void *context) { return context; }

int32_t llama_model_meta_val_str(const void *model, const char *key, char *buffer, size_t bytes) {
  if (strcmp(key, "general.architecture") != 0) abort();
  strncpy(buffer, (const char *)model, bytes);
  return (int32_t)strlen((const char *)model);
}

int32_t llama_decode(void *context, struct llama_batch batch) {
  ++g_decoded;
  g_sum = (long)strlen(context) * 1000 + batch.n_tokens * 100 + batch.tail[7];
  return 7;
}

int fake_decoded(void) { return g_decoded; }
long fake_sum(void) { return g_sum; }
