#include "geometry.h"

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

/* Copies come in two forms. Phases: the padded input, split by the remainders of row and column by the strides; taps
 * differ by where a run starts, and a run has waste between the rows, where the padding lies. Shifts: a copy for each
 * column of the kernel, moved by that column, as wide as the output; no waste, but more to copy, which pays for small
 * planes. */
static int32_t shifts(const geometry *g, int32_t lanes) {
    return g->kernel_w > 1 && g->out_w < lanes && g->out_h * g->out_w <= 8 * lanes;
}

static plane_view view_of(const geometry *g, int32_t shifted, int32_t ky, int32_t kx) {
    const int32_t x = kx * g->dilation_x;
    return (plane_view){ky * g->dilation_y % g->stride_y - g->pad_top,
                        (shifted ? x : x % g->stride_x) - g->pad_left};
}

static int32_t find_view(const geometry *g, plane_view view) {
    for (int32_t v = 0; v < g->views; v++)
        if (g->view[v].y == view.y && g->view[v].x == view.x) return v;
    return -1;
}

static int32_t add_views(geometry *g, int32_t shifted) {
    g->views = 0;
    for (int32_t ky = 0; ky < g->kernel_h; ky++) {
        for (int32_t kx = 0; kx < g->kernel_w; kx++) {
            const plane_view view = view_of(g, shifted, ky, kx);
            if (find_view(g, view) >= 0) continue;
            if (g->views == MAX_VIEWS) return 0;
            g->view[g->views++] = view;
        }
    }
    return 1;
}

/* Cells from the start of one row of a copy to the next. At stride 1 the padding right of a row serves as the padding
 * left of the next one too. */
static int32_t row_pitch(const geometry *g, int32_t reach_x) {
    if (g->stride_x > 1) return g->out_w + reach_x / g->stride_x;
    const int32_t full = g->out_w + reach_x, right = full - g->width - g->pad_left;
    const int32_t shared = larger(g->out_w, g->width + larger(g->pad_left, right));
    return shared < full ? shared : full;
}

const char *plan_copies(geometry *g, int32_t lanes, int32_t may_read_in_place) {
    const int32_t reach_y = g->dilation_y * (g->kernel_h - 1), reach_x = g->dilation_x * (g->kernel_w - 1);
    g->run = g->out_h * g->out_w;
    const int32_t plain = g->kernel_h * g->kernel_w == 1 && g->stride_y * g->stride_x == 1 && g->pad_top == 0 &&
                          g->pad_left == 0 && g->out_h == g->height && g->out_w == g->width;
    /* Small planes whose vectors would not be aligned are copied all the same. */
    if (may_read_in_place && plain && g->run >= lanes && (g->run % lanes == 0 || g->run >= 1024)) {
        g->direct = 1;
        g->shifted = 0;
        g->views = 1;
        g->view[0] = (plane_view){0, 0};
        g->rows = g->height;
        g->pitch = g->width;
        g->plane = g->run;
        return 0;
    }
    g->direct = 0;
    int32_t shifted = shifts(g, lanes);
    if (shifted && !add_views(g, 1)) shifted = 0;
    if (!shifted && !add_views(g, 0)) return "the strides are too large";
    g->shifted = shifted;
    g->rows = g->out_h + reach_y / g->stride_y;
    g->pitch = shifted || reach_x == 0 ? g->out_w : row_pitch(g, reach_x);
    g->run = (g->out_h - 1) * g->pitch + g->out_w;
    /* A run reaches up to a vector past the last row; what lies there is padding. */
    const int64_t tail = larger(reach_x / g->stride_x, g->pad_left) + 16;
    g->plane = ((int64_t)g->rows * g->pitch + tail + 15) / 16 * 16;
    if (g->plane * g->views % 512 == 0) g->plane += 16; /* else all channels compete for the same cache sets */
    if (g->plane * g->views * g->channels > (1 << 29) - 64) return "the input is too large";
    return 0;
}

void tap_offsets(const geometry *g, int64_t *offset) {
    for (int32_t ky = 0; ky < g->kernel_h; ky++) {
        for (int32_t kx = 0; kx < g->kernel_w; kx++) {
            int32_t view = find_view(g, view_of(g, 1, ky, kx)), column = 0;
            if (!g->shifted) {
                view = find_view(g, view_of(g, 0, ky, kx));
                column = kx * g->dilation_x / g->stride_x;
            }
            const int64_t row = ky * g->dilation_y / g->stride_y;
            offset[ky * g->kernel_w + kx] = 4 * (view * g->plane + row * g->pitch + column);
        }
    }
}

void plan_tiles(const geometry *g, int32_t lanes, int32_t most, int32_t *tile_lanes, int32_t *tiles) {
    while (lanes > 4 && g->run <= lanes / 2 && !g->direct) lanes /= 2;
    const int32_t vectors = (g->run + lanes - 1) / lanes;
    *tile_lanes = lanes;
    *tiles = (vectors + most - 1) / most;
    /* The last tile of a run that is read in place is moved back, for which the run must be longer than a tile. */
    if (g->direct && *tiles == 1 && g->run % lanes) *tiles = 2;
}
