/* Convolutions of floats, a tile at a time. */
#include "convolution.h"

#define MOST_SUMS 10 /* of a row: two sets of five vectors */

/* One row block's entries, for one tile. */
typedef struct {
    const char *x; /* where the tile's columns begin in the planes that offsets count from */
    const void *entries;
    uint32_t count;
    int32_t shift;         /* of quads */
    const float *bias;     /* where sums start; null: they go on from where they are */
    const activation *end; /* null: sums stay as they are; else they become outputs, clipped */
    float *sums;
    int64_t pitch; /* four rows: from one row's sums to the next */
} tile_row;

typedef struct {
    const entry_f4 *first;
    uint32_t count;
} entries_f4;

/* Where the entries of each tap of a row block begin, [taps + 1], and which lanes of a tile they multiply: `step` masks from
 * one tap to the next. */
typedef struct {
    int32_t taps, step;
    const uint32_t *start;
    const uint16_t *masks;
} tap_masks;

#define LANES 4
#include "float_tiles.inc"
#undef LANES
#if WIDE >= 8
#define LANES 8
#include "float_tiles.inc"
#undef LANES
#endif
#if WIDE == 16
#define LANES 16
#include "float_tiles.inc"
#undef LANES
#endif

/* Residual and clipping; bias was added already. */
static void finish_floats(const float *sums, float *y, const float *residual, int32_t count, const activation *end) {
    const W(vf) low = W(set_f)(end->low), high = W(set_f)(end->high);
    int32_t i = 0;
    for (; i + WIDE <= count; i += WIDE) {
        W(vf) value = W(load_f)(sums + i);
        if (residual) value = W(add_f)(value, W(load_f)(residual + i));
        W(store_f)(y + i, W(clip_f)(value, low, high));
    }
    if (i < count) {
        W(vf) value = W(load_f)(sums + i);
        if (residual) value = W(add_f)(value, W(load_part_f)(residual + i, count - i));
        W(store_part_f)(y + i, W(clip_f)(value, low, high), count - i);
    }
}

static void finish_rows(const conv_job *job, const tile *t, int32_t block, const float *sums) {
    const sparse_conv *w = job->weights;
    const int64_t cells = (int64_t)job->shape->out_h * job->shape->out_w;
    for (int32_t m = 0; m < w->rows && block * w->rows + m < w->outputs; m++) {
        const int64_t at = (block * w->rows + m) * cells;
        const float *residual = job->residual ? (const float *)job->residual + at : 0;
        for (int32_t s = 0; s < t->segments; s++) {
            const segment *part = t->part + s;
            finish_floats(sums + m * TILE_CELLS + part->sums, (float *)job->output + at + part->output,
                          residual ? residual + part->output : 0, part->count, job->float_end);
        }
    }
}

#if MASKED_TILES
/* A row block whose entries stand by tap. */
static void tile_by_tap(const conv_job *job, const tile *t, int32_t block, tile_row row) {
    const geometry *g = job->shape;
    const sparse_conv *w = job->weights;
    const uint32_t *start = w->tap_start + (int64_t)block * w->taps;
    const tap_masks by_tap = {w->taps, (g->run + WIDE - 1) / WIDE, start, g->masks + t->start / WIDE};
    const int at_once = row.end && job->residual; /* the sums are outputs */
    const float *residual = at_once ? (const float *)job->residual + (row.sums - (float *)job->output) : 0;
    row.entries = (const entry_f4 *)w->entries + start[0];
    tile_f4_masked_16(t->vectors, job->least, &row, &by_tap, residual);
}
#endif

void conv_rows(const conv_job *job, int32_t tile_number, const char *x, int32_t first, int32_t end, float *partial) {
    const sparse_conv *w = job->weights;
    const int64_t cells = (int64_t)job->shape->out_h * job->shape->out_w;
    float own_sums[4 * TILE_CELLS + OVER_READ_CELLS] __attribute__((aligned(64)));
    tile t;
    place_tile(job, tile_number, &t);
    x += 4 * (int64_t)t.start;
    /* Whole vectors of one piece of the output plane are finished in registers. */
    const int one_piece = t.segments == 1 && t.part[0].count == t.vectors * job->lanes;
    const int whole = w->slabs == 1 && one_piece && (w->taps || !job->residual);
    for (int32_t slab = 0; slab < w->slabs; slab++) {
        const uint32_t *start = w->start + (int64_t)slab * (w->row_blocks + 1);
        for (int32_t block = first; block < end; block++) {
            const uint32_t from = start[block];
            const int at_once = whole && (block + 1) * w->rows <= w->outputs;
            tile_row row = {
                .x = x, .count = start[block + 1] - from, .shift = w->shift,
                .bias = slab == 0 ? job->float_end->bias + block * w->rows : 0, .end = at_once ? job->float_end : 0,
                .sums = own_sums, .pitch = at_once ? cells : TILE_CELLS,
            };
            if (w->slabs > 1) row.sums = partial + (int64_t)block * PARTIAL_ROW;
            if (at_once) row.sums = (float *)job->output + block * w->rows * cells + t.part[0].output;
#if MASKED_TILES
            if (w->taps) {
                tile_by_tap(job, &t, block, row);
            } else
#endif
            if (w->in_quads) {
                row.entries = (const quad_f1 *)w->entries + from;
                SUM(tile_q1, job->lanes, t.vectors, job->least, &row);
            } else if (w->rows == 1) {
                row.entries = (const entry_f1 *)w->entries + from;
                SUM(tile_f1, job->lanes, t.vectors, job->least, &row);
            } else {
                row.entries = (const entry_f4 *)w->entries + from;
                SUM(tile_f4, job->lanes, t.vectors, job->least, &row);
            }
            if (slab == w->slabs - 1 && !at_once) finish_rows(job, &t, block, row.sums);
        }
    }
}
