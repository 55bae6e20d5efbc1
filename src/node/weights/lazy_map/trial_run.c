// llama_decode() of libthaw_lazy_map.so: the trial run of llama-server is left out.
//
// The problem: before it is ready, llama-server decodes two tokens (both 0) over the whole model, for one question only: can the end of a sequence be
// removed from this model's memory (common_context_can_seq_rm in llama.cpp's common/common.cpp)? That is a warm-up by another name. It goes through every
// layer, so with weights that are still coming in it waits for the last byte, and the first prompt goes through all layers once more, after it.
//
// For the architectures below the answer is known: their memory is a plain key-value cache (or two, one with a window), from which tokens can be removed.
// So their trial run is answered with "done" and nothing is computed: the first prompt follows the weights as they come in. Every other call, every other
// architecture, and every engine that has not the functions this needs, goes to the engine's own llama_decode().
//
// The trial run is known by its batch, which no request's looks like: two tokens, both 0, and no positions (the server always gives positions).
//
// Only programs that link libllama as a shared library come by here; in others the name is bound before this library is asked. No libc: dlsym is taken
// from whatever libc the program has, and where it has none that exports it, nothing is left out.

#include <stddef.h>
#include <stdint.h>

/// The beginning of llama.cpp's llama_batch, which is passed by value. What follows may grow from release to release: it is never copied here.
struct batch_head {
  int32_t n_tokens;
  const int32_t *token;
  const float *embd;
  const int32_t *pos;
};

void *dlsym(void *handle, const char *name) __attribute__((weak));

static void *const kDefault = (void *)0;  // RTLD_DEFAULT
static void *const kNext = (void *)-1L;   // RTLD_NEXT

// Names of general.architecture whose llama_model::create_memory() is llama_kv_cache or llama_kv_cache_iswa, and nothing else, in the pinned release.
static const char *const kKnown[] = {"llama",  "qwen2",  "qwen2moe", "qwen3",  "qwen3moe", "gemma",    "gemma2",  "gemma3",
                                     "phi2",   "phi3",   "granite",  "olmo2",  "smollm3",  "starcoder2", "gpt-oss", "stablelm"};

static int same(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

static int is_known(const void *context) {
  typedef const void *(*get_model)(const void *);
  typedef int32_t (*meta_value)(const void *, const char *, char *, size_t);
  const get_model model_of = (get_model)dlsym(kDefault, "llama_get_model");
  const meta_value value_of = (meta_value)dlsym(kDefault, "llama_model_meta_val_str");
  if (model_of == NULL || value_of == NULL) return 0;
  char name[32];
  const int32_t length = value_of(model_of(context), "general.architecture", name, sizeof(name));
  if (length <= 0 || length >= (int32_t)sizeof(name)) return 0;
  for (size_t i = 0; i < sizeof(kKnown) / sizeof(kKnown[0]); ++i)
    if (same(name, kKnown[i])) return 1;
  return 0;
}

/// Where a call goes on: NULL, it is a trial run that need not be; else the engine's own function.
__attribute__((used, visibility("hidden"))) void *thaw_decode_of(const void *context, const struct batch_head *batch) {
  static void *own;  // the same for whoever asks: threads that write it at once write the same
  void *found = __atomic_load_n(&own, __ATOMIC_RELAXED);
  if (found == NULL) {
    found = dlsym == NULL ? NULL : dlsym(kNext, "llama_decode");
    if (found == NULL) __builtin_trap();  // somebody called what nobody has: the dynamic linker had let no such program start
    __atomic_store_n(&own, found, __ATOMIC_RELAXED);
  }
  const int trial = batch->n_tokens == 2 && batch->token != NULL && batch->pos == NULL && batch->embd == NULL && batch->token[0] == 0 && batch->token[1] == 0;
  return trial && is_known(context) ? NULL : found;
}

// int32_t llama_decode(struct llama_context *, struct llama_batch): the context in rdi, the batch on the stack, above the return address. A jump to the
// engine's own leaves both where they are, whatever the batch's size is.
__asm__(
    ".text\n"
    ".globl llama_decode\n"
    ".type llama_decode, @function\n"
    "llama_decode:\n"
    "  .cfi_startproc\n"
    "  endbr64\n"
    "  pushq %rdi\n"
    "  .cfi_adjust_cfa_offset 8\n"
    "  leaq 16(%rsp), %rsi\n"
    "  call thaw_decode_of\n"
    "  popq %rdi\n"
    "  .cfi_adjust_cfa_offset -8\n"
    "  testq %rax, %rax\n"
    "  jz 1f\n"
    "  jmp *%rax\n"
    "1:\n"
    "  xorl %eax, %eax\n"
    "  ret\n"
    "  .cfi_endproc\n"
    ".size llama_decode, .-llama_decode\n");
