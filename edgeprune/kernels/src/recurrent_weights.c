/* The weights that multiply the state of a recurrent layer, as its steps read them: several rows side by side, those of
 * about the same length together, so that a step ends no loop after a few weights. */
#include "weights.h"

/* What a row of weights, or of blocks of four rows, still holds. */
typedef struct {
    const uint16_t *index;
    const float *value;
    uint32_t left;
    int32_t stride; /* values from one entry to the next */
} row_walk;

/* Expanded weights and their gates, each of so many rows. */
typedef struct {
    const sparse_gemm *weights;
    int32_t gates, padded, width;
} gate_rows;

/* From a gate's row on; past its last one there is nothing. */
static row_walk walk_row(const gate_rows *g, int32_t gate, int32_t row) {
    const sparse_gemm *w = g->weights;
    if (row >= g->padded) return (row_walk){0};
    const int32_t all = gate * g->padded + row, block = all / w->rows;
    const uint32_t from = w->start[block];
    const float *value = (const float *)w->values + (int64_t)from * w->rows + all % w->rows;
    return (row_walk){w->index + from, value, w->start[block + 1] - from, w->rows};
}

static void pass_entry(row_walk *row) {
    row->left--;
    row->index++;
    row->value += row->stride;
}

/* ---- four rows, or blocks of four rows, at a time ---- */

static int32_t steps_of(step_form form, row_walk row) {
    if (form == FOUR_ROWS) return (int32_t)row.left;
    if (form == SINGLES) return (int32_t)(row.left + 3) / 4;
    int32_t steps = 0;
    for (int32_t last = -1; row.left; pass_entry(&row)) {
        steps += *row.index / 4 != last;
        last = *row.index / 4;
    }
    return steps;
}

/* A row's part of a step: four values, and the index or, of single weights, the four that they have. A row that has come to
 * its end multiplies `none`, which is zero. */
static void put_part(step_form form, row_walk *row, uint16_t none, float *value, uint16_t *index) {
    const uint32_t singles = form == SINGLES ? 4 : 1;
    for (uint32_t k = 0; k < 4; k++) value[k] = 0;
    for (uint32_t k = 0; k < singles; k++) index[k] = none;
    if (!row->left) return;
    if (form == FOUR_INPUTS) {
        for (*index = *row->index & ~3; row->left && (*row->index & ~3) == *index; pass_entry(row)) value[*row->index % 4] = *row->value;
        return;
    }
    for (uint32_t k = 0; k < singles && row->left; k++, pass_entry(row)) {
        index[k] = *row->index;
        for (int i = 0; i < (form == FOUR_ROWS ? 4 : 1); i++) value[(int)k + i] = row->value[i];
    }
}

/* The rows of a gate, those with the most steps first. Returns the most. */
static int32_t sort_rows(const gate_rows *g, int32_t gate, int32_t of_block, int32_t *steps, const step_weights *out) {
    const int32_t count = g->width / of_block;
    int32_t most = 0, placed = 0, *row = out->row + (int64_t)gate * count;
    for (int32_t i = 0; i < count; i++) {
        steps[i] = steps_of(out->form, walk_row(g, gate, i * of_block));
        most = steps[i] > most ? steps[i] : most;
    }
    for (int32_t wanted = most; wanted >= 0; wanted--)
        for (int32_t i = 0; i < count; i++)
            if (steps[i] == wanted) row[placed++] = i * of_block;
    return most;
}

static const char *put_rows(allocate get, void *owner, const gate_rows *g, step_weights *out) {
    const int32_t of_block = out->form == FOUR_ROWS ? 4 : 1, in_gate = g->width / of_block;
    const int64_t slices = (int64_t)g->gates * (in_gate / 4);
    const uint16_t none = (uint16_t)g->width;
    const size_t indices = out->form == SINGLES ? STEP_VALUES : 4;
    out->slices = in_gate / 4;
    int32_t *steps = get(owner, 4 * (size_t)in_gate);
    out->row = get(owner, 16 * (size_t)slices);
    out->start = get(owner, 4 * ((size_t)slices + 1));
    if (!steps || !out->row || !out->start) return "out of memory for the weights";
    out->start[0] = 0;
    for (int32_t gate = 0; gate < g->gates; gate++) {
        sort_rows(g, gate, of_block, steps, out);
        for (int32_t i = 0; i < out->slices; i++) {
            const int64_t slice = (int64_t)gate * out->slices + i;
            out->start[slice + 1] = out->start[slice] + (uint32_t)steps[out->row[4 * slice] / of_block];
        }
    }
    const size_t all = out->start[slices];
    out->index = get(owner, 2 * indices * all);
    out->value = get(owner, 4 * STEP_VALUES * all);
    if (!out->index || !out->value) return "out of memory for the weights";
    for (int64_t slice = 0; slice < slices; slice++)
        for (int k = 0; k < 4; k++) {
            row_walk row = walk_row(g, (int32_t)(slice / out->slices), out->row[4 * slice + k]);
            for (size_t step = out->start[slice]; step < out->start[slice + 1]; step++)
                put_part(out->form, &row, none, out->value + STEP_VALUES * step + 4 * k, out->index + indices * step + indices / 4 * (size_t)k);
        }
    return 0;
}

/* ---- rows in the lanes of vectors ---- */

/* The steps of one slice from `step` on; written down if there is somewhere to. Each takes the window in which the row that
 * is furthest behind goes on, and with it whatever other rows have there. */
static uint32_t put_slice(row_walk *rows, int32_t inputs, uint32_t step, const step_weights *out) {
    for (;; step++) {
        int32_t lowest = inputs;
        for (int32_t k = 0; k < LANE_ROWS; k++)
            if (rows[k].left && *rows[k].index < lowest) lowest = *rows[k].index;
        if (lowest == inputs) return step;
        const int32_t window = lowest / WIDEST, first = window * WIDEST;
        if (out->value) out->index[step] = (uint16_t)window;
        for (int32_t k = 0; k < LANE_ROWS; k++) {
            const size_t slot = (size_t)step * LANE_ROWS + (size_t)k;
            const int taken = rows[k].left && *rows[k].index < first + LANE_WINDOW;
            if (out->value) {
                out->value[slot] = taken ? *rows[k].value : 0;
                out->place[slot] = taken ? (uint8_t)(LANE_TAKEN | (*rows[k].index - first)) : 0;
            }
            if (taken) pass_entry(rows + k);
        }
    }
}

static const char *put_lanes(allocate get, void *owner, const gate_rows *g, step_weights *out) {
    out->slices = (g->width + LANE_ROWS - 1) / LANE_ROWS;
    const int32_t slices = g->gates * out->slices;
    out->start = get(owner, 4 * ((size_t)slices + 1));
    if (!out->start) return "out of memory for the weights";
    for (int pass = 0; pass < 2; pass++) {
        uint32_t step = 0;
        for (int32_t slice = 0; slice < slices; slice++) {
            row_walk rows[LANE_ROWS];
            for (int32_t k = 0; k < LANE_ROWS; k++)
                rows[k] = walk_row(g, slice / out->slices, slice % out->slices * LANE_ROWS + k);
            out->start[slice] = step;
            step = put_slice(rows, g->weights->inputs, step, out);
        }
        out->start[slices] = step;
        if (pass) return 0;
        const size_t slots = (size_t)step * LANE_ROWS;
        out->index = get(owner, 2 * (size_t)step);
        out->place = get(owner, slots);
        out->value = get(owner, 4 * slots);
        if (!out->index || !out->place || !out->value) return "out of memory for the weights";
    }
    return 0;
}

/* Whether single weights come mostly in fours of neighbouring inputs, as those of a block:1x4 do. */
static int are_blocks(const sparse_gemm *w) {
    int64_t groups = 0;
    for (int32_t row = 0; row < w->row_blocks; row++)
        for (uint32_t i = w->start[row]; i < w->start[row + 1]; i++)
            groups += i == w->start[row] || w->index[i] / 4 != w->index[i - 1] / 4;
    return w->start[w->row_blocks] >= 3 * groups;
}

const char *put_step_weights(const expansion *e, const sparse_gemm *w, int32_t gates, int32_t in_lanes, step_weights *out) {
    const int32_t padded = w->outputs / gates;
    const gate_rows g = {w, gates, padded, (int32_t)whole_vectors(padded)};
    const step_form single = in_lanes ? IN_LANES : SINGLES;
    *out = (step_weights){.form = w->rows == 4 ? FOUR_ROWS : are_blocks(w) ? FOUR_INPUTS : single};
    return (out->form == IN_LANES ? put_lanes : put_rows)(e->get, e->owner, &g, out);
}
