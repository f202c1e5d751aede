/* Sparse convolutions. */
#include "convolution.h"

conv_job job_of_conv(const convolution *c) {
    const geometry *g = &c->window.shape;
    return (conv_job){
        .shape = g, .weights = &c->weights, .float_end = &c->end.floats, .integer_end = &c->end.integers,
        .tiles = c->tiles, .lanes = c->tile_lanes, .least = (g->run + c->tile_lanes - 1) / c->tile_lanes / c->tiles,
        .parts = c->tiles >= PIECES ? 1 : (PIECES + c->tiles - 1) / c->tiles,
        .copy_parts = g->channels < PIECES ? g->channels : PIECES,
    };
}

/* Rows of outputs for each thread from which it pays to share out by place what could be shared out by channel as well:
 * rows at the ends of a thread's piece come from another core, while by channel half of the input does. */
enum { ROWS_OF_POINTS = 14 };

/* By place a thread copies what it reads, so chunks are few; by channel there are more of them than threads, since cores
 * are not equally fast, nor free. */
static void plan_chunks(int32_t threads, conv_job *job) {
    const geometry *g = job->shape;
    const int32_t vectors = (g->run + job->lanes - 1) / job->lanes;
    const int32_t point = g->kernel_h * g->kernel_w * g->stride_y * g->stride_x == 1;
    job->by_place = threads > 1 && job->tiles >= threads && (!point || g->out_h >= ROWS_OF_POINTS * threads);
    job->chunks = threads < 2 || job->by_place ? threads : 4 * threads;
    job->copy_sets = threads < 2 ? 1 : threads;
    /* By place a thread copies also what it could read by masks where it lies: the processor fetches lines past a piece's
     * end in advance, and those belong to other cores. */
    job->copied = !g->direct || (g->form == MASKED && job->by_place);
    if (!job->by_place) return;
    /* As many tiles for each of the threads, if there are vectors for them. */
    const int32_t tiles = (job->tiles + threads - 1) / threads * threads;
    if (tiles <= vectors) job->tiles = tiles;
}

static OrtStatus *conv_example(const kernel *k, OrtKernelContext *context, conv_job *job) {
    if (job->chunks)
        return k->api->KernelContext_ParallelFor(context, k->level->conv_chunk, (size_t)job->chunks, 0, job);
    job->input = job->copied ? job->copies : job->source;
    if (job->copied)
        TRY(k->api->KernelContext_ParallelFor(context, k->level->copy_planes, (size_t)job->copy_parts, 0, job));
    return k->api->KernelContext_ParallelFor(context, k->level->conv, (size_t)(job->tiles * job->parts), 0, job);
}

static OrtStatus *conv_examples(const kernel *k, OrtKernelContext *context, conv_job *job, const window_run *run,
                                const char *residual) {
    const geometry *g = job->shape;
    const int32_t rows = job->weights->outputs;
    const int64_t in = input_bytes(g);
    const int64_t out = output_plane_bytes(g) * (job->weights->kind == KIND_INT8 ? groups_of_four(rows) : rows);
    for (int64_t n = 0; n < run->dims[0]; n++) {
        job->source = (const char *)run->x.data + n * in;
        job->output = run->y + n * out;
        job->residual = residual ? residual + n * out : 0;
        if (job->chunks) *job->threads = (thread_set){0};
        TRY(conv_example(k, context, job));
    }
    return 0;
}

/* Sets lie one after the other: what is read past the end of one must not be another thread's. */
int64_t bytes_of_copies(const conv_job *job) {
    const geometry *g = job->shape;
    return job->copied ? 4 * whole_vectors(g->plane * g->views * g->channels) + OVER_READ : 0;
}

static OrtStatus *compute_conv(kernel *k, OrtKernelContext *context) {
    convolution *c = k->state;
    const int integer = c->weights.kind == KIND_INT8;
    window_run run;
    tensor residual;
    TRY(open_run(k, context, &c->window, integer, &run));
    TRY(run_input(k, context, integer ? 4 : 3, &residual));
    if (integer && c->adds != (residual.data != 0)) return fail(k->api, k->name, "R and sum_scale go together");
    int same = !residual.rank || residual.rank == run.rank;
    for (size_t i = 0; residual.rank && same && i < run.rank; i++) same = residual.dims[i] == run.dims[i];
    if (!same) return fail(k->api, k->name, "R does not have the output's shape");
    conv_job job = job_of_conv(c);
    job.fill = (uint32_t)(integer ? (uint8_t)c->end.x_zero_point * 0x01010101u : 0);
    thread_set seen = {0};
    job.threads = &seen;
    plan_chunks(known_threads(&c->threads), &job);
    job.copy_bytes = bytes_of_copies(&job);
    const int64_t partial = 4 * partial_sums(&c->weights) * (job.chunks ? 1 : job.tiles);
    const size_t bytes = (size_t)(job.copy_bytes + (partial + LINE - 1) / LINE * LINE);
    size_t available = 0;
    job.copies = bytes ? scratch_memory(k, bytes * (size_t)job.copy_sets, &available) : 0;
    if (bytes && !job.copies) return fail(k->api, k->name, "out of memory");
    job.set_bytes = (int64_t)(available / (size_t)job.copy_sets / LINE * LINE);
    OrtStatus *status = conv_examples(k, context, &job, &run, residual.data);
    free_scratch(k, job.copies);
    if (run.dims[0]) end_run(&c->threads, &seen);
    return status;
}

/* Whether so many weights are there that one load for four rows is worth the zeros that it meets. */
static int is_dense(const packed_weights *p) {
    return 4 * (uint64_t)p->count * (uint64_t)(p->rows * p->columns) >= 3 * (uint64_t)p->outputs * p->inputs * p->taps;
}

const char *read_sparse_weights(kernel *k, const OrtKernelInfo *info, convolution *c, int32_t kind, int32_t **row_sums) {
    tensor bytes;
    packed_weights packed;
    int64_t offset[MOST_TAPS];
    const geometry *g = &c->window.shape;
    if (!constant_input(k, info, 1, &bytes) || bytes.type != ORT_UINT8) return "the weights must be constant bytes";
    CHECK(read_weights(bytes.data, (size_t)bytes.elements, &packed));
    if (packed.kind != kind) return kind ? "the weights are not int8" : "the weights are not float";
    if ((int32_t)packed.inputs != c->window.channels || (int32_t)packed.taps != g->kernel_h * g->kernel_w)
        return "the weights do not match input_shape and kernel_shape";
    c->window.outputs = (int32_t)packed.outputs;
    const int32_t four_rows = kind == KIND_FLOAT && packed.rows == 4;
    CHECK(plan_window(k, &c->window, 2 + packed.count / g->channels, four_rows && k->level->masked));
    int32_t *sums = kind ? own(k, 4 * whole_fours(c->window.outputs)) : 0;
    if (kind && !sums) return "out of memory for the weights";
    if (row_sums) *row_sums = sums;
    tap_offsets(g, offset);
    expansion e = {&packed, scratch_memory(k, window_bytes(&packed), 0), own, k, 0};
    if (!e.window) return "out of memory for the weights";
    e.shared = kind && k->level->shared_rows && is_dense(&packed);
    /* Blocks of four rows, and int8, use what they load often enough. With one vector a tile, weights are the limit. */
    const int32_t sparse_rows = kind == KIND_FLOAT && !four_rows;
    const int32_t most = kind && !e.shared ? k->level->tile_i4 : sparse_rows ? k->level->tile_f1 : k->level->tile_f4;
    plan_tiles(g, k->level->lanes, most, &c->tile_lanes, &c->tiles);
    const int32_t cells = g->run < k->level->tile_f1 * c->tile_lanes ? g->run : k->level->tile_f1 * c->tile_lanes;
    const int64_t row_entries = (int64_t)packed.count * packed.columns / packed.outputs;
    const int32_t slab = sparse_rows && cells > 2 * k->level->lanes ? plan_slab(g, cells, row_entries) : g->channels;
    const char *problem = expand_conv(&e, offset, 4 * g->plane * g->views, g->form == MASKED ? 0 : slab, &c->weights, sums);
    free_scratch(k, e.window);
    return problem;
}

static const char *begin(kernel *k, const OrtKernelInfo *info, int32_t channels_a_cell) {
    convolution *c = own_state(k, sizeof *c);
    k->compute = compute_conv;
    return c ? read_window(k, info, channels_a_cell, &c->window) : "out of memory";
}

const char *create_conv(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin(k, info, 1));
    convolution *c = k->state;
    CHECK(read_sparse_weights(k, info, c, KIND_FLOAT, 0));
    return read_float_bias(k, info, 2, c->window.outputs, &c->end.floats);
}

/* The residual and what is done with it go together. */
static const char *check_sum(kernel *k, const OrtKernelInfo *info) {
    static const char *const names[] = {"sum_scale", "sum_r_scale", "sum_r_zero_point", "sum_zero_point", "sum_low", "sum_high",
                                        "sum_q_zero_point"};
    size_t inputs = 0;
    if (!succeeded(k->api, k->api->KernelInfo_GetInputCount(info, &inputs))) return "the number of inputs is unknown";
    int residual = inputs == 5;
    /* With a table behind it, R may be left out: the attributes say whether it is there. */
    for (size_t i = 0; inputs > 5 && i < sizeof names / sizeof *names; i++) residual |= has_attribute(k, info, names[i]);
    ((convolution *)k->state)->adds = residual;
    for (size_t i = 0; i < (residual ? 2 : sizeof names / sizeof *names); i++)
        if (has_attribute(k, info, names[i]) != residual)
            return problem_with(k, names[i], residual ? "is missing, which R needs" : "stands without R");
    return 0;
}

static const char *read_sum(kernel *k, const OrtKernelInfo *info, requantization *q) {
    byte_range *range = &q->sum_range;
    const int32_t least = least_value(k);
    const point points[] = {
        {"sum_q_zero_point", &q->sum_q_zero_point, q->range.zero_point - k->shift},
        {"sum_r_zero_point", &q->sum_r_zero_point, 0},
        {"sum_zero_point", &range->zero_point, 0},
        {"sum_low", &range->low, least},
        {"sum_high", &range->high, least + 255},
    };
    CHECK(read_points(k, info, points, sizeof points / sizeof *points));
    CHECK(scale_attribute(k, info, "sum_scale", &q->sum_scale));
    CHECK(scale_attribute(k, info, "sum_r_scale", &q->sum_r_scale));
    return range->low > range->high ? "sum_low is above sum_high" : check_sum(k, info);
}

const char *create_quantized_conv(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    CHECK(begin(k, info, 4));
    convolution *c = k->state;
    CHECK(read_layer_points(k, info, &c->end));
    CHECK(read_sum(k, info, &c->end.integers));
    size_t inputs = 0;
    if (succeeded(k->api, k->api->KernelInfo_GetInputCount(info, &inputs)) && inputs > 5)
        CHECK(read_table(k, info, 5, &c->end.integers.table));
    CHECK(read_sparse_weights(k, info, c, KIND_INT8, &row_sums));
    CHECK(read_integer_bias(k, info, 2, c->window.outputs, row_sums, &c->end));
    const int64_t taps = (int64_t)c->window.shape.kernel_h * c->window.shape.kernel_w;
    c->end.integers.bounded = is_bounded(&c->end.integers, c->window.outputs, taps * c->window.channels);
    return 0;
}
