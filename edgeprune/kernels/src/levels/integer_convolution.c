/* Convolutions of integers, a tile at a time. */
#include "cells.h"
#include "convolution.h"
#include "ends.h"

/* Whether a row of sums is made bytes while it is in registers, to be put together with three other rows by a store that
 * interleaves. */
#if defined(__aarch64__)
#define BYTES_BY_ROW 1
#else
#define BYTES_BY_ROW 0
#endif

#define LANES 4
#include "integer_tiles.inc"
#undef LANES
#if WIDE >= 8
#define LANES 8
#include "integer_tiles.inc"
#undef LANES
#endif
#if WIDE == 16
#define LANES 16
#include "integer_tiles.inc"
#undef LANES
#endif

static ALWAYS_INLINE W(vi) add_residual(W(vi) own, W(vi) residual, const requantization *q) {
    W(vi) value[4];
    UNROLL for (int k = 0; k < 4; k++) {
        W(vi) mine = W(sub_i)(W(byte_i)(own, k), W(set_i)(q->range.zero_point));
        W(vi) other = W(sub_i)(W(byte_i)(residual, k), W(set_i)(q->sum_r_zero_point));
        W(vf) left = W(mul_f)(W(to_f)(mine), W(set_f)(q->sum_scale));
        value[k] = W(rint_i)(W(add_f)(left, W(mul_f)(W(to_f)(other), W(set_f)(q->sum_r_scale))));
    }
    return W(pack_i)(value[0], value[1], value[2], value[3], q->sum_range);
}

/* Cells of a group that are final but for the residual -> the output plane. */
static void put_cells(const conv_job *job, const tile *t, int32_t group, const uint32_t *cells) {
    const int64_t at = group * ((int64_t)job->shape->out_h * job->shape->out_w);
    const requantization q = *job->integer_end;
    for (int32_t s = 0; s < t->segments; s++) {
        const segment *part = t->part + s;
        uint32_t *y = (uint32_t *)job->output + at + part->output;
        if (!job->residual) {
            copy_cells(cells + part->sums, y, part->count);
            continue;
        }
        const uint32_t *residual = (const uint32_t *)job->residual + at + part->output;
        for (int32_t i = 0; i < part->count; i += WIDE) {
            const int32_t rest = part->count - i;
            const W(vi) own = W(load_i)(cells + part->sums + i);
            if (rest >= WIDE)
                W(store_i)(y + i, add_residual(own, W(load_i)(residual + i), &q));
            else
                W(store_part_i)(y + i, add_residual(own, W(load_part_i)(residual + i, rest), &q), rest);
        }
    }
}

#if BYTES_BY_ROW
typedef struct {
    const uint32_t *start;
    const entry_i4 *first;
} row_entries;

/* A row of a tile as bytes, not yet clipped. */
static ALWAYS_INLINE void row_of_bytes(const int vectors, const char *x, row_entries entries, const requantization *q,
                                       int32_t row, uint8_t *bytes) {
    const uint32_t from = entries.start[row], count = entries.start[row + 1] - from;
    const vf4 scale = set_f4(q->scale[row]);
    vi4 total[TILE_I4];
    if (count) {
        tile_i4_body_4(vectors, x, entries.first + from, count, q->bias + row, total);
        UNROLL for (int v = 0; v < vectors; v++) total[v] = rint_i4(mul_f4(to_f4(total[v]), scale));
        UNROLL for (int v = 0; v < vectors; v += 4) {
            vi4 value[4];
            UNROLL for (int i = 0; i < 4; i++) value[i] = v + i < vectors ? total[v + i] : set_i4(0);
            store_i4(bytes + 4 * v, narrow_4(value[0], value[1], value[2], value[3], q->range.zero_point));
        }
    } else {
        const vi4 bias = rint_i4(mul_f4(to_f4(set_i4(q->bias[row])), scale));
        const vi4 all = narrow_4(bias, bias, bias, bias, q->range.zero_point);
        UNROLL for (int v = 0; v < vectors; v += 4) store_i4(bytes + 4 * v, all);
    }
}

static ALWAYS_INLINE void groups_of_bytes(const int vectors, const conv_job *job, const tile *t, const char *x,
                                          int32_t first, int32_t end) {
    const sparse_conv *w = job->weights;
    const requantization q = *job->integer_end;
    const row_entries entries = {w->start, w->entries};
    uint8_t bytes[4][TILE_CELLS] __attribute__((aligned(64)));
    uint32_t cells[TILE_CELLS] __attribute__((aligned(64)));
    const int64_t plane = (int64_t)job->shape->out_h * job->shape->out_w;
    /* Whole vectors of one piece of the plane go where they stay, blocks of four of them without a detour. */
    const int whole = !job->residual && t->segments == 1 && t->part[0].count == 4 * vectors;
    for (int32_t group = first; group < end; group++) {
        for (int32_t row = 4 * group; row < 4 * group + 4; row++)
            row_of_bytes(vectors, x, entries, &q, row, bytes[row % 4]);
        if (clips_bytes(&q)) clip_all(bytes[0], 4 * TILE_CELLS, &q);
        uint32_t *y = (uint32_t *)job->output + group * plane + t->part[0].output;
        UNROLL for (int v = 0; v < vectors; v += 4) {
            uint8x16x4_t four;
            UNROLL for (int m = 0; m < 4; m++) four.val[m] = vld1q_u8(bytes[m] + 4 * v);
            vst4q_u8((uint8_t *)(whole && v + 4 <= vectors ? y + 4 * v : cells + 4 * v), four);
        }
        if (!whole)
            put_cells(job, t, group, cells);
        else
            UNROLL for (int v = vectors / 4 * 4; v < vectors; v++) store_i4(y + 4 * v, load_i4(cells + 4 * v));
    }
}

/* A register array needs a number of vectors that the compiler knows. */
#define GROUPS(n) \
    static void groups_of_bytes_##n(const conv_job *job, const tile *t, const char *x, int32_t first, int32_t end) { \
        groups_of_bytes(n, job, t, x, first, end); \
    }
GROUPS(1) GROUPS(2) GROUPS(3) GROUPS(4) GROUPS(5) GROUPS(6) GROUPS(7) GROUPS(8)
#if TILE_I4 > 8
GROUPS(9) GROUPS(10) GROUPS(11) GROUPS(12) GROUPS(13) GROUPS(14) GROUPS(15) GROUPS(16)
GROUPS(17) GROUPS(18) GROUPS(19) GROUPS(20) GROUPS(21) GROUPS(22) GROUPS(23) GROUPS(24)
#endif
#undef GROUPS

static void (*const groups_by_vectors[])(const conv_job *, const tile *, const char *, int32_t, int32_t) = {
    groups_of_bytes_1, groups_of_bytes_2, groups_of_bytes_3, groups_of_bytes_4,
    groups_of_bytes_5, groups_of_bytes_6, groups_of_bytes_7, groups_of_bytes_8,
#if TILE_I4 > 8
    groups_of_bytes_9, groups_of_bytes_10, groups_of_bytes_11, groups_of_bytes_12,
    groups_of_bytes_13, groups_of_bytes_14, groups_of_bytes_15, groups_of_bytes_16,
    groups_of_bytes_17, groups_of_bytes_18, groups_of_bytes_19, groups_of_bytes_20,
    groups_of_bytes_21, groups_of_bytes_22, groups_of_bytes_23, groups_of_bytes_24,
#endif
};
#endif

void conv_groups(const conv_job *job, int32_t tile_number, const char *x, int32_t first, int32_t end) {
    tile t;
    place_tile(job, tile_number, &t);
    x += 4 * (int64_t)t.start;
#if BYTES_BY_ROW
    groups_by_vectors[t.vectors - 1](job, &t, x, first, end);
#else
    const sparse_conv *w = job->weights;
    const requantization q = *job->integer_end;
    int32_t sums[4 * TILE_CELLS + OVER_READ_CELLS] __attribute__((aligned(64)));
    uint32_t cells[TILE_CELLS + OVER_READ_CELLS] __attribute__((aligned(64)));
    for (int32_t group = first; group < end; group++) {
        for (int32_t m = 0; m < 4; m++) {
            const int32_t row = 4 * group + m;
            const uint32_t from = w->start[row], count = w->start[row + 1] - from;
            const entry_i4 *entry = (const entry_i4 *)w->entries + from;
            SUM(tile_i4, job->lanes, t.vectors, x, entry, count, q.bias + row, sums + m * TILE_CELLS);
        }
        requantize(sums, cells, TILE_CELLS, t.vectors * job->lanes, &q, group);
        put_cells(job, &t, group, cells);
    }
#endif
}
