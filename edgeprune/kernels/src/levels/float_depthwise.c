/* Depthwise convolutions of floats. */
#include "ring.h"

enum { BLOCK_ROWS = 4, MOST_ROWS = 2 * (BLOCK_ROWS - 1) + 3 };
/* BLOCK_VECTORS: sums of a block of rows, nine weights and an input take as many vectors of columns as the registers hold.
 * IN_PLACE: neighbours come out of registers where those suffice for the rows of a block; then nothing is copied. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define BLOCK_VECTORS 2
#define IN_PLACE 1
#else
#define BLOCK_VECTORS 1
#define IN_PLACE 0
#endif

/* A block of rows of outputs with a 3x3 window. */
typedef struct {
    const char *const *rows; /* of the input, one after another */
    int32_t width, out_w;    /* of a row of the input and of the outputs */
    const int32_t *offset;   /* where the three taps of a row's first output begin in it */
    const float *weights;
    float bias;
    const activation *end;
    float *y;
} block;

typedef struct {
    int32_t first, count;
} columns;

/* 3x3 without dilation: `outputs` rows by `vectors` vectors of columns at once, so that an input loaded serves all
 * rows that read it. */
static ALWAYS_INLINE void block_3x3(const int outputs, const int vectors, const int stride_y, const block *b,
                                    const W(vf) *weight, columns part) {
    const int32_t x = part.first;
    const int64_t at[3] = {b->offset[0] + 4 * x, b->offset[1] + 4 * x, b->offset[2] + 4 * x}, pitch = b->out_w;
    W(vf) sum[BLOCK_ROWS * BLOCK_VECTORS];
    UNROLL for (int i = 0; i < outputs * vectors; i++) sum[i] = W(set_f)(b->bias);
    UNROLL for (int row = 0; row < stride_y * (outputs - 1) + 3; row++) {
        UNROLL for (int tap = 0; tap < 3; tap++) {
            UNROLL for (int v = 0; v < vectors; v++) {
                const W(vf) input = W(load_f)(b->rows[row] + at[tap] + v * 4 * WIDE);
                UNROLL for (int m = 0; m < outputs; m++) {
                    const int ky = row - stride_y * m, i = m * vectors + v;
                    if (ky >= 0 && ky < 3) sum[i] = W(fma_f)(input, weight[3 * ky + tap], sum[i]);
                }
            }
        }
    }
    const W(vf) low = W(set_f)(b->end->low), high = W(set_f)(b->end->high);
    UNROLL for (int m = 0; m < outputs; m++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const W(vf) value = W(clip_f)(sum[m * vectors + v], low, high);
            float *to = b->y + x + m * pitch + v * WIDE;
            if (part.count >= vectors * WIDE)
                W(store_f)(to, value);
            else
                W(store_part_f)(to, value, part.count);
        }
    }
}

/* Columns by vectors; the last ones are moved back to end with the row, and compute some outputs again. */
static ALWAYS_INLINE void rows_3x3(const int outputs, const int stride_y, const block *b) {
    const int32_t width = b->out_w;
    W(vf) weight[9];
    UNROLL for (int i = 0; i < 9; i++) weight[i] = W(set_f)(b->weights[i]);
    for (int32_t x = 0; x < width;) {
        const int32_t wide = BLOCK_VECTORS * WIDE, rest = width - x;
        const int32_t vectors = rest > WIDE && width >= wide ? BLOCK_VECTORS : 1;
        if (rest < vectors * WIDE && width >= vectors * WIDE) x = width - vectors * WIDE;
        if (vectors == BLOCK_VECTORS && width >= wide)
            block_3x3(outputs, BLOCK_VECTORS, stride_y, b, weight, (columns){x, BLOCK_VECTORS * WIDE});
        else if (width >= WIDE)
            block_3x3(outputs, 1, stride_y, b, weight, (columns){x, WIDE});
        else
            block_3x3(outputs, 1, stride_y, b, weight, (columns){x, width});
        x += vectors * WIDE;
    }
}

#if IN_PLACE
/* Cells at .. of a row of `width`, zeros past its end. */
static ALWAYS_INLINE W(vi) cells_at(const char *row, int32_t at, int32_t width) {
    const int32_t rest = width - at;
    if (rest >= WIDE) return W(load_i)(row + 4 * at);
    return rest > 0 ? W(load_part_i)(row + 4 * at, rest) : W(set_i)(0);
}

/* 3x3 with one column of padding on the left: BLOCK_ROWS rows of outputs, read from the tensor itself. At stride 2 the
 * middle taps are the even cells and the others the odd ones. narrow: a vector holds a row of outputs. */
static ALWAYS_INLINE void rows_in_place(const int stride, const int narrow, const block *b) {
    const int count = stride * (BLOCK_ROWS - 1) + 3;
    const char *const *rows = b->rows;
    const int32_t width = b->width, out_w = b->out_w;
    W(vf) weight[9];
    W(vi) before[MOST_ROWS], here[MOST_ROWS];
    UNROLL for (int i = 0; i < 9; i++) weight[i] = W(set_f)(b->weights[i]);
    UNROLL for (int i = 0; i < count; i++) {
        before[i] = W(set_i)(0);
        if (stride == 1) here[i] = cells_at(rows[i], 0, width);
    }
    const W(vf) low = W(set_f)(b->end->low), high = W(set_f)(b->end->high);
    for (int32_t x = 0; x < (narrow ? 1 : out_w); x += WIDE) {
        W(vf) sum[BLOCK_ROWS];
        UNROLL for (int m = 0; m < BLOCK_ROWS; m++) sum[m] = W(set_f)(b->bias);
        UNROLL for (int i = 0; i < count; i++) {
            W(vi) tap[3];
            if (stride == 1) {
                const W(vi) next = narrow ? W(set_i)(0) : cells_at(rows[i], x + WIDE, width);
                tap[0] = W(one_before_i)(before[i], here[i]);
                tap[1] = here[i];
                tap[2] = W(one_after_i)(here[i], next);
                before[i] = here[i];
                here[i] = next;
            } else {
                const W(vi) left = cells_at(rows[i], 2 * x, width), right = cells_at(rows[i], 2 * x + WIDE, width);
                tap[1] = W(even_i)(left, right);
                tap[2] = W(odd_i)(left, right);
                tap[0] = W(one_before_i)(before[i], tap[2]);
                before[i] = tap[2];
            }
            UNROLL for (int m = 0; m < BLOCK_ROWS; m++) {
                const int ky = i - stride * m;
                if (ky < 0 || ky > 2) continue;
                UNROLL for (int kx = 0; kx < 3; kx++)
                    sum[m] = W(fma_f)(W(as_f)(tap[kx]), weight[3 * ky + kx], sum[m]);
            }
        }
        UNROLL for (int m = 0; m < BLOCK_ROWS; m++) {
            const W(vf) value = W(clip_f)(sum[m], low, high);
            if (out_w - x >= WIDE)
                W(store_f)(b->y + m * out_w + x, value);
            else
                W(store_part_f)(b->y + m * out_w + x, value, out_w - x);
        }
    }
}

/* Whether all columns that the middle taps meet are there, one column of padding in front of them. */
static int goes_in_place(const geometry *g) {
    return g->kernel_h == 3 && g->kernel_w == 3 && g->dilation_y == 1 && g->dilation_x == 1 && g->pad_left == 1 &&
           g->stride_x == g->stride_y && g->stride_x <= 2 && g->out_h >= BLOCK_ROWS &&
           (g->out_w - 1) * g->stride_x < g->width;
}

static void channel_in_place(const depthwise_job *job, const padded_rows *rows, const piece *p, const float *weights,
                             float bias, float *y) {
    const geometry *g = job->shape;
    const int32_t width = g->width, height = g->height, out_w = g->out_w, stride = g->stride_x, end_row = p->end_row;
    const int32_t pad_top = g->pad_top, count = stride * (BLOCK_ROWS - 1) + 3;
    const char *source = (const char *)rows->source, *blank = (const char *)(rows->ring + rows->slots * rows->row_cells);
    const activation end = *job->float_end;
    for (int32_t oy = p->row; oy < end_row; oy += BLOCK_ROWS) {
        if (end_row - oy < BLOCK_ROWS) oy = end_row - BLOCK_ROWS; /* some rows again */
        const char *row[MOST_ROWS];
        ONE_BY_ONE for (int32_t i = 0; i < count; i++) {
            const int32_t in = oy * stride + i - pad_top;
            row[i] = (uint32_t)in < (uint32_t)height ? source + 4 * (int64_t)in * width : blank;
        }
        const block b = {
            .rows = row, .width = width, .out_w = out_w, .weights = weights, .bias = bias, .end = &end,
            .y = y + (int64_t)oy * out_w,
        };
        if (stride == 1 && width <= WIDE)
            rows_in_place(1, 1, &b);
        else if (stride == 1)
            rows_in_place(1, 0, &b);
        else if (out_w <= WIDE)
            rows_in_place(2, 1, &b);
        else
            rows_in_place(2, 0, &b);
    }
}
#endif

static void one_row(const depthwise_job *job, const padded_rows *rows, int32_t first_row, const float *weights,
                    float bias, float *y) {
    const geometry *g = job->shape;
    const W(vf) low = W(set_f)(job->float_end->low), high = W(set_f)(job->float_end->high);
    for (int32_t x = 0; x < g->out_w; x += WIDE) {
        W(vf) sum = W(set_f)(bias);
        const float *weight = weights;
        for (int32_t ky = 0; ky < g->kernel_h; ky++) {
            const char *from = (const char *)(padded_row(rows, first_row + ky * g->dilation_y) + x);
            for (int32_t kx = 0; kx < g->kernel_w; kx++, weight++)
                sum = W(fma_f)(W(load_f)(from + job->offset[kx]), W(set_f)(*weight), sum);
        }
        const W(vf) value = W(clip_f)(sum, low, high);
        if (g->out_w - x >= WIDE)
            W(store_f)(y + x, value);
        else
            W(store_part_f)(y + x, value, g->out_w - x);
    }
}

TASK(depthwise) {
    const depthwise_job *job = data;
    const geometry *g = job->shape;
    const int small = g->kernel_h == 3 && g->kernel_w == 3 && g->dilation_y == 1 && g->stride_y <= 2;
    const piece p = piece_of_part(job, number);
    const int32_t width = g->out_w, stride = g->stride_y, reach = g->dilation_y * (g->kernel_h - 1), end_row = p.end_row;
    const int32_t outputs = small && end_row - p.row >= BLOCK_ROWS ? BLOCK_ROWS : 1;
    const int32_t count = (outputs - 1) * stride + reach + 1;
    const int32_t offset[3] = {job->offset[0], job->offset[small], job->offset[2 * small]};
    const activation float_end = *job->float_end;
    padded_rows rows = open_rows(job, number);
#if IN_PLACE
    const int in_place = goes_in_place(g);
#else
    const int in_place = 0;
#endif
    if (!in_place) pad_ring(&rows);
    for (int32_t channel = p.channel; channel < p.end_channel; channel++) {
        const float *weights = job->weights + (int64_t)channel * job->taps, bias = job->float_end->bias[channel];
        float *y = (float *)job->output + (int64_t)channel * g->out_h * width;
        begin_channel(&rows, channel);
#if IN_PLACE
        if (in_place) {
            channel_in_place(job, &rows, &p, weights, bias, y);
            continue;
        }
#endif
        for (int32_t oy = p.row; oy < end_row; oy += outputs) {
            if (end_row - oy < outputs) oy = end_row - outputs; /* some rows again */
            const int32_t first = oy * stride;
            if (rows.next < first + count) enter_rows(&rows, first);
            float *to = y + (int64_t)oy * width;
            if (small) {
                const char *row[MOST_ROWS];
                ONE_BY_ONE for (int32_t i = 0; i < count; i++) row[i] = (const char *)padded_row(&rows, first + i);
                const block b = {
                    .rows = row, .out_w = width, .offset = offset, .weights = weights, .bias = bias, .end = &float_end, .y = to,
                };
                if (outputs == 1)
                    rows_3x3(1, 1, &b);
                else if (stride == 1)
                    rows_3x3(BLOCK_ROWS, 1, &b);
                else
                    rows_3x3(BLOCK_ROWS, 2, &b);
            } else {
                one_row(job, &rows, first, weights, bias, to);
            }
        }
    }
}
