/* Memory for a run, kept between runs: one layer after the other uses the same pieces, which therefore stay in cache. */
#include "kernel.h"

/* As many runs at the same time as keep their memory; further ones allocate and free theirs. */
enum { KEPT_PIECES = 8 };

typedef struct {
    void *memory;
    size_t bytes;
    int used;
} piece;

static piece pieces[KEPT_PIECES];
static int32_t busy, users;

void *scratch_memory(const kernel *k, size_t bytes, size_t *available) {
    piece *best = 0;
    void *memory = 0;
    lock(&busy);
    for (int i = 0; i < KEPT_PIECES; i++) {
        piece *free_one = pieces + i;
        if (!free_one->used && (!best || free_one->bytes > best->bytes)) best = free_one;
    }
    if (best && best->bytes < bytes) {
        free_bytes(k, best->memory);
        best->memory = allocate_bytes(k, bytes);
        best->bytes = best->memory ? bytes : 0;
    }
    if (best && best->memory) {
        best->used = 1;
        memory = best->memory;
        bytes = best->bytes;
    }
    unlock(&busy);
    if (available) *available = bytes;
    return memory || best ? memory : allocate_bytes(k, bytes);
}

void free_scratch(const kernel *k, void *memory) {
    lock(&busy);
    for (int i = 0; i < KEPT_PIECES && memory; i++) {
        if (pieces[i].memory != memory) continue;
        pieces[i].used = 0;
        memory = 0;
    }
    unlock(&busy);
    free_bytes(k, memory);
}

void count_user(const kernel *k, int change) {
    lock(&busy);
    users += change;
    for (int i = 0; i < KEPT_PIECES && users == 0; i++) {
        free_bytes(k, pieces[i].memory);
        pieces[i] = (piece){0};
    }
    unlock(&busy);
}
