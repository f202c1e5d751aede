#include "copies.h"

#include "cells.h"

/* All ones where lane i lies in [low, high), and its column, in rows of `period`, in [first, end). */
static W(vi) mask_of_lanes(int64_t low, int64_t high, int32_t period, int32_t first, int32_t end) {
    int32_t lanes[WIDE] __attribute__((aligned(64)));
    for (int32_t i = 0; i < WIDE; i++)
        lanes[i] = -(i >= low && i < high && i % period >= first && i % period < end);
    return W(load_i)(lanes);
}

static void plan_lines(const geometry *g, view_plan *p) {
    const int32_t pitch = g->pitch, rows = p->end_row - p->first_row;
    const int whole = p->first == 0 && p->end == pitch;
    const int one = g->stride_y == 1 && g->stride_x == 1 && pitch == g->width && (whole || WIDE % pitch == 0);
    p->skip = one ? (int32_t)((int64_t)p->first_row * pitch % WIDE) : 0;
    p->line = one ? (int64_t)rows * pitch : pitch;
    p->source_line = one ? p->line : (int64_t)g->stride_y * g->width;
    p->vectors = (p->skip + p->line + WIDE - 1) / WIDE;
    const int64_t before = (p->vectors - 1) * WIDE, rest = p->skip + p->line - before;
    if (one) {
        const int32_t period = whole ? 1 : pitch, first = whole ? 0 : p->first, end = whole ? 1 : p->end;
        p->left = mask_of_lanes(p->skip, before ? WIDE : rest, period, first, end);
        p->inner = mask_of_lanes(0, WIDE, period, first, end);
        p->right = mask_of_lanes(0, rest, period, first, end);
        p->lines = rows > 0;
    } else {
        p->left = mask_of_lanes(p->first, p->end, 1, 0, 1);
        p->inner = W(set_i)(-1);
        p->right = mask_of_lanes(p->first - before, p->end - before, 1, 0, 1);
        p->lines = g->stride_x <= 2 && (before == 0 || (p->first <= WIDE && p->end >= before)) ? rows : 0;
    }
    p->reach = (p->lines - 1) * p->source_line + p->vectors * WIDE * g->stride_x - p->skip;
}

static void plan_view(const geometry *g, plane_view view, row_range rows, view_plan *p) {
    /* After the last row of all lies what runs read past it; after that of a range at least the next row's padding. */
    const int64_t last = rows.end >= g->rows ? g->plane : (int64_t)rows.end * g->pitch;
    inside(view.y, g->stride_y, g->height, g->rows, &p->first_row, &p->end_row);
    inside(view.x, g->stride_x, g->width, g->pitch, &p->first, &p->end);
    p->first_row = clamp_int(p->first_row, rows.first, rows.end);
    p->end_row = clamp_int(p->end_row, p->first_row, rows.end);
    if (p->first >= p->end) p->end_row = p->first_row;
    p->head = (cell_range){(int64_t)rows.first * g->pitch, (int64_t)p->first_row * g->pitch};
    p->tail = (cell_range){(int64_t)p->end_row * g->pitch, last};
    p->source = (int64_t)(p->first_row * g->stride_y + view.y) * g->width + view.x;
    plan_lines(g, p);
}

void plan_copy(const geometry *g, uint32_t fill, row_range rows, copy_plan *plan) {
    plan->shape = g;
    plan->fill = fill;
    for (int32_t v = 0; v < g->views && !g->gather; v++) plan_view(g, g->view[v], rows, plan->view + v);
}

static ALWAYS_INLINE void copy_lines(const view_plan *p, const uint32_t *x, uint32_t *to, int64_t lines,
                                     const int stride, uint32_t fill) {
    const W(vi) left = p->left, inner = p->inner, right = p->right, other = W(set_i)((int32_t)fill);
    const int64_t last = (p->vectors - 1) * WIDE;
#define TAKEN(i) (stride == 1 ? W(load_i)(x + (i)) : W(even_i)(W(load_i)(x + 2 * (i)), W(load_i)(x + 2 * (i) + WIDE)))
    for (int64_t line = 0; line < lines; line++, x += p->source_line, to += p->line) {
        W(store_i)(to, W(select_i)(left, TAKEN(0), other));
        for (int64_t i = WIDE; i < last; i += WIDE) W(store_i)(to + i, W(select_i)(inner, TAKEN(i), other));
        if (last) W(store_i)(to + last, W(select_i)(right, TAKEN(last), other));
    }
#undef TAKEN
}

/* Widened to whole vectors. */
static void fill_range(uint32_t *to, cell_range cells, uint32_t fill) {
    for (int64_t i = cells.first / WIDE * WIDE; i < cells.end; i += WIDE) W(store_i)(to + i, W(set_i)((int32_t)fill));
}

/* Rows one by one, with nothing read or written that is not theirs. */
static void copy_rows(const geometry *g, const view_plan *p, const uint32_t *x, uint32_t *to, int64_t rows,
                      uint32_t fill) {
    for (int64_t i = 0; i < rows; i++, x += (int64_t)g->stride_y * g->width, to += g->pitch) {
        fill_cells(to, p->first, fill);
        if (g->stride_x == 1)
            copy_cells(x + p->first, to + p->first, p->end - p->first);
        else
            for (int32_t j = p->first; j < p->end; j++) to[j] = x[(int64_t)j * g->stride_x];
        fill_cells(to + p->end, g->pitch - p->end, fill);
    }
}

/* Lines read whole vectors. Those that would begin before the tensor, or end past it, go row by row. x and to: the
 * view's first row. */
static void copy_at_edge(const copy_plan *plan, const view_plan *p, const uint32_t *x, uint32_t *to, int64_t before,
                         int64_t after) {
    const geometry *g = plan->shape;
    const int64_t rows = p->end_row - p->first_row, per_line = p->line / g->pitch, row = (int64_t)g->stride_y * g->width;
    int64_t first = 0, end = p->lines;
    if (p->lines && before < p->skip) first = (p->skip - before + p->source_line - 1) / p->source_line;
    if (p->lines && after < p->reach) end -= (p->reach - after + p->source_line - 1) / p->source_line;
    if (first >= end) first = end = 0;
    copy_rows(g, p, x, to, first * per_line, plan->fill);
    x += first * per_line * row;
    to += first * p->line;
    copy_lines(p, x - p->skip, to - p->skip, end - first, g->stride_x, plan->fill);
    x += (end - first) * per_line * row;
    to += (end - first) * p->line;
    copy_rows(g, p, x, to, rows - end * per_line, plan->fill);
}

static void copy_view(const copy_plan *plan, const view_plan *p, const uint32_t *tensor, int64_t channel, uint32_t *to) {
    const geometry *g = plan->shape;
    const int64_t plane = (int64_t)g->height * g->width, before = channel * plane + p->source;
    const int64_t after = g->channels * plane - before;
    const uint32_t *x = tensor + before;
    fill_range(to, p->head, plan->fill);
    fill_range(to, p->tail, plan->fill);
    to += p->head.end;
    if (!p->lines || before < p->skip || after < p->reach)
        copy_at_edge(plan, p, x, to, before, after);
    else if (g->stride_x == 1)
        copy_lines(p, x - p->skip, to - p->skip, p->lines, 1, plan->fill);
    else
        copy_lines(p, x, to, p->lines, 2, plan->fill);
}

#if WIDE == 16
/* Sixteen cells out of up to 64, which lie in registers; index: which ones, -1 for the fill value. */
static ALWAYS_INLINE vi16 look_up(const vi16 *x, int32_t cells, vi16 index, vi16 other) {
    vi16 cell = _mm512_permutex2var_epi32(x[0], index, x[1]);
    if (cells > 32)
        cell = _mm512_mask_mov_epi32(cell, _mm512_test_epi32_mask(index, set_i16(32)),
                                     _mm512_permutex2var_epi32(x[2], index, x[3]));
    return _mm512_mask_mov_epi32(cell, _mm512_movepi32_mask(index), other);
}
#endif

/* All copies of a small plane, cell by cell as the table says. */
static void gather_channel(const geometry *g, const uint32_t *x, uint32_t *to, uint32_t fill) {
    const int64_t count = g->views * g->plane;
    int64_t i = 0;
#if WIDE == 16
    const int32_t cells = g->height * g->width;
    const vi16 other = set_i16((int32_t)fill);
    vi16 input[4];
    for (int32_t k = 0; k < 4; k++) {
        const int32_t rest = cells - 16 * k;
        input[k] = load_part_i16(rest > 0 ? x + 16 * k : x, rest < 0 ? 0 : rest < 16 ? rest : 16);
    }
    for (; i + 16 <= count && cells <= 64; i += 16)
        store_i16(to + i, look_up(input, cells, load_i16(g->gather + i), other));
#endif
    for (; i < count; i++) to[i] = g->gather[i] < 0 ? fill : x[g->gather[i]];
}

void copy_channel(const copy_plan *plan, const void *source, int64_t channel, uint32_t *to) {
    const geometry *g = plan->shape;
    if (g->gather)
        gather_channel(g, (const uint32_t *)source + channel * g->height * g->width, to, plan->fill);
    else
        for (int32_t v = 0; v < g->views; v++) copy_view(plan, plan->view + v, source, channel, to + v * g->plane);
}

/* A part of the channels: the two calls that a runtime makes for a layer should not be hundreds of small ones. */
TASK(copy_planes) {
    const conv_job *job = data;
    const geometry *g = job->shape;
    const int64_t end = (int64_t)g->channels * (int64_t)(number + 1) / job->copy_parts;
    copy_plan plan;
    plan_copy(g, job->fill, all_rows(g), &plan);
    for (int64_t channel = (int64_t)g->channels * (int64_t)number / job->copy_parts; channel < end; channel++)
        copy_channel(&plan, job->source, channel, (uint32_t *)job->copies + channel * g->views * g->plane);
}
