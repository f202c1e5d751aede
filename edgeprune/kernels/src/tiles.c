#include "tiles.h"

void place_tile(const conv_job *job, int32_t index, tile *t) {
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

row_range rows_of_tiles(const conv_job *job, int32_t first, int32_t end) {
    const geometry *g = job->shape;
    tile from, to;
    place_tile(job, first, &from);
    place_tile(job, end - 1, &to);
    const int32_t first_row = clamp_int(from.start / g->pitch + g->first_row, 0, g->rows);
    const int32_t last = (to.start + to.vectors * job->lanes - 1) / g->pitch + g->last_row;
    /* With padding between rows, a run's last columns may be the next row's. */
    return (row_range){first_row, clamp_int(last + (g->form == PHASES ? 2 : 1), first_row, g->rows)};
}

int32_t part_start(const uint32_t *start, int32_t row_blocks, int32_t step, int32_t parts, int32_t part) {
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
