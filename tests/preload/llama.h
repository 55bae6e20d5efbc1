#pragma once
#include <stddef.h>
#include <stdint.h>

/// llama.cpp's, and something more at its end, as a later release may have.
struct llama_batch {
  int32_t n_tokens;
  int32_t *token;
  float *embd;
  int32_t *pos;
  int32_t *n_seq_id;
  int32_t **seq_id;
  int8_t *logits;
  long tail[8];
};

int32_t llama_decode(void *context, struct llama_batch batch);
int fake_decoded(void);
long fake_sum(void);
