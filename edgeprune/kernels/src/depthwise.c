/* Depthwise convolutions: one dense window per channel. */
#include "convolution.h"

/* Rows of outputs for each thread from which it pays to share out by place: by channel nothing comes from another core. */
enum { ROWS_OF_DEPTHWISE = 28 };

static OrtStatus *compute_depthwise(kernel *k, OrtKernelContext *context) {
    depthwise *d = k->state;
    const geometry *g = &d->window.shape;
    const int integer = d->job.quads != 0;
    window_run run;
    TRY(open_run(k, context, &d->window, integer, &run));
    depthwise_job job = d->job;
    job.shape = g;
    job.plane = (int64_t)g->height * g->width;
    job.float_end = &d->end.floats;
    job.integer_end = &d->end.integers;
    thread_set seen = {0};
    const int32_t threads = known_threads(&d->threads);
    job.bands = threads > 1 && g->out_h >= ROWS_OF_DEPTHWISE * threads ? threads : 1;
    const int32_t of_channels = (2 * PIECES + job.bands - 1) / job.bands;
    job.parts = job.bands * (g->channels < of_channels ? g->channels : of_channels);
    job.threads = threads ? 0 : &seen;
    job.fill = (uint32_t)(integer ? (uint8_t)d->end.x_zero_point * 0x01010101u : 0);
    job.copies = scratch_memory(k, 4 * (size_t)((int64_t)job.row_cells * (job.slots + 1) * job.parts), 0);
    if (!job.copies) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = 0;
    for (int64_t n = 0; n < run.dims[0] && !status; n++) {
        job.source = (const char *)run.x.data + n * input_bytes(g);
        job.output = run.y + n * g->channels * output_plane_bytes(g);
        status = k->api->KernelContext_ParallelFor(context, integer ? k->level->quantized_depthwise : k->level->depthwise,
                                                   (size_t)job.parts, 0, &job);
    }
    free_scratch(k, job.copies);
    if (run.dims[0]) end_run(&d->threads, &seen);
    return status;
}

/* Cells that a ring may take up of the nearest cache, 32 or 48 KiB on all targets. */
enum { RING_CELLS = 4 << 10 };

/* How rows lie in the ring, for a window job with split, phases and the like set; ahead: cells that the kernels read
 * past a phase's last. */
static const char *plan_rows(depthwise *d, int32_t ahead) {
    depthwise_job *job = &d->job;
    const geometry *g = &d->window.shape;
    /* A block of four rows of outputs, at strides up to two. */
    const int64_t rows = (int64_t)g->dilation_y * (g->kernel_h - 1) + 1 + 3 * (g->stride_y < 2 ? 1 : 2);
    if (rows > 1 << 28) return "the dilated kernel is too large";
    const int64_t phase = whole_vectors((int64_t)job->phase_used + ahead), cells = phase * job->phases;
    const int64_t all = (int64_t)g->pad_top + g->height, wanted = all * cells < RING_CELLS ? all : RING_CELLS / cells;
    job->slots = 1;
    while (job->slots < rows || (job->slots < wanted && 2 * job->slots * cells <= RING_CELLS)) job->slots *= 2;
    if (cells * ((int64_t)job->slots + 1) > 1 << 28) return "the input is too large";
    job->phase_cells = (int32_t)phase;
    job->row_cells = (int32_t)cells;
    return 0;
}

static const char *depthwise_weights(kernel *k, const OrtKernelInfo *info, size_t index, depthwise *d, int32_t type,
                                     tensor *weights) {
    const geometry *g = &d->window.shape;
    d->window.outputs = d->window.channels;
    if (!constant_input(k, info, index, weights) || weights->type != type ||
        weights->elements != (int64_t)d->window.channels * g->kernel_h * g->kernel_w)
        return "the weights must be constant, one kernel for each channel";
    return 0;
}

const char *read_depthwise(kernel *k, const OrtKernelInfo *info, size_t index, depthwise *d) {
    tensor weights;
    const geometry *g = &d->window.shape;
    CHECK(depthwise_weights(k, info, index, d, ORT_FLOAT, &weights));
    const int32_t stride = g->stride_x, reach = g->dilation_x * (g->kernel_w - 1);
    int32_t *offset = own(k, 4 * (size_t)g->kernel_w);
    float *copy = own(k, 4 * (size_t)weights.elements);
    if (!offset || !copy) return "out of memory for the weights";
    for (int64_t i = 0; i < weights.elements; i++) copy[i] = ((const float *)weights.data)[i];
    d->job = (depthwise_job){.taps = g->kernel_h * g->kernel_w, .offset = offset, .weights = copy, .split = stride,
                             .phases = reach < stride ? reach + 1 : stride, .phase_used = g->out_w + reach / stride};
    CHECK(plan_rows(d, 2 * OVER_READ_CELLS));
    for (int32_t kx = 0; kx < g->kernel_w; kx++) {
        const int32_t column = kx * g->dilation_x;
        offset[kx] = 4 * (column % stride * d->job.phase_cells + column / stride);
    }
    return 0;
}

static const char *begin(kernel *k, const OrtKernelInfo *info, int32_t channels_a_cell) {
    depthwise *d = own_state(k, sizeof *d);
    k->compute = compute_depthwise;
    return d ? read_window(k, info, channels_a_cell, &d->window) : "out of memory";
}

const char *create_depthwise(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin(k, info, 1));
    depthwise *d = k->state;
    CHECK(read_depthwise(k, info, 1, d));
    return read_float_bias(k, info, 2, d->window.outputs, &d->end.floats);
}

/* Rows of the kernel as quads of columns, zeros where dilation leaves gaps and past the last column. */
static const char *read_quads(kernel *k, const OrtKernelInfo *info, int32_t **row_sums) {
    depthwise *d = k->state;
    tensor weights;
    const geometry *g = &d->window.shape;
    CHECK(depthwise_weights(k, info, 1, d, ORT_INT8, &weights));
    const int32_t reach = g->dilation_x * (g->kernel_w - 1), quads = reach / 4 + 1, groups = groups_of_four(d->window.channels);
    const int64_t row_bytes = 16 * (int64_t)quads, bytes = groups * (int64_t)g->kernel_h * row_bytes;
    if (bytes > 1 << 28) return "the dilated kernel is too large";
    int8_t *copy = own(k, (size_t)bytes);
    *row_sums = own(k, 16 * (size_t)groups);
    if (!copy || !*row_sums) return "out of memory for the weights";
    for (int64_t i = 0; i < bytes; i++) copy[i] = 0;
    const int8_t *from = weights.data;
    for (int32_t c = 0; c < d->window.channels; c++) {
        int32_t sum = 0;
        for (int32_t tap = 0; tap < g->kernel_h * g->kernel_w; tap++, from++) {
            const int32_t x = tap % g->kernel_w * g->dilation_x;
            const int64_t row = c / 4 * (int64_t)g->kernel_h + tap / g->kernel_w;
            copy[row * row_bytes + 16 * (x / 4) + 4 * (c % 4) + x % 4] = *from;
            sum += *from;
        }
        (*row_sums)[c] = sum;
    }
    d->job = (depthwise_job){.quads = copy, .row_quads = quads, .columns = reach + 1, .step = g->stride_x, .split = 1,
                             .phases = 1};
    const int64_t used = (int64_t)(g->out_w - 1) * g->stride_x + reach + 1;
    if (used > 1 << 26) return "the input is too large";
    d->job.phase_used = (int32_t)used;
    /* Vectors of outputs, each `step` cells on, and whole quads of columns. */
    return g->stride_x > 1 << 20 ? "the stride is too large" : plan_rows(d, (g->stride_x + 1) * OVER_READ_CELLS + 4);
}

const char *create_quantized_depthwise(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    CHECK(begin(k, info, 4));
    depthwise *d = k->state;
    CHECK(read_layer_points(k, info, &d->end));
    CHECK(read_quads(k, info, &row_sums));
    size_t inputs = 0;
    if (succeeded(k->api, k->api->KernelInfo_GetInputCount(info, &inputs)) && inputs > 4)
        CHECK(read_table(k, info, 4, &d->end.integers.table));
    CHECK(read_integer_bias(k, info, 2, d->window.outputs, row_sums, &d->end));
    const int64_t taps = (int64_t)d->window.shape.kernel_h * d->window.shape.kernel_w;
    d->end.integers.bounded = is_bounded(&d->end.integers, d->window.outputs, taps);
    return 0;
}
