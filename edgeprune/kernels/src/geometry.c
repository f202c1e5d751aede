#include "geometry.h"

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

/* Copies come in three forms, with more to copy and less waste from one to the next.
 * PHASES: the padded input, split by the remainders of row and column by the strides. Taps differ by where a run starts,
 *   and a run has waste between its rows, where the padding lies.
 * COLUMNS: a copy for each column of the kernel, moved by that column, as wide as the output: no waste; and where the
 *   width is a multiple of a vector, no run begins inside a cache line, which saves a third of the loads. Pays if the
 *   copies are read often enough.
 * TAPS: a copy for each tap, as large as the output (im2col): all runs begin at aligned addresses, too. */
enum { OFTEN = 40 };

static copy_form form_of(const geometry *g, int32_t lanes, int64_t reads) {
    const int32_t cells = g->out_h * g->out_w;
    if (g->kernel_h * g->kernel_w > 1 && cells <= lanes && reads > 1) return TAPS;
    if (g->kernel_w > 1 && g->out_w < lanes && cells <= 8 * lanes && reads > 1) return COLUMNS;
    if (g->kernel_w > 1 && g->out_w % lanes == 0 && (g->stride_x == 1 || g->out_w == lanes) && reads >= OFTEN)
        return COLUMNS;
    return PHASES;
}

static plane_view view_of(const geometry *g, copy_form form, int32_t ky, int32_t kx) {
    const int32_t y = ky * g->dilation_y, x = kx * g->dilation_x;
    return (plane_view){(form == TAPS ? y : y % g->stride_y) - g->pad_top,
                        (form == PHASES ? x % g->stride_x : x) - g->pad_left};
}

static int32_t find_view(const geometry *g, plane_view view) {
    for (int32_t v = 0; v < g->views; v++)
        if (g->view[v].y == view.y && g->view[v].x == view.x) return v;
    return -1;
}

static int32_t add_views(geometry *g, copy_form form) {
    g->views = 0;
    for (int32_t ky = 0; ky < g->kernel_h; ky++) {
        for (int32_t kx = 0; kx < g->kernel_w; kx++) {
            const plane_view view = view_of(g, form, ky, kx);
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

/* The narrowest vector that holds a whole run, if one does. */
static int32_t fitting_lanes(int32_t run, int32_t lanes) {
    while (lanes > 4 && run <= lanes / 2) lanes /= 2;
    return lanes;
}

const char *plan_copies(geometry *g, int32_t lanes, int64_t reads) {
    const int32_t reach_y = g->dilation_y * (g->kernel_h - 1), reach_x = g->dilation_x * (g->kernel_w - 1);
    g->run = g->out_h * g->out_w;
    const int32_t plain = g->kernel_h * g->kernel_w == 1 && g->stride_y * g->stride_x == 1 && g->pad_top == 0 &&
                          g->pad_left == 0 && g->out_h == g->height && g->out_w == g->width;
    /* Small planes whose vectors would not be aligned are copied all the same. */
    if (reads > 1 && plain && g->run >= lanes && (g->run % lanes == 0 || g->run >= 1024)) {
        g->direct = 1;
        g->form = PHASES;
        g->views = 1;
        g->view[0] = (plane_view){0, 0};
        g->rows = g->height;
        g->pitch = g->width;
        g->plane = g->run;
        return 0;
    }
    g->direct = 0;
    g->form = form_of(g, lanes, reads);
    while (!add_views(g, g->form)) {
        if (g->form == PHASES) return "the strides are too large";
        g->form--;
    }
    g->rows = g->out_h + (g->form == TAPS ? 0 : reach_y / g->stride_y);
    g->pitch = g->form == PHASES && reach_x ? row_pitch(g, reach_x) : g->out_w;
    g->run = (g->out_h - 1) * g->pitch + g->out_w;
    if (g->form == TAPS) {
        const int32_t vector = fitting_lanes(g->run, lanes);
        g->plane = (g->run + vector - 1) / vector * vector;
    } else {
        /* A run reaches up to a vector past the last row; what lies there is padding. */
        const int64_t tail = larger(reach_x / g->stride_x, g->pad_left) + 16;
        g->plane = ((int64_t)g->rows * g->pitch + tail + 15) / 16 * 16;
        if (g->plane * g->views % 512 == 0) g->plane += 16; /* else all channels compete for the same cache sets */
    }
    if (g->plane * g->views * g->channels > (1 << 29) - 64) return "the input is too large";
    return 0;
}

int64_t gather_cells(const geometry *g) { return g->form == TAPS && !g->direct ? g->views * g->plane : 0; }

void plan_gather(geometry *g, int32_t *table) {
    g->gather = table;
    for (int32_t v = 0; v < g->views; v++) {
        for (int32_t n = 0; n < g->plane; n++) {
            const int32_t y = n / g->out_w * g->stride_y + g->view[v].y, x = n % g->out_w * g->stride_x + g->view[v].x;
            const int inside = n < g->run && y >= 0 && y < g->height && x >= 0 && x < g->width;
            *table++ = inside ? y * g->width + x : -1;
        }
    }
}

void tap_offsets(const geometry *g, int64_t *offset) {
    for (int32_t ky = 0; ky < g->kernel_h; ky++) {
        for (int32_t kx = 0; kx < g->kernel_w; kx++) {
            const int32_t view = find_view(g, view_of(g, g->form, ky, kx));
            const int64_t row = g->form == TAPS ? 0 : ky * g->dilation_y / g->stride_y;
            const int64_t column = g->form == PHASES ? kx * g->dilation_x / g->stride_x : 0;
            offset[ky * g->kernel_w + kx] = 4 * (view * g->plane + row * g->pitch + column);
        }
    }
}

void plan_tiles(const geometry *g, int32_t lanes, int32_t most, int32_t *tile_lanes, int32_t *tiles) {
    if (!g->direct) lanes = fitting_lanes(g->run, lanes);
    const int32_t vectors = (g->run + lanes - 1) / lanes;
    *tile_lanes = lanes;
    *tiles = (vectors + most - 1) / most;
    /* The last tile of a run that is read in place is moved back, for which the run must be longer than a tile. */
    if (g->direct && *tiles == 1 && g->run % lanes) *tiles = 2;
}

/* Bytes of the input that a tile may take up in the nearest cache (32 or 48 KiB on all targets), and entries that a row
 * must have in a slab for its sums to be worth putting down and taking up again. */
enum { NEAR = 40 << 10, WORTH = 14 };

int32_t plan_slab(const geometry *g, int32_t tile_cells, int64_t row_entries) {
    const int64_t reach = g->form == TAPS ? 0 : (int64_t)g->dilation_y * (g->kernel_h - 1) / g->stride_y * g->pitch;
    const int64_t cells = tile_cells + reach < g->plane ? tile_cells + reach : g->plane;
    const int64_t wanted = (4 * g->views * cells * g->channels + NEAR - 1) / NEAR, worth = row_entries / WORTH;
    const int64_t slabs = wanted < worth ? wanted : worth;
    return slabs < 2 ? g->channels : (int32_t)((g->channels + slabs - 1) / slabs);
}
