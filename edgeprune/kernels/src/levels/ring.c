#include "ring.h"

void pad_ring(const padded_rows *rows) {
    const depthwise_job *job = rows->job;
    const geometry *g = job->shape;
    for (int32_t phase = 0; phase < job->phases; phase++) {
        int32_t first, end;
        inside(phase - g->pad_left, job->split, g->width, job->phase_used, &first, &end);
        uint32_t *row = rows->ring + (int64_t)phase * job->phase_cells;
        for (int32_t slot = 0; slot < job->slots; slot++, row += job->row_cells) {
            fill_cells(row, first, job->fill);
            /* What vectors read past the padding must be no slow float, though it counts nowhere. */
            fill_cells(row + end, (job->weights ? job->phase_cells : job->phase_used) - end, job->fill);
        }
    }
}

piece piece_of_part(const depthwise_job *job, size_t part) {
    const int32_t of_channels = job->parts / job->bands, band = (int32_t)part / of_channels;
    const int64_t number = (int32_t)part % of_channels, channels = job->shape->channels, rows = job->shape->out_h;
    if (job->threads) note_thread(job->threads, 0);
    return (piece){(int32_t)(channels * number / of_channels), (int32_t)(channels * (number + 1) / of_channels),
                   (int32_t)(rows * band / job->bands), (int32_t)(rows * (band + 1) / job->bands)};
}

/* Columns 0, stride, 2 * stride ... of a row. */
static void copy_columns(const uint32_t *from, uint32_t *to, int32_t stride, int32_t count) {
    if (stride == 2)
        copy_even_cells(from, to, count);
    else
        for (int32_t i = 0; i < count; i++) to[i] = from[(int64_t)i * stride];
}

void enter_rows(padded_rows *rows, int32_t first) {
    const depthwise_job *job = rows->job;
    const geometry *g = job->shape;
    int32_t begin = rows->next > first ? rows->next : first;
    int32_t end = first + job->slots;
    rows->next = end;
    if (begin < g->pad_top) begin = g->pad_top;
    if (end > g->pad_top + g->height) end = g->pad_top + g->height;
    for (int32_t phase = 0; phase < job->phases; phase++) {
        int32_t first_cell, end_cell;
        inside(phase - g->pad_left, job->split, g->width, job->phase_used, &first_cell, &end_cell);
        const uint32_t *from = rows->source + (int64_t)(begin - g->pad_top) * g->width + phase - g->pad_left;
        from += (int64_t)first_cell * job->split;
        uint32_t *to = rows->ring + (int64_t)phase * job->phase_cells + first_cell;
        const int32_t mask = rows->slots - 1, row_cells = rows->row_cells, width = g->width, split = job->split;
        if (split == 1)
            for (int32_t row = begin; row < end; row++, from += width)
                copy_cells(from, to + (int64_t)(row & mask) * row_cells, end_cell - first_cell);
        else
            for (int32_t row = begin; row < end; row++, from += width)
                copy_columns(from, to + (int64_t)(row & mask) * row_cells, split, end_cell - first_cell);
    }
}
