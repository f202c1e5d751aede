/* The kernels of one instruction-set level: compiled once for each, with LEVEL naming it. docs/kernels.md has the
 * arithmetic. */
#include "kernels.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
/* For loops of a few rounds, which vectors would only slow down. */
#define ONE_BY_ONE _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#define ONE_BY_ONE
#endif
#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

/* Without i8mm the dot product of Armv8.2 takes two signed vectors. */
#if defined(__aarch64__) && !defined(__ARM_FEATURE_MATMUL_INT8)
#define SIGNED_BYTES 1
#else
#define SIGNED_BYTES 0
#endif
#define LOWEST (SIGNED_BYTES ? -128 : 0)
/* A block of four output channels keeps four sums a vector: 16 registers hold three vectors of columns, 32 six. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_F4 6
#else
#define TILE_F4 3
#endif
/* One sum a vector of a block of four input channels. */
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define TILE_I4 24
#else
#define TILE_I4 8
#endif
#define MOST_SUMS 10 /* of a row: two sets of five vectors */
/* Whether a row of int8 sums is made bytes while it is in registers, to be put together with three other rows by a store
 * that interleaves. */
#if defined(__aarch64__)
#define BYTES_BY_ROW 1
#else
#define BYTES_BY_ROW 0
#endif
/* Weights stream from a cache further off while a tile's inputs stay near: bytes of entries to ask for in advance. */
#define AHEAD 1024
/* Whether blocks of four rows can read their input by masks: lanes that a mask leaves out must not be touched. */
#if defined(__AVX512F__)
#define MASKED_TILES 1
#else
#define MASKED_TILES 0
#endif
/* Looking inputs up in registers: two-register permutations and a dot product. */
#if defined(__AVX512VNNI__)
#define BY_LANE 1
#else
#define BY_LANE 0
#endif

/* Offset and weight of an entry in one load: loads are what a sparse row costs. */
static ALWAYS_INLINE uint64_t load_entry(const void *entry) {
    uint64_t both;
    __builtin_memcpy(&both, entry, sizeof both);
    return both;
}

/* Where the entries of each tap of a row block begin, [taps + 1], and which lanes of a tile they multiply: `step` masks from
 * one tap to the next. */
typedef struct {
    int32_t taps, step;
    const uint32_t *start;
    const uint16_t *masks;
} tap_masks;

#include "simd128.h"
#define LANES 4
#include "tiles.h"
#undef LANES
#define WIDE 4
#ifdef __AVX2__
#include "simd256.h"
#define LANES 8
#include "tiles.h"
#undef LANES
#undef WIDE
#define WIDE 8
#endif
#ifdef __AVX512F__
#include "simd512.h"
#define LANES 16
#include "tiles.h"
#undef LANES
#undef WIDE
#define WIDE 16
#endif
#define W(name) JOINED(name, WIDE)

/* ---- moving cells ---- */

static void copy_cells(const uint32_t *restrict from, uint32_t *restrict to, int64_t count) {
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
static void copy_even_cells(const uint32_t *restrict from, uint32_t *restrict to, int64_t count) {
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

/* As vectors add: a file's numbers may be senseless. */
static int32_t wrapping_sum(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

static int32_t clamp_int(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/* What another core has written takes long to come: it is asked for in advance. */
static void prefetch_lines(const void *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch((const char *)from + i);
}

#include "copies.h"

static row_range all_rows(const geometry *g) { return (row_range){0, g->rows}; }

/* A part of the channels: the two calls that a runtime makes for a layer should not be hundreds of small ones. */
static void copy_planes(void *data, size_t part) {
    const conv_job *job = data;
    const geometry *g = job->shape;
    const int64_t end = (int64_t)g->channels * (int64_t)(part + 1) / job->copy_parts;
    copy_plan plan;
    plan_copy(g, job->fill, all_rows(g), &plan);
    for (int64_t channel = (int64_t)g->channels * (int64_t)part / job->copy_parts; channel < end; channel++)
        copy_channel(&plan, job->source, channel, (uint32_t *)job->copies + channel * g->views * g->plane);
}

/* ---- the ends of a tile: bias was added already; residual, clipping, requantization ---- */

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

/* Sums of four rows, `pitch` apart, -> cells, whole vectors of them. */
static void requantize(const int32_t *sums, uint32_t *cells, int32_t pitch, int32_t count, const requantization *q,
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

/* ---- convolution ---- */

typedef struct {
    int32_t sums, output, count; /* first cell in the tile's sums, first cell in the output plane, cells */
} segment;

typedef struct {
    int32_t start, vectors, segments;
    segment part[TILE_CELLS + 1];
} tile;

/* Tile number `index` of a run: tiles differ by one vector at most. A run that is read straight from the input ends
 * with a tile moved back, which computes some columns again rather than read past the end; it does not put them down, for
 * another thread does. */
static void place_tile(const conv_job *job, int32_t index, tile *t) {
    const geometry *g = job->shape;
    const int32_t vectors = (g->run + job->lanes - 1) / job->lanes;
    const int32_t first = (int32_t)((int64_t)vectors * index / job->tiles);
    t->vectors = (int32_t)((int64_t)vectors * (index + 1) / job->tiles) - first;
    t->start = first * job->lanes;
    const int32_t own = t->start;
    int32_t end = t->start + t->vectors * job->lanes;
    if (end > g->run) {
        if (g->direct && g->form != MASKED) t->start -= end - g->run;
        end = g->run;
    }
    t->segments = 0;
    for (int32_t n = own; n < end;) {
        const int32_t row = n / g->pitch, column = n - row * g->pitch;
        const int32_t rest = g->pitch == g->out_w ? end - n : g->out_w - column;
        if (rest > 0) {
            const int32_t count = rest < end - n ? rest : end - n;
            t->part[t->segments++] = (segment){n - t->start, row * g->out_w + column, count};
        }
        n += g->pitch == g->out_w ? rest : g->pitch - column;
    }
}

/* A tile in vectors of as many lanes as the job's. */
#if WIDE == 16
#define SUM(kind, lanes, ...) \
    (lanes == 16 ? kind##_16(__VA_ARGS__) : lanes == 8 ? kind##_8(__VA_ARGS__) : kind##_4(__VA_ARGS__))
#elif WIDE == 8
#define SUM(kind, lanes, ...) (lanes == 8 ? kind##_8(__VA_ARGS__) : kind##_4(__VA_ARGS__))
#else
#define SUM(kind, lanes, ...) kind##_4(__VA_ARGS__)
#endif

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
/* A row block whose entries stand by tap. end: the sums are outputs. */
static void tile_by_tap(const conv_job *job, const tile *t, int32_t block, const char *x, const float *bias,
                        const activation *end, float *sums, int64_t pitch) {
    const geometry *g = job->shape;
    const sparse_conv *w = job->weights;
    const uint32_t *start = w->tap_start + (int64_t)block * w->taps;
    const tap_masks by_tap = {w->taps, (g->run + WIDE - 1) / WIDE, start, g->masks + t->start / WIDE};
    const float *residual = end && job->residual ? (const float *)job->residual + (sums - (float *)job->output) : 0;
    tile_f4_masked_16(t->vectors, job->least, x, (const entry_f4 *)w->entries + start[0], &by_tap, bias, residual, end, sums, pitch);
}
#endif

/* Row blocks [first, end) of one tile; x is where the planes begin that the entries' offsets count from. All rows take
 * one slab of the input after the other; partial: [row blocks][PARTIAL_ROW] sums so far. */
static void conv_rows(const conv_job *job, int32_t tile_number, const char *x, int32_t first, int32_t end,
                      float *partial) {
    const sparse_conv *w = job->weights;
    const activation *float_end = job->float_end;
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
            const uint32_t from = start[block], count = start[block + 1] - from;
            const float *bias = slab == 0 ? float_end->bias + block * w->rows : 0;
            const int at_once = whole && (block + 1) * w->rows <= w->outputs;
            const activation *clip = at_once ? float_end : 0;
            float *sums = own_sums;
            if (w->slabs > 1) sums = partial + (int64_t)block * PARTIAL_ROW;
            if (at_once) sums = (float *)job->output + block * w->rows * cells + t.part[0].output;
#if MASKED_TILES
            if (w->taps) {
                tile_by_tap(job, &t, block, x, bias, clip, sums, at_once ? cells : TILE_CELLS);
            } else
#endif
            if (w->in_quads)
                SUM(tile_q1, job->lanes, t.vectors, job->least, x, (const quad_f1 *)w->entries + from, count, w->shift, bias,
                    clip, sums);
            else if (w->rows == 1)
                SUM(tile_f1, job->lanes, t.vectors, job->least, x, (const entry_f1 *)w->entries + from, count, bias, clip, sums);
            else
                SUM(tile_f4, job->lanes, t.vectors, job->least, x, (const entry_f4 *)w->entries + from, count, bias, clip,
                    sums, at_once ? cells : TILE_CELLS);
            if (slab == w->slabs - 1 && !at_once) finish_rows(job, &t, block, sums);
        }
    }
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
/* Whether less than the whole range of a byte is left. Most layers end with the range: clipping is a pass of its own. */
static int clips_bytes(const requantization *q) { return q->range.low > LOWEST || q->range.high < LOWEST + 255; }

static void clip_all(void *bytes, int64_t count, const requantization *q) {
    for (int64_t i = 0; i + 16 <= count; i += 16)
        store_i4((char *)bytes + i, clip_bytes_4(load_i4((char *)bytes + i), q->range));
    for (int64_t i = count / 16 * 16; i < count; i += 4)
        store_part_i4((char *)bytes + i, clip_bytes_4(load_part_i4((char *)bytes + i, 1), q->range), 1);
}

/* A row of a tile as bytes, not yet clipped. */
static ALWAYS_INLINE void row_of_bytes(const int vectors, const char *x, const entry_i4 *entry, uint32_t count,
                                       const requantization *q, int32_t row, uint8_t *bytes) {
    const vf4 scale = set_f4(q->scale[row]);
    vi4 total[TILE_I4];
    if (count) {
        tile_i4_body_4(vectors, x, entry, count, q->bias + row, total);
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
    const uint32_t *start = w->start;
    const entry_i4 *entries = w->entries;
    uint8_t bytes[4][TILE_CELLS] __attribute__((aligned(64)));
    uint32_t cells[TILE_CELLS] __attribute__((aligned(64)));
    const int64_t plane = (int64_t)job->shape->out_h * job->shape->out_w;
    /* Whole vectors of one piece of the plane go where they stay, blocks of four of them without a detour. */
    const int whole = !job->residual && t->segments == 1 && t->part[0].count == 4 * vectors;
    for (int32_t group = first; group < end; group++) {
        for (int32_t row = 4 * group; row < 4 * group + 4; row++)
            row_of_bytes(vectors, x, entries + start[row], start[row + 1] - start[row], &q, row, bytes[row % 4]);
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

/* Groups of four output channels [first, end) of one tile. */
static void conv_groups(const conv_job *job, int32_t tile_number, const char *x, int32_t first, int32_t end) {
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

/* First row block of part number `part` of `parts`, such that all parts hold about as many entries; a row block costs
 * as much as a few entries whatever it holds. Integer parts begin at a multiple of four rows. */
static int32_t part_start(const uint32_t *start, int32_t row_blocks, int32_t step, int32_t parts, int32_t part) {
    if (part >= parts) return row_blocks;
    const uint64_t wanted = ((uint64_t)start[row_blocks] + 8 * (uint64_t)row_blocks) * part / parts;
    int32_t low = 0, high = row_blocks / step;
    while (low < high) {
        const int32_t middle = (low + high) / 2;
        if (start[middle * step] + 8 * (uint64_t)middle * step < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low * step;
}

/* Behind a set's copies; null where one slab is all. */
static float *sums_so_far(const conv_job *job, int32_t set, int32_t tile_number) {
    if (job->weights->slabs == 1) return 0;
    float *first = (float *)(job->copies + set * job->set_bytes + job->copy_bytes);
    return first + tile_number * partial_sums(job->weights);
}

static void conv(void *data, size_t task) {
    const conv_job *job = data;
    const sparse_conv *w = job->weights;
    note_thread(job->threads, 0);
    const int32_t part = (int32_t)(task % job->parts), step = w->kind == KIND_INT8 ? 4 : 1;
    const int32_t first = part_start(w->start, w->row_blocks, step, job->parts, part);
    const int32_t end = part_start(w->start, w->row_blocks, step, job->parts, part + 1);
    const int32_t tile_number = (int32_t)(task / job->parts);
    if (w->kind == KIND_INT8)
        conv_groups(job, tile_number, job->input, first / 4, end / 4);
    else
        conv_rows(job, tile_number, job->input, first, end, sums_so_far(job, 0, tile_number));
}

/* Rows of the copies that the tiles [first, end) read. */
static row_range rows_of_tiles(const conv_job *job, int32_t first, int32_t end) {
    const geometry *g = job->shape;
    tile from, to;
    place_tile(job, first, &from);
    place_tile(job, end - 1, &to);
    const int32_t first_row = clamp_int(from.start / g->pitch + g->first_row, 0, g->rows);
    const int32_t last = (to.start + to.vectors * job->lanes - 1) / g->pitch + g->last_row;
    /* With padding between rows, a run's last columns may be the next row's. */
    return (row_range){first_row, clamp_int(last + (g->form == PHASES ? 2 : 1), first_row, g->rows)};
}

/* Bytes to ask for in advance. */
enum { LINES_AHEAD = 4 << 10 };

static void copy_for_chunk(const conv_job *job, uint32_t *to, row_range rows) {
    const geometry *g = job->shape;
    const int64_t plane = 4 * (int64_t)g->height * g->width, row = 4 * (int64_t)g->width;
    const int32_t padded = g->form == MASKED ? 0 : g->pad_top;
    const int64_t first = row * clamp_int(rows.first * g->stride_y - padded, 0, g->height);
    const int64_t end = row * clamp_int(rows.end * g->stride_y - padded + 1, 0, g->height), bytes = end - first;
    const int64_t ahead = bytes > 0 && bytes <= LINES_AHEAD ? LINES_AHEAD / bytes : 0;
    const char *from = (const char *)job->source + first;
    copy_plan plan;
    plan_copy(g, job->fill, rows, &plan);
    for (int64_t channel = 0; channel < ahead && channel < g->channels; channel++)
        prefetch_lines(from + channel * plane, bytes);
    for (int64_t channel = 0; channel < g->channels; channel++) {
        if (ahead && channel + ahead < g->channels) prefetch_lines(from + (channel + ahead) * plane, bytes);
        copy_channel(&plan, job->source, channel, to + channel * g->views * g->plane);
    }
}

/* The copies of the calling thread, made when it takes its first chunk of an example. `wanted`: the set to copy to, if it
 * is free; what the same core wrote the last time is still near it. */
static const char *own_copies(const conv_job *job, int32_t wanted) {
    thread_set *threads = job->threads;
    int32_t number = note_thread(threads, wanted);
    if (number < job->copy_sets) {
        char *copies = job->copies + number * job->set_bytes;
        if (!__atomic_load_n(&threads->copied[number], __ATOMIC_RELAXED)) {
            copy_for_chunk(job, (uint32_t *)copies, all_rows(job->shape));
            __atomic_store_n(&threads->copied[number], 1, __ATOMIC_RELEASE);
        }
        return copies;
    }
    /* More threads than there were: this one reads what the first one copies. */
    while (!__atomic_load_n(&threads->copied[0], __ATOMIC_ACQUIRE)) let_others_run();
    return job->copies;
}

/* A piece of a layer with the copies that it needs. What another core has just written comes slowly, and a sparse layer
 * computes little with it, so no thread reads what another one copied. Windows are shared out by place, like the layers
 * before and behind; small planes by output channel. */
static void conv_chunk(void *data, size_t chunk) {
    const conv_job *job = data;
    const geometry *g = job->shape;
    const sparse_conv *w = job->weights;
    const int32_t step = w->kind == KIND_INT8 ? 4 : 1, number = (int32_t)chunk;
    const int32_t set = number * job->copy_sets / job->chunks;
    float *partial = sums_so_far(job, set, 0);
    int32_t first_tile = 0, end_tile = job->tiles, first = 0, end = w->row_blocks;
    const char *input = job->source;
    if (job->by_place) {
        first_tile = (int32_t)((int64_t)job->tiles * number / job->chunks);
        end_tile = (int32_t)((int64_t)job->tiles * (number + 1) / job->chunks);
        if (job->copied) {
            char *copies = job->copies + set * job->set_bytes;
            copy_for_chunk(job, (uint32_t *)copies, rows_of_tiles(job, first_tile, end_tile));
            input = copies;
        }
    } else {
        first = part_start(w->start, w->row_blocks, step, job->chunks, number);
        end = part_start(w->start, w->row_blocks, step, job->chunks, number + 1);
        if (job->copied)
            input = own_copies(job, set);
        else if (job->copy_sets > 1 && number == set * job->chunks / job->copy_sets)
            prefetch_lines(input, 4 * g->plane * g->channels); /* the first of a thread's chunks */
    }
    for (int32_t t = first_tile; t < end_tile; t++) {
        if (w->kind == KIND_INT8)
            conv_groups(job, t, input, first / 4, end / 4);
        else
            conv_rows(job, t, input, first, end, partial);
    }
}

#include "depthwise.h"

/* ---- pooling ---- */

/* NaN where one is in the window. Two at a time, for each comparison finds NaN in both. */
static ALWAYS_INLINE W(vf) largest_floats(const char *from, const entry_i4 *entry, uint32_t count) {
    W(vf) most = W(load_f)(from + entry[count - 1].offset);
    JOINED(nan_lanes, WIDE) found = W(find_nan_)(W(no_nan_)(), most, most);
    for (uint32_t k = 0; k + 1 < count; k += 2) {
        const W(vf) a = W(load_f)(from + entry[k].offset), b = W(load_f)(from + entry[k + 1].offset);
        found = W(find_nan_)(found, a, b);
        most = W(max_f)(most, W(max_f)(a, b));
    }
    return W(put_nan_)(found, most);
}

/* The weights' entries of row block 0 are the window's positions. */
static void max_pool_channel(const conv_job *job, const copy_plan *plan, int64_t channel) {
    const geometry *g = job->shape;
    const entry_i4 *entry = job->weights->entries;
    const uint32_t count = job->weights->start[1];
    const char *x = job->copies + 4 * channel * g->views * g->plane;
    copy_channel(plan, job->source, channel, (uint32_t *)job->copies + channel * g->views * g->plane);
    uint32_t *y = (uint32_t *)job->output + channel * g->out_h * g->out_w;
    for (int32_t i = 0; i < job->tiles; i++) {
        tile t;
        uint32_t best[TILE_CELLS] __attribute__((aligned(64)));
        place_tile(job, i, &t);
        for (int32_t v = 0; v < t.vectors; v++) {
            const char *from = x + 4 * (int64_t)(t.start + v * WIDE);
            if (job->weights->kind == KIND_FLOAT) {
                W(store_f)((float *)best + v * WIDE, largest_floats(from, entry, count));
            } else {
                W(vi) most = W(load_i)(from + entry[0].offset);
                for (uint32_t k = 1; k < count; k++) most = W(max_b)(most, W(load_i)(from + entry[k].offset));
                W(store_i)(best + v * WIDE, most);
            }
        }
        for (int32_t s = 0; s < t.segments; s++)
            copy_cells(best + t.part[s].sums, y + t.part[s].output, t.part[s].count);
    }
}

static void max_pool(void *data, size_t part) {
    const conv_job *job = data;
    const int64_t channels = job->shape->channels, end = channels * (int64_t)(part + 1) / job->copy_parts;
    copy_plan plan;
    plan_copy(job->shape, job->fill, all_rows(job->shape), &plan);
    for (int64_t channel = channels * (int64_t)part / job->copy_parts; channel < end; channel++)
        max_pool_channel(job, &plan, channel);
}

#include "gemm.h"

/* ---- element by element ---- */

static void add(void *data, size_t part) {
    const add_job *job = data;
    const int64_t end = job->cells * (int64_t)(part + 1) / job->parts;
    const W(vi) a_zero = W(set_i)(job->a_zero_point), b_zero = W(set_i)(job->b_zero_point);
    const W(vf) a_scale = W(set_f)(job->a_scale), b_scale = W(set_f)(job->b_scale);
    for (int64_t i = job->cells * (int64_t)part / job->parts; i < end; i += WIDE) {
        const int rest = end - i < WIDE ? (int)(end - i) : WIDE;
        const W(vi) a = rest == WIDE ? W(load_i)(job->a + 4 * i) : W(load_part_i)(job->a + 4 * i, rest);
        const W(vi) b = rest == WIDE ? W(load_i)(job->b + 4 * i) : W(load_part_i)(job->b + 4 * i, rest);
        W(vi) value[4];
        UNROLL for (int k = 0; k < 4; k++) {
            W(vf) left = W(mul_f)(W(to_f)(W(sub_i)(W(byte_i)(a, k), a_zero)), a_scale);
            W(vf) right = W(mul_f)(W(to_f)(W(sub_i)(W(byte_i)(b, k), b_zero)), b_scale);
            value[k] = W(rint_i)(W(add_f)(left, right));
        }
        W(vi) cells = W(pack_i)(value[0], value[1], value[2], value[3], job->range);
        if (rest == WIDE)
            W(store_i)(job->output + 4 * i, cells);
        else
            W(store_part_i)(job->output + 4 * i, cells, rest);
    }
}

/* Bytes of four planes <-> cells, by sixteen positions. */
static void pack(void *data, size_t group) {
    const move_job *job = data;
    const int32_t rest = job->channels - 4 * (int32_t)group, planes = rest < 4 ? rest : 4;
    const uint8_t *x = job->input + 4 * group * job->positions;
    uint32_t *y = (uint32_t *)job->output + group * job->positions;
    const vi4 none = set_i4(0);
    int64_t i = 0;
    for (; i + 16 <= job->positions; i += 16) {
        const vi4 a = load_i4(x + i), b = planes > 1 ? load_i4(x + job->positions + i) : none;
        const vi4 c = planes > 2 ? load_i4(x + 2 * job->positions + i) : none;
        const vi4 d = planes > 3 ? load_i4(x + 3 * job->positions + i) : none;
#if defined(__x86_64__)
        __m128i flip = set_i4((int32_t)job->flip);
        __m128i ab0 = _mm_unpacklo_epi8(a, b), ab1 = _mm_unpackhi_epi8(a, b);
        __m128i cd0 = _mm_unpacklo_epi8(c, d), cd1 = _mm_unpackhi_epi8(c, d);
        store_i4(y + i, _mm_xor_si128(_mm_unpacklo_epi16(ab0, cd0), flip));
        store_i4(y + i + 4, _mm_xor_si128(_mm_unpackhi_epi16(ab0, cd0), flip));
        store_i4(y + i + 8, _mm_xor_si128(_mm_unpacklo_epi16(ab1, cd1), flip));
        store_i4(y + i + 12, _mm_xor_si128(_mm_unpackhi_epi16(ab1, cd1), flip));
#else
        uint8x16_t flip = vreinterpretq_u8_u32(vdupq_n_u32(job->flip));
        const vi4 plane[4] = {a, b, c, d};
        uint8x16x4_t four;
        UNROLL for (int k = 0; k < 4; k++) four.val[k] = veorq_u8(vreinterpretq_u8_s32(plane[k]), flip);
        vst4q_u8((uint8_t *)(y + i), four);
#endif
    }
    for (; i < job->positions; i++) {
        uint32_t cell = 0;
        for (int32_t k = 0; k < planes; k++) cell |= (uint32_t)x[k * job->positions + i] << (8 * k);
        y[i] = cell ^ job->flip;
    }
}

static void unpack(void *data, size_t group) {
    const move_job *job = data;
    const int32_t rest = job->channels - 4 * (int32_t)group, planes = rest < 4 ? rest : 4;
    const uint32_t *x = (const uint32_t *)job->input + group * job->positions;
    uint8_t *y = job->output + 4 * group * job->positions;
    for (int64_t i = 0; i < job->positions; i++) {
        const uint32_t cell = x[i] ^ job->flip;
        for (int32_t k = 0; k < planes; k++) y[k * job->positions + i] = (uint8_t)(cell >> (8 * k));
    }
}

static void global_average(void *data, size_t group) {
    const move_job *job = data;
    const uint32_t *x = (const uint32_t *)job->input + group * job->positions;
    int32_t sums[4], rest = job->channels - 4 * (int32_t)group;
    requantization q = {0};
    float scale[4];
    W(vi) total[4] = {W(set_i)(0), W(set_i)(0), W(set_i)(0), W(set_i)(0)};
    int64_t i = 0;
    for (; i + WIDE <= job->positions; i += WIDE)
        UNROLL for (int k = 0; k < 4; k++) total[k] = W(add_i)(total[k], W(byte_i)(W(load_i)(x + i), k));
    for (int k = 0; k < 4; k++) {
        int32_t lanes[WIDE];
        W(store_i)(lanes, total[k]);
        sums[k] = -(int32_t)job->positions * job->x_zero_point;
        for (int j = 0; j < WIDE; j++) sums[k] += lanes[j];
        for (int64_t j = i; j < job->positions; j++)
            sums[k] += SIGNED_BYTES ? (int8_t)(x[j] >> (8 * k)) : (uint8_t)(x[j] >> (8 * k));
        scale[k] = job->scale;
    }
    q.scale = scale;
    q.range = (byte_range){job->y_zero_point, LOWEST, LOWEST + 255};
    const uint32_t cell = requantize_four(sums, &q, 0) ^ job->flip;
    for (int k = 0; k < 4 && k < rest; k++) job->output[4 * group + k] = (uint8_t)(cell >> (8 * k));
}

const level JOINED(level_, LEVEL);
const level JOINED(level_, LEVEL) = {
    .name = TEXT(LEVEL), .lanes = WIDE, .signed_bytes = SIGNED_BYTES, .tile_f1 = 8, .tile_f4 = TILE_F4, .tile_i4 = TILE_I4,
    .by_lane = BY_LANE, .masked = MASKED_TILES, .copy_planes = copy_planes, .conv = conv, .conv_chunk = conv_chunk,
    .depthwise = depthwise, .quantized_depthwise = quantized_depthwise, .max_pool = max_pool,
    .gemm = gemm, .gemm_panel = gemm_panel, .add = add, .pack = pack, .unpack = unpack, .global_average = global_average,
};
