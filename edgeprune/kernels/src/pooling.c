/* Pooling: the largest of a window, or its average. */
#include "window.h"

static int32_t lowest(const kernel *k) { return k->level->signed_bytes ? -128 : 0; }

typedef struct {
    plane_window window;
    sparse_conv taps; /* entries of one row: the window's positions */
    int32_t lanes, tiles;
} largest;

static OrtStatus *compute_max_pool(kernel *k, OrtKernelContext *context) {
    const largest *p = k->state;
    const geometry *g = &p->window.shape;
    const int integer = p->taps.kind == KIND_INT8;
    window_run run;
    TRY(open_run(k, context, &p->window, integer, &run));
    conv_job job = {
        .shape = g, .weights = &p->taps, .tiles = p->tiles, .lanes = p->lanes,
        .copy_parts = g->channels < PIECES ? g->channels : PIECES,
        .fill = integer ? (uint8_t)lowest(k) * 0x01010101u : 0xff800000u, /* minus infinity */
    };
    job.copies = scratch_memory(k, 4 * (size_t)(g->plane * g->views * g->channels), 0);
    if (!job.copies) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = 0;
    for (int64_t n = 0; n < run.dims[0] && !status; n++) {
        job.source = (const char *)run.x.data + n * input_bytes(g);
        job.output = run.y + n * g->channels * output_plane_bytes(g);
        status = k->api->KernelContext_ParallelFor(context, k->level->max_pool, (size_t)job.copy_parts, 0, &job);
    }
    free_scratch(k, job.copies);
    return status;
}

static const char *plan_max_pool(kernel *k, largest *p) {
    const geometry *g = &p->window.shape;
    CHECK(plan_window(k, &p->window, 1, 0));
    const int32_t taps = g->kernel_h * g->kernel_w;
    int64_t offset[MOST_TAPS];
    entry_i4 *entry = own(k, (size_t)taps * sizeof *entry);
    p->taps.start = own(k, 2 * sizeof *p->taps.start);
    if (!entry || !p->taps.start) return "out of memory";
    tap_offsets(g, offset);
    for (int32_t tap = 0; tap < taps; tap++) entry[tap] = (entry_i4){(int32_t)offset[tap], 0};
    p->taps.start[0] = 0;
    p->taps.start[1] = (uint32_t)taps;
    p->taps.entries = entry;
    p->window.outputs = p->window.channels;
    /* Whole vectors: a tile of the widest ones. */
    p->lanes = k->level->lanes;
    p->tiles = ((g->run + p->lanes - 1) / p->lanes + k->level->tile_i4 - 1) / k->level->tile_i4;
    return 0;
}

static const char *create_pool(kernel *k, const OrtKernelInfo *info, int32_t kind) {
    largest *p = own_state(k, sizeof *p);
    if (!p) return "out of memory";
    k->compute = compute_max_pool;
    p->taps.kind = kind;
    CHECK(read_window(k, info, kind == KIND_INT8 ? 4 : 1, &p->window));
    if (kind == KIND_INT8) CHECK(read_sign(k, info));
    return plan_max_pool(k, p);
}

const char *create_max_pool(kernel *k, const OrtKernelInfo *info) { return create_pool(k, info, KIND_FLOAT); }
const char *create_quantized_max_pool(kernel *k, const OrtKernelInfo *info) { return create_pool(k, info, KIND_INT8); }

/* Half to even, for |value| < 2^22. */
static int32_t nearest(float value) {
    const float bounded = value > -1e6f ? (value < 1e6f ? value : 1e6f) : -1e6f;
    volatile float shifted = bounded + 12582912.0f;
    return (int32_t)(shifted - 12582912.0f);
}

typedef struct {
    plane_window window;
    int32_t x_zero_point, y_zero_point, count_include_pad;
    float scale;
} average;

/* One channel group, plainly: networks have one such layer, if any. */
static void average_group(const kernel *k, const uint8_t *x, uint8_t *y) {
    const average *p = k->state;
    const geometry *g = &p->window.shape;
    for (int32_t oy = 0; oy < g->out_h; oy++) {
        for (int32_t ox = 0; ox < g->out_w; ox++, y += 4) {
            int32_t sums[4] = {0}, inside = 0, with_padding = 0;
            for (int32_t ky = 0; ky < g->kernel_h; ky++) {
                for (int32_t kx = 0; kx < g->kernel_w; kx++) {
                    const int32_t iy = oy * g->stride_y + ky * g->dilation_y - g->pad_top;
                    const int32_t ix = ox * g->stride_x + kx * g->dilation_x - g->pad_left;
                    with_padding++;
                    if (iy < 0 || iy >= g->height || ix < 0 || ix >= g->width) continue;
                    inside++;
                    for (int c = 0; c < 4; c++) {
                        const uint8_t byte = x[4 * ((int64_t)iy * g->width + ix) + c];
                        sums[c] += (k->level->signed_bytes ? (int8_t)byte : byte) - p->x_zero_point;
                    }
                }
            }
            const int32_t count = p->count_include_pad ? with_padding : inside ? inside : 1;
            for (int c = 0; c < 4; c++) {
                const int32_t value = nearest((float)sums[c] * (p->scale / (float)count)) + p->y_zero_point;
                y[c] = (uint8_t)(value < lowest(k) ? lowest(k) : value > lowest(k) + 255 ? lowest(k) + 255 : value);
            }
        }
    }
}

static OrtStatus *compute_average_pool(kernel *k, OrtKernelContext *context) {
    const average *p = k->state;
    const geometry *g = &p->window.shape;
    window_run run;
    TRY(open_run(k, context, &p->window, 1, &run));
    for (int64_t plane = 0; plane < run.dims[0] * g->channels; plane++)
        average_group(k, (const uint8_t *)run.x.data + 4 * plane * g->height * g->width,
                      (uint8_t *)run.y + plane * output_plane_bytes(g));
    return 0;
}

const char *create_average_pool(kernel *k, const OrtKernelInfo *info) {
    average *p = own_state(k, sizeof *p);
    if (!p) return "out of memory";
    k->compute = compute_average_pool;
    const point points[] = {{"y_zero_point", &p->y_zero_point, 0}, {"x_zero_point", &p->x_zero_point, 0}};
    CHECK(read_window(k, info, 4, &p->window));
    p->window.outputs = p->window.channels;
    CHECK(read_sign(k, info));
    CHECK(read_points(k, info, points, 2));
    CHECK(scale_attribute(k, info, "scale", &p->scale));
    return int_attribute(k, info, "count_include_pad", 0, 1, &p->count_include_pad);
}
