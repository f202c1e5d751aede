/* The largest of a window. */
#include "cells.h"
#include "copies.h"

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

TASK(max_pool) {
    const conv_job *job = data;
    const int64_t channels = job->shape->channels, end = channels * (int64_t)(number + 1) / job->copy_parts;
    copy_plan plan;
    plan_copy(job->shape, job->fill, all_rows(job->shape), &plan);
    for (int64_t channel = channels * (int64_t)number / job->copy_parts; channel < end; channel++)
        max_pool_channel(job, &plan, channel);
}
