#include "geometry.h"

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

/* Copies come in four forms, the first three with more to copy and less waste from one to the next.
 * PHASES: the padded input, split by the remainders of row and column by the strides. Taps differ by where a run starts,
 *   and a run has waste between its rows, where the padding lies.
 * COLUMNS: a copy for each column of the kernel, moved by that column, as wide as the output: no waste; and where the
 *   width is a multiple of a vector, no run begins inside a cache line, which saves a third of the loads. Pays if the
 *   copies are read often enough.
 * TAPS: a copy for each tap, as large as the output (im2col): all runs begin at aligned addresses, too.
 * MASKED: the input as it is or, with strides, split by the remainders of row and column, each piece as large as the output:
 *   runs reach into the rows and channels beside, and masks leave out what does not belong to them. Nothing is padded, and
 *   at stride 1 nothing is copied, but most loads cross cache lines, and entries stand by tap. Pays where loads are not the
 *   limit and the input is not read too often. */
enum { OFTEN = 40, MOST_MASKED = 1 << 24, POINTS_OFTEN = 16 };

/* Bytes of the input that a tile may take up in the nearest cache (32 or 48 KiB on all targets), and entries that a row
 * must have in a slab for its sums to be worth putting down and taking up again. */
enum { NEAR = 40 << 10, WORTH = 14 };

/* Whether a small plane, padded, stays in the nearest cache with all its channels while a copy for each column would not:
 * a load from further off costs more than one that crosses a cache line. */
static int fits_near(const geometry *g) {
    const int64_t rows = g->out_h + (int64_t)g->dilation_y * (g->kernel_h - 1), padding = (int64_t)g->dilation_x * (g->kernel_w - 1);
    const int64_t shared = rows * (g->out_w + padding / 2), columns = rows * g->out_w * g->kernel_w;
    return g->stride_y * g->stride_x == 1 && 4 * g->channels * shared <= NEAR && 4 * g->channels * columns > NEAR;
}

static copy_form form_of(const geometry *g, int32_t lanes, int64_t reads) {
    const int32_t cells = g->out_h * g->out_w;
    if (g->kernel_h * g->kernel_w > 1 && cells <= lanes && reads > 1) return TAPS;
    if (g->kernel_w > 1 && g->out_w < lanes && cells <= 8 * lanes && reads > 1) return fits_near(g) ? PHASES : COLUMNS;
    if (g->kernel_w > 1 && g->out_w % lanes == 0 && (g->stride_x == 1 || g->out_w == lanes) && reads >= OFTEN)
        return COLUMNS;
    return PHASES;
}

static int32_t floor_quotient(int32_t a, int32_t b) { return a < 0 ? -((b - 1 - a) / b) : a / b; }

static int32_t floor_remainder(int32_t a, int32_t b) { return a - b * floor_quotient(a, b); }

static plane_view view_of(const geometry *g, copy_form form, int32_t ky, int32_t kx) {
    const int32_t y = ky * g->dilation_y, x = kx * g->dilation_x;
    if (form == MASKED)
        return (plane_view){floor_remainder(y - g->pad_top, g->stride_y), floor_remainder(x - g->pad_left, g->stride_x)};
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

/* Whether the input falls into pieces as large as the output, of whole vectors (several, if they must be copied), at strides
 * that are split fast. */
static int fits_masks(const geometry *g, int32_t lanes) {
    const int64_t cells = (int64_t)g->out_h * g->out_w, least = g->stride_y * g->stride_x == 1 ? lanes : 4 * lanes;
    return g->stride_y <= 2 && g->stride_x <= 2 && g->height == g->out_h * g->stride_y &&
           g->width == g->out_w * g->stride_x && cells >= least && cells * g->kernel_h * g->kernel_w <= MOST_MASKED;
}

/* Copies that make all runs begin at aligned addresses pay if they are read often; small planes take several of them. */
static copy_form choose_form(const geometry *g, int32_t lanes, int64_t reads, int32_t masked) {
    const copy_form form = form_of(g, lanes, reads);
    const int points = g->kernel_h * g->kernel_w * g->stride_y * g->stride_x == 1 && reads >= POINTS_OFTEN;
    const int aligned = points || (form != PHASES && (g->out_w >= lanes || reads > 4 * OFTEN));
    return masked && reads > 1 && !aligned && fits_masks(g, lanes) ? MASKED : form;
}

/* Where a tap's run starts in its copy, in rows and columns from the output's own. */
static plane_view moved_by(const geometry *g, int32_t tap) {
    const int32_t y = tap / g->kernel_w * g->dilation_y, x = tap % g->kernel_w * g->dilation_x;
    if (g->form == MASKED)
        return (plane_view){floor_quotient(y - g->pad_top, g->stride_y), floor_quotient(x - g->pad_left, g->stride_x)};
    return (plane_view){g->form == TAPS ? 0 : y / g->stride_y, g->form == PHASES ? x / g->stride_x : 0};
}

int64_t mask_count(const geometry *g, int32_t lanes) {
    return g->form == MASKED ? (int64_t)g->kernel_h * g->kernel_w * ((g->run + lanes - 1) / lanes) : 0;
}

void plan_masks(geometry *g, int32_t lanes, uint16_t *masks) {
    g->masks = masks;
    for (int32_t tap = 0; tap < g->kernel_h * g->kernel_w; tap++) {
        const plane_view moved = moved_by(g, tap);
        for (int32_t start = 0; start < g->run; start += lanes) {
            uint32_t mask = 0;
            for (int32_t n = start; n < start + lanes && n < g->run; n++) {
                const int32_t y = n / g->pitch + moved.y, x = n % g->pitch + moved.x;
                if (y >= 0 && y < g->rows && x >= 0 && x < g->pitch) mask |= 1u << (n - start);
            }
            *masks++ = (uint16_t)mask;
        }
    }
}

/* All channels would compete for the same cache sets if their planes were a whole number of pages apart. */
static void spread_planes(geometry *g) {
    if (g->plane * g->views % 512 == 0) g->plane += WIDEST;
}

const char *plan_copies(geometry *g, int32_t lanes, int64_t reads, int32_t masked) {
    const int32_t reach_x = g->dilation_x * (g->kernel_w - 1);
    g->run = g->out_h * g->out_w;
    const int32_t plain = g->kernel_h * g->kernel_w == 1 && g->stride_y * g->stride_x == 1 && g->pad_top == 0 &&
                          g->pad_left == 0 && g->out_h == g->height && g->out_w == g->width;
    /* Small planes whose vectors would not be aligned are read by masks or, without these, copied. */
    if (reads > 1 && plain && g->run >= lanes && (g->run % lanes == 0 || (g->run >= 1024 && !masked))) {
        g->direct = 1;
        g->form = PHASES;
        g->views = 1;
        g->view[0] = (plane_view){0, 0};
        g->first_row = g->last_row = 0;
        g->rows = g->height;
        g->pitch = g->width;
        g->plane = g->run;
        return 0;
    }
    g->direct = 0;
    g->form = choose_form(g, lanes, reads, masked);
    while (!add_views(g, g->form)) {
        if (g->form == PHASES) return "the strides are too large";
        g->form--;
    }
    g->first_row = moved_by(g, 0).y;
    g->last_row = moved_by(g, g->kernel_h * g->kernel_w - 1).y;
    g->rows = g->out_h + (g->form == MASKED ? 0 : g->last_row);
    g->pitch = g->form == PHASES && reach_x ? row_pitch(g, reach_x) : g->out_w;
    g->run = (g->out_h - 1) * g->pitch + g->out_w;
    if (g->form == MASKED) {
        g->direct = g->stride_y * g->stride_x == 1;
        /* Copies are written by whole vectors: what the last row has too much must not be another plane's. */
        g->plane = g->direct ? g->run : whole_vectors(g->run + WIDEST - 1);
        if (!g->direct) spread_planes(g);
    } else if (g->form == TAPS) {
        const int32_t vector = fitting_lanes(g->run, lanes);
        g->plane = (g->run + vector - 1) / vector * vector;
    } else {
        /* A run reaches up to a vector past the last row; what lies there is padding. */
        const int64_t tail = larger(reach_x / g->stride_x, g->pad_left) + OVER_READ_CELLS;
        g->plane = whole_vectors((int64_t)g->rows * g->pitch + tail);
        spread_planes(g);
    }
    if (g->plane * g->views * g->channels > (1 << 29) - 4 * OVER_READ_CELLS) return "the input is too large";
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
            const int32_t view = find_view(g, view_of(g, g->form, ky, kx)), tap = ky * g->kernel_w + kx;
            const plane_view moved = moved_by(g, tap);
            offset[tap] = 4 * (view * g->plane + (int64_t)moved.y * g->pitch + moved.x);
        }
    }
}

void plan_tiles(const geometry *g, int32_t lanes, int32_t most, int32_t *tile_lanes, int32_t *tiles) {
    if (!g->direct) lanes = fitting_lanes(g->run, lanes);
    const int32_t vectors = (g->run + lanes - 1) / lanes;
    *tile_lanes = lanes;
    *tiles = (vectors + most - 1) / most;
    /* The last tile of a run that is read in place without masks is moved back, for which the run must be longer than a
     * tile. */
    if (g->direct && g->form != MASKED && *tiles == 1 && g->run % lanes) *tiles = 2;
}

int32_t plan_slab(const geometry *g, int32_t tile_cells, int64_t row_entries) {
    const int64_t reach = g->form == TAPS ? 0 : (int64_t)g->dilation_y * (g->kernel_h - 1) / g->stride_y * g->pitch;
    const int64_t cells = tile_cells + reach < g->plane ? tile_cells + reach : g->plane;
    const int64_t wanted = (4 * g->views * cells * g->channels + NEAR - 1) / NEAR, worth = row_entries / WORTH;
    const int64_t slabs = wanted < worth ? wanted : worth;
    return slabs < 2 ? g->channels : (int32_t)((g->channels + slabs - 1) / slabs);
}
