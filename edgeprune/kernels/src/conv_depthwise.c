/* A sparse 1x1 convolution with the depthwise one that alone reads it: what lies between stays near the core, four channels at
 * a time. */
#include "convolution.h"

typedef struct {
    plane_window window; /* of both as one */
    convolution point;
    depthwise deep;
} conv_depthwise;

/* Bytes of the nearest cache that four planes may take up, and rows of outputs that bands hold a multiple of. */
enum { NEAR_PLANES = 28 << 10, BAND_ROWS = 7 };

/* Rows of outputs for which what lies between stays near the core. */
static int32_t band_of(const geometry *g) {
    const int32_t more = g->dilation_y * (g->kernel_h - 1) + 1 - g->stride_y, all = NEAR_PLANES / (16 * g->width);
    if (all >= g->height) return g->out_h;
    const int32_t rows = (all - more) / g->stride_y / BAND_ROWS * BAND_ROWS;
    const int32_t band = rows < BAND_ROWS ? BAND_ROWS : rows, count = (g->out_h + band - 1) / band;
    const int32_t even = ((g->out_h + count - 1) / count + BAND_ROWS - 1) / BAND_ROWS * BAND_ROWS;
    return even < g->out_h ? even : g->out_h;
}

/* Cells of a plane's band: its rows of the input, from a whole vector on. */
static int64_t band_cells(const geometry *g, int32_t band) {
    const int64_t rows = (int64_t)(band - 1) * g->stride_y + (int64_t)g->dilation_y * (g->kernel_h - 1) + 1;
    return whole_vectors((rows < g->height ? rows : g->height) * g->width) + WIDEST;
}

static OrtStatus *run_example(const kernel *k, OrtKernelContext *context, conv_depthwise_job *job) {
    conv_job *point = &job->point;
    point->input = point->copied ? point->copies : point->source;
    if (point->copied)
        TRY(k->api->KernelContext_ParallelFor(context, k->level->copy_planes, (size_t)point->copy_parts, 0, point));
    return k->api->KernelContext_ParallelFor(context, k->level->conv_depthwise, (size_t)job->parts, 0, job);
}

static OrtStatus *compute_conv_depthwise(kernel *k, OrtKernelContext *context) {
    conv_depthwise *c = k->state;
    const geometry *g = &c->point.window.shape;
    window_run run;
    TRY(open_run(k, context, &c->window, 0, &run));
    conv_depthwise_job job = {.point = job_of_conv(&c->point), .deep = c->deep.job};
    job.point.copied = !g->direct;
    job.deep.shape = &c->deep.window.shape;
    job.deep.float_end = &c->deep.end.floats;
    job.deep.parts = job.deep.bands = 1;
    thread_set seen = {0};
    job.threads = &seen;
    const int32_t threads = known_threads(&c->deep.threads), blocks = c->point.weights.row_blocks;
    job.parts = threads ? threads : PIECES;
    if (job.parts > blocks) job.parts = blocks;
    const int64_t copies = (bytes_of_copies(&job.point) + LINE - 1) / LINE * LINE;
    job.band = band_of(&c->deep.window.shape);
    job.deep.plane = band_cells(&c->deep.window.shape, job.band);
    job.planes_bytes = 2 * LINE + 16 * job.deep.plane + OVER_READ;
    job.piece_bytes = job.planes_bytes + 4 * (int64_t)job.deep.row_cells * (job.deep.slots + 1) + OVER_READ;
    char *memory = scratch_memory(k, (size_t)(copies + job.parts * job.piece_bytes), 0);
    if (!memory) return fail(k->api, k->name, "out of memory");
    job.point.copies = memory;
    job.pieces = memory + copies;
    OrtStatus *status = 0;
    for (int64_t n = 0; n < run.dims[0] && !status; n++) {
        job.point.source = (const char *)run.x.data + n * input_bytes(g);
        job.deep.output = run.y + n * c->window.outputs * output_plane_bytes(&c->window.shape);
        status = run_example(k, context, &job);
    }
    free_scratch(k, memory);
    if (run.dims[0]) end_run(&c->deep.threads, &seen);
    return status;
}

/* The 1x1 layer's window: the same input, and as many places of its output. */
static geometry point_of(const geometry *g) {
    return (geometry){
        .channels = g->channels, .height = g->height, .width = g->width, .out_h = g->height, .out_w = g->width, .kernel_h = 1,
        .kernel_w = 1, .stride_y = 1, .stride_x = 1, .dilation_y = 1, .dilation_x = 1,
    };
}

const char *create_conv_depthwise(kernel *k, const OrtKernelInfo *info) {
    conv_depthwise *c = own_state(k, sizeof *c);
    if (!c) return "out of memory";
    k->compute = compute_conv_depthwise;
    CHECK(read_window(k, info, 1, &c->window));
    c->point.window = c->deep.window = c->window;
    c->point.window.shape = point_of(&c->window.shape);
    CHECK(read_sparse_weights(k, info, &c->point, KIND_FLOAT, 0));
    if (c->point.weights.rows != 4) return "the weights must be stored in blocks of four rows";
    const int32_t between = c->point.weights.outputs;
    geometry *g = &c->deep.window.shape;
    if ((int64_t)between * g->height * g->width > 1 << 28) return "the input is too large";
    c->window.outputs = c->deep.window.channels = g->channels = between;
    CHECK(read_depthwise(k, info, 3, &c->deep));
    CHECK(read_float_bias(k, info, 2, between, &c->point.end.floats));
    CHECK(read_float_bias(k, info, 4, between, &c->deep.end.floats));
    return inner_bounds(k, info, &c->point.end.floats.low, &c->point.end.floats.high);
}
