/* What sums of integers become in the end: bytes. */
#ifndef EDGEPRUNE_ENDS_H
#define EDGEPRUNE_ENDS_H

#include "level.h"

/* Sums of four rows, `pitch` apart, -> cells, whole vectors of them. */
static inline void requantize(const int32_t *sums, uint32_t *cells, int32_t pitch, int32_t count, const requantization *q,
                              int32_t group) {
    W(vf) scale[4];
    UNROLL for (int k = 0; k < 4; k++) scale[k] = W(set_f)(q->scale[4 * group + k]);
    for (int32_t i = 0; i < count; i += WIDE) {
        W(vi) value[4];
        UNROLL for (int k = 0; k < 4; k++)
            value[k] = W(rint_i)(W(mul_f)(W(to_f)(W(load_i)(sums + k * pitch + i)), scale[k]));
        W(store_i)(cells + i, W(pack_i)(value[0], value[1], value[2], value[3], q->range));
    }
}

/* Four outputs of one example, as bytes of a cell in the level's domain. */
static inline uint32_t requantize_four(const int32_t *sums, const requantization *q, int32_t group) {
    int32_t lanes[4][4];
    for (int k = 0; k < 4; k++) {
        vi4 value = rint_i4(mul_f4(to_f4(set_i4(sums[k])), set_f4(q->scale[4 * group + k])));
        store_i4(lanes[k], value);
    }
    vi4 cells = pack_i4(load_i4(lanes[0]), load_i4(lanes[1]), load_i4(lanes[2]), load_i4(lanes[3]), q->range);
    uint32_t cell[4];
    store_i4(cell, cells);
    return cell[0];
}

#if defined(__aarch64__)
/* Whether less than the whole range of a byte is left. Most layers end with the range: clipping is a pass of its own. */
static inline int clips_bytes(const requantization *q) { return q->range.low > LOWEST || q->range.high < LOWEST + 255; }

static inline void clip_all(void *bytes, int64_t count, const requantization *q) {
    for (int64_t i = 0; i + 16 <= count; i += 16)
        store_i4((char *)bytes + i, clip_bytes_4(load_i4((char *)bytes + i), q->range));
    for (int64_t i = count / 16 * 16; i < count; i += 4)
        store_part_i4((char *)bytes + i, clip_bytes_4(load_part_i4((char *)bytes + i, 1), q->range), 1);
}
#endif

#endif
