/* Rows of weights side by side in the lanes of a vector, for products of one column. */
#include "weights.h"

/* A row of weights as it is walked along: its entries, `step` values apart. */
typedef struct {
    const uint16_t *index;
    const float *value;
    uint32_t left;
    int32_t step;
} row_walk;

static row_walk walk_row(const sparse_gemm *w, int32_t row) {
    const int32_t block = row / w->rows;
    const uint32_t from = w->start[block];
    const float *values = (const float *)w->values + (int64_t)from * w->rows + row % w->rows;
    return (row_walk){w->index + from, values, w->start[block + 1] - from, w->rows};
}

/* Past what is stored as zero: of a block of four rows each goes on alone. */
static void skip_zeros(row_walk *row) {
    for (; row->left && *row->value == 0; row->left--, row->index++) row->value += row->step;
}

/* The steps of one slice from `step` on; written down if there is somewhere to. Each takes the window in which the row that
 * is furthest behind goes on, and with it whatever other rows have there. */
static uint32_t put_slice(const sparse_gemm *w, int32_t first, int32_t end, uint32_t step, const lanes *out) {
    row_walk rows[LANE_ROWS];
    for (int32_t k = 0; k < LANE_ROWS; k++) {
        rows[k] = first + k < end ? walk_row(w, first + k) : (row_walk){0};
        skip_zeros(rows + k);
    }
    for (;; step++) {
        int32_t lowest = w->inputs;
        for (int32_t k = 0; k < LANE_ROWS; k++)
            if (rows[k].left && *rows[k].index < lowest) lowest = *rows[k].index;
        if (lowest == w->inputs) return step;
        const int32_t window = lowest / WIDEST;
        for (int32_t k = 0; k < LANE_ROWS; k++) {
            const size_t slot = (size_t)step * LANE_ROWS + (size_t)k;
            const int taken = rows[k].left && *rows[k].index < window * WIDEST + LANE_WINDOW;
            if (out->weight) {
                out->weight[slot] = taken ? *rows[k].value : 0;
                out->place[slot] = taken ? (uint8_t)(LANE_TAKEN | (*rows[k].index - window * WIDEST)) : 0;
                out->window[step] = (uint16_t)window;
            }
            if (!taken) continue;
            rows[k].left--;
            rows[k].index++;
            rows[k].value += rows[k].step;
            skip_zeros(rows + k);
        }
    }
}

const char *put_side_by_side(allocate get, void *owner, const sparse_gemm *w, int32_t group, lanes *out) {
    const int32_t in_group = (group + LANE_ROWS - 1) / LANE_ROWS, slices = w->outputs / group * in_group;
    *out = (lanes){.start = get(owner, 4 * ((size_t)slices + 1))};
    if (!out->start) return "out of memory for the weights";
    for (int pass = 0; pass < 2; pass++) {
        uint32_t step = 0;
        for (int32_t slice = 0; slice < slices; slice++) {
            const int32_t from = slice / in_group * group, first = from + slice % in_group * LANE_ROWS;
            out->start[slice] = step;
            step = put_slice(w, first, from + group, step, out);
        }
        out->start[slices] = step;
        if (pass) return 0;
        const size_t slots = (size_t)step * LANE_ROWS;
        out->window = get(owner, 2 * (size_t)step);
        out->place = get(owner, slots);
        out->weight = get(owner, 4 * slots);
        if (!out->window || !out->place || !out->weight) return "out of memory for the weights";
    }
    return 0;
}
