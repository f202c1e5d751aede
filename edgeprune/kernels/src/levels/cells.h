/* Moving cells, by whole vectors where there are enough of them. */
#ifndef EDGEPRUNE_CELLS_H
#define EDGEPRUNE_CELLS_H

#include "level.h"

static inline void copy_cells(const uint32_t *restrict from, uint32_t *restrict to, int64_t count) {
    if (count < WIDE) {
        if (count > 0) W(store_part_i)(to, W(load_part_i)(from, (int)count), (int)count);
        return;
    }
    const uint32_t *last = from + count - WIDE;
    uint32_t *last_to = to + count - WIDE;
    for (; count >= 4 * WIDE; count -= 4 * WIDE, from += 4 * WIDE, to += 4 * WIDE)
        UNROLL for (int i = 0; i < 4; i++) W(store_i)(to + i * WIDE, W(load_i)(from + i * WIDE));
    for (; count >= WIDE; count -= WIDE, from += WIDE, to += WIDE) W(store_i)(to, W(load_i)(from));
    if (count) W(store_i)(last_to, W(load_i)(last)); /* some cells again: one vector, not a part of one */
}

/* Every second of 2 * count - 1 cells. */
static inline void copy_even_cells(const uint32_t *restrict from, uint32_t *restrict to, int64_t count) {
    if (count < WIDE) {
        if (count <= 0) return;
        const int rest = 2 * (int)count - 1, second = rest > WIDE ? rest - WIDE : 0;
        W(vi) left = second ? W(load_i)(from) : W(load_part_i)(from, rest);
        W(vi) right = second ? W(load_part_i)(from + WIDE, second) : W(set_i)(0);
        W(store_part_i)(to, W(even_i)(left, right), (int)count);
        return;
    }
    int64_t i = 0;
    for (; i + WIDE < count; i += WIDE)
        W(store_i)(to + i, W(even_i)(W(load_i)(from + 2 * i), W(load_i)(from + 2 * i + WIDE)));
    i = count - WIDE;
    W(store_i)(to + i, W(even_odd_i)(W(load_i)(from + 2 * i), W(load_i)(from + 2 * i + WIDE - 1)));
}

static inline void fill_cells(uint32_t *to, int64_t count, uint32_t fill) {
    W(vi) all = W(set_i)((int32_t)fill);
    for (; count >= 4 * WIDE; count -= 4 * WIDE, to += 4 * WIDE)
        UNROLL for (int i = 0; i < 4; i++) W(store_i)(to + i * WIDE, all);
    for (; count >= WIDE; count -= WIDE, to += WIDE) W(store_i)(to, all);
    if (count > 0) W(store_part_i)(to, all, (int)count);
}

/* Columns j of a view for which j * stride + x lies in [0, width): [first, end). */
static inline void inside(int32_t x, int32_t stride, int32_t width, int32_t columns, int32_t *first, int32_t *end) {
    *first = x >= 0 ? 0 : stride == 1 ? -x : (-x + stride - 1) / stride;
    *end = width - x <= 0 ? 0 : stride == 1 ? width - x : (width - x + stride - 1) / stride;
    *first = clamp_int(*first, 0, columns);
    *end = clamp_int(*end, *first, columns);
}

#endif
