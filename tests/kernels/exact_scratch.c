/* In place of src/scratch.c: pieces that are kept between runs are larger than what a run asks for, which would hide
 * reads past its end. */
#include "kernel.h"

void *scratch_memory(const kernel *k, size_t bytes, size_t *available) {
    if (available) *available = bytes;
    return allocate_bytes(k, bytes);
}

void free_scratch(const kernel *k, void *memory) { free_bytes(k, memory); }

void count_user(const kernel *k, int change) {
    (void)k;
    (void)change;
}
