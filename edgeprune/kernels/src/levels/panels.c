/* Vectors of examples against rows of weights. */
#include "ends.h"
#include "product.h"

/* A cell of an example's inputs, in the level's domain. */
static uint32_t input_cell(const gemm_job *job, int64_t example, int32_t k) {
    const sparse_gemm *w = job->weights;
    uint32_t cell = 0;
    if (w->kind == KIND_FLOAT) {
        __builtin_memcpy(&cell, (const float *)job->input + example * w->inputs + k, 4);
        return cell;
    }
    const uint8_t *x = (const uint8_t *)job->input + example * w->inputs + 4 * k;
    const int32_t rest = w->inputs - 4 * k;
    if (rest >= 4)
        __builtin_memcpy(&cell, x, 4);
    else
        for (int32_t i = 0; i < rest; i++) cell |= (uint32_t)x[i] << (8 * i);
    return cell ^ job->flip;
}

/* A part of a panel: [inputs or groups][pitch] cells, one column an example, so that a row of weights meets vectors of
 * examples; the columns left over hold zeros. With a pitch of one, int8 inputs are copied for their padding and domain. */
TASK(gemm_panel) {
    const gemm_job *job = data;
    const sparse_gemm *w = job->weights;
    const int32_t cells = input_cells(w), pitch = job->pitch;
    const int64_t panel = (int64_t)number / job->panel_parts, part = (int64_t)number % job->panel_parts, first = panel * pitch;
    const int32_t end = (int32_t)(cells * (part + 1) / job->panel_parts);
    uint32_t *to = (uint32_t *)job->panels + panel * cells * pitch;
    enum { NEAR_CELLS = 16 }; /* by so many inputs, for whose lines the nearest cache has room on both sides */
    for (int32_t k = (int32_t)(cells * part / job->panel_parts); k < end; k += NEAR_CELLS) {
        const int32_t some = end - k < NEAR_CELLS ? end : k + NEAR_CELLS;
        for (int32_t column = 0; column < pitch; column++)
            for (int32_t i = k; i < some; i++)
                to[(int64_t)i * pitch + column] = first + column < job->batch ? input_cell(job, first + column, i) : 0;
    }
}

/* One row of weights, or four, against vectors of examples. With few vectors a single chain of additions would wait for
 * itself. */
enum { COLUMN_VECTORS = 4, COLUMN_VECTORS_F4 = TILE_F4 > 3 ? 4 : 2 };

typedef struct {
    const char *x;     /* a panel's column */
    int64_t row_bytes; /* from one input to the next */
    const uint16_t *index;
    const float *value, *bias;
    uint32_t count;
    float *sums;
} panel_row;

static ALWAYS_INLINE void columns_f1_body(const int vectors, const panel_row *row) {
    const char *x = row->x;
    const int64_t row_bytes = row->row_bytes;
    const uint16_t *index = row->index;
    const float *value = row->value, bias = *row->bias;
    float *sums = row->sums;
    uint32_t count = row->count;
    const int sets = vectors == 1 ? 4 : vectors == 2 ? 2 : 1;
    W(vf) sum[COLUMN_VECTORS];
    UNROLL for (int i = 0; i < vectors * sets; i++) sum[i] = W(set_f)(i < vectors ? bias : 0);
    for (; count >= (uint32_t)sets; count -= sets, index += sets, value += sets)
        UNROLL for (int s = 0; s < sets; s++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[s * vectors + v] = W(fma_f)(W(load_f)(x + index[s] * row_bytes + v * 4 * WIDE), W(set_f)(value[s]),
                                                sum[s * vectors + v]);
    for (; count; count--, index++, value++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = W(fma_f)(W(load_f)(x + *index * row_bytes + v * 4 * WIDE), W(set_f)(*value), sum[v]);
    UNROLL for (int i = vectors; i < vectors * sets; i++) sum[i % vectors] = W(add_f)(sum[i % vectors], sum[i]);
    UNROLL for (int v = 0; v < vectors; v++) W(store_f)(sums + v * WIDE, sum[v]);
}

static ALWAYS_INLINE void columns_f4_body(const int vectors, const panel_row *row) {
    const char *x = row->x;
    const int64_t row_bytes = row->row_bytes;
    const uint16_t *index = row->index;
    const float *value = row->value, *bias = row->bias;
    float *sums = row->sums;
    uint32_t count = row->count;
    const int sets = vectors == 1 ? 2 : 1;
    W(vf) sum[4 * COLUMN_VECTORS_F4];
    UNROLL for (int i = 0; i < 4 * vectors * sets; i++) sum[i] = W(set_f)(i < 4 * vectors ? bias[i / vectors] : 0);
    for (; count >= (uint32_t)sets; count -= sets, index += sets, value += 4 * sets) {
        UNROLL for (int s = 0; s < sets; s++) {
            UNROLL for (int v = 0; v < vectors; v++) {
                const W(vf) input = W(load_f)(x + index[s] * row_bytes + v * 4 * WIDE);
                UNROLL for (int m = 0; m < 4; m++) {
                    const int i = (s * 4 + m) * vectors + v;
                    sum[i] = W(fma_f)(input, W(set_f)(value[4 * s + m]), sum[i]);
                }
            }
        }
    }
    if (sets == 2) {
        for (; count; count--, index++, value += 4)
            UNROLL for (int m = 0; m < 4; m++)
                sum[m] = W(fma_f)(W(load_f)(x + *index * row_bytes), W(set_f)(value[m]), sum[m]);
        UNROLL for (int m = 0; m < 4; m++) sum[m] = W(add_f)(sum[m], sum[4 + m]);
    }
    UNROLL for (int m = 0; m < 4; m++)
        UNROLL for (int v = 0; v < vectors; v++) W(store_f)(sums + m * PANEL + v * WIDE, sum[m * vectors + v]);
}

static ALWAYS_INLINE void columns_i4_body(const int vectors, const gemm_job *job, const char *x, int32_t row,
                                          int32_t *sums) {
    const sparse_gemm *w = job->weights;
    const int64_t row_bytes = 4 * job->pitch;
    W(va) sum[COLUMN_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = W(start_a)(job->integer_end->bias[row]);
#if BY_LANE
    const slices *s = &w->by_lane;
    const uint32_t *start = s->start + (int64_t)(row / SLICE_ROWS) * s->windows;
    for (int32_t window = 0; window < s->windows; window++, x += SLICE_CELLS * row_bytes) {
        for (uint32_t step = start[window]; step < start[window + 1]; step++) {
            const int64_t slot = (int64_t)step * SLICE_ROWS + row % SLICE_ROWS;
            const char *from = x + s->place[slot] * row_bytes;
            UNROLL for (int v = 0; v < vectors; v++)
                sum[v] = W(dot_)(sum[v], W(load_i)(from + v * 4 * WIDE), W(weight_)(s->weight[slot]));
        }
    }
#else
    const int32_t *value = w->values;
    for (uint32_t i = w->start[row]; i < w->start[row + 1]; i++) {
        const W(vw) weight = W(weight_)(value[i]);
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = W(dot_)(sum[v], W(load_i)(x + w->index[i] * row_bytes + v * 4 * WIDE), weight);
    }
#endif
    UNROLL for (int v = 0; v < vectors; v++) W(store_i)(sums + v * WIDE, W(total_)(sum[v]));
}

/* A register array needs a number of vectors that the compiler knows. */
#define COLUMNS(vectors, most, body, ...) \
    switch (vectors) { \
    case 1: body(1, __VA_ARGS__); break; \
    case 2: body(2, __VA_ARGS__); break; \
    case 3: body(most > 2 ? 3 : 2, __VA_ARGS__); break; \
    default: body(most, __VA_ARGS__); break; \
    }

/* So many outputs are put together before they are stored, for an example's outputs lie far from the next one's. */
enum { COLUMN_ROWS = 16 };

static void columns_float(const gemm_job *job, int32_t block, int32_t vectors, const char *x, float *sums) {
    const sparse_gemm *w = job->weights;
    const uint32_t from = w->start[block];
    panel_row row = {
        .x = x, .row_bytes = 4 * job->pitch, .index = w->index + from, .count = w->start[block + 1] - from,
        .value = (const float *)w->values + (int64_t)from * w->rows, .bias = job->float_end->bias + block * w->rows,
        .sums = sums,
    };
    if (w->rows == 1) {
        COLUMNS(vectors, COLUMN_VECTORS, columns_f1_body, &row)
        return;
    }
    for (; vectors > 0; vectors -= COLUMN_VECTORS_F4) {
        COLUMNS(vectors, COLUMN_VECTORS_F4, columns_f4_body, &row)
        row.x += COLUMN_VECTORS_F4 * 4 * WIDE;
        row.sums += COLUMN_VECTORS_F4 * WIDE;
    }
}

static void columns_integer(const gemm_job *job, int32_t row, int32_t vectors, const char *x, int32_t *sums) {
    COLUMNS(vectors, COLUMN_VECTORS, columns_i4_body, job, x, row, sums)
}

/* sums: [rows][PANEL]; the outputs from `row` on of the examples from `first` on. */
static void store_floats(const gemm_job *job, int32_t row, int32_t rows, int64_t first, int32_t examples, const float *sums) {
    for (int32_t n = 0; n < examples; n++) {
        const int64_t at = (first + n) * job->weights->outputs + row;
        for (int32_t m = 0; m < rows; m++) {
            const float sum = sums[m * PANEL + n] + (job->residual ? job->residual[at + m] : 0);
            ((float *)job->output)[at + m] = clip(sum, job->float_end);
        }
    }
}

static void store_integers(const gemm_job *job, int32_t row, int32_t rows, int64_t first, int32_t examples,
                           const int32_t *sums) {
    uint32_t cells[COLUMN_ROWS / 4][PANEL];
    for (int32_t m = 0; m < rows; m += 4)
        requantize(sums + m * PANEL, cells[m / 4], PANEL, examples, job->integer_end, (row + m) / 4);
    for (int32_t n = 0; n < examples; n++)
        for (int32_t m = 0; m < rows; m += 4) store_outputs(job, first + n, (row + m) / 4, cells[m / 4][n]);
}

/* Outputs [row, row + rows) of a panel's examples. */
static void gemm_columns(const gemm_job *job, int64_t panel, int32_t row, int32_t rows) {
    const sparse_gemm *w = job->weights;
    const int integer = w->kind == KIND_INT8;
    const int64_t cells = input_cells(w), first = panel * job->pitch, rest = job->batch - first;
    const int32_t examples = rest < job->pitch ? (int32_t)rest : job->pitch;
    float floats[COLUMN_ROWS * PANEL] __attribute__((aligned(64)));
    int32_t integers[COLUMN_ROWS * PANEL] __attribute__((aligned(64)));
    for (int32_t column = 0; column < examples; column += COLUMN_VECTORS * WIDE) {
        const char *x = (const char *)job->panels + 4 * (panel * cells * job->pitch + column);
        const int32_t left = (examples - column + WIDE - 1) / WIDE, vectors = left < COLUMN_VECTORS ? left : COLUMN_VECTORS;
        for (int32_t m = 0; m < rows; m += w->rows) {
            if (integer)
                columns_integer(job, row + m, vectors, x, integers + m * PANEL + column);
            else
                columns_float(job, (row + m) / w->rows, vectors, x, floats + m * PANEL + column);
        }
    }
    if (integer)
        store_integers(job, row, rows, first, examples, integers);
    else
        store_floats(job, row, row + rows > w->outputs ? w->outputs - row : rows, first, examples, floats);
}

void gemm_batch(const gemm_job *job, int32_t first, int32_t end) {
    const int32_t rows = job->weights->rows;
    for (int32_t row = first * rows; row < end * rows; row += COLUMN_ROWS) {
        const int32_t left = end * rows - row, some = left < COLUMN_ROWS ? left : COLUMN_ROWS;
        for (int64_t panel = 0; panel * job->pitch < job->batch; panel++) gemm_columns(job, panel, row, some);
    }
}
