/* Sparse, depthwise and pooling operators: windows that move over planes. */
#include "kernel.h"

static const char *plan(kernel *k, int64_t reads, int32_t masked) {
    geometry *g = &k->shape;
    const int32_t lanes = k->level->lanes;
    const char *problem = plan_copies(g, lanes, reads, masked);
    const int64_t cells = problem ? 0 : gather_cells(g), count = problem ? 0 : mask_count(g, lanes);
    int32_t *table = cells ? own(k, 4 * (size_t)cells) : 0;
    uint16_t *masks = count ? own(k, 2 * (size_t)count) : 0;
    if ((cells && !table) || (count && !masks)) return "out of memory";
    if (table) plan_gather(g, table);
    if (masks) plan_masks(g, lanes, masks);
    return problem;
}

static void tiles_of(kernel *k, int32_t most) {
    plan_tiles(&k->shape, k->level->lanes, most, &k->tile_lanes, &k->tiles);
}

/* Several threads share what is more than about this many pieces; one thread loses little by them. */
enum { PIECES = 8 };

static conv_job job_of(const kernel *k) {
    return (conv_job){
        .shape = &k->shape, .weights = &k->conv, .float_end = &k->float_end, .integer_end = &k->integer_end,
        .tiles = k->tiles, .lanes = k->tile_lanes, .least = (k->shape.run + k->tile_lanes - 1) / k->tile_lanes / k->tiles,
        .parts = k->tiles >= PIECES ? 1 : (PIECES + k->tiles - 1) / k->tiles,
        .copy_parts = k->shape.channels < PIECES ? k->shape.channels : PIECES,
    };
}

/* The interface does not tell how many threads the runtime has, so the first runs are shared out in many pieces, to see
 * how many threads take some; and every so often, as long as there seems to be but one, for others may have slept. Runs at
 * the same time may try at once; nothing depends on it. */
enum { TRIALS = 4, AGAIN = 16 };

static int32_t known_threads(const kernel *k) {
    const uint32_t runs = __atomic_load_n(&k->runs, __ATOMIC_ACQUIRE);
    const int32_t threads = __atomic_load_n(&k->threads, __ATOMIC_RELAXED);
    return runs < TRIALS || (threads < 2 && runs % AGAIN == 0) ? 0 : threads;
}

static void end_run(kernel *k, const thread_set *seen) {
    if (seen->count > __atomic_load_n(&k->threads, __ATOMIC_RELAXED))
        __atomic_store_n(&k->threads, seen->count, __ATOMIC_RELAXED);
    __atomic_add_fetch(&k->runs, 1, __ATOMIC_RELEASE);
}

/* Rows of outputs for each thread from which it pays to share out by place what could be shared out by channel as well:
 * rows at the ends of a thread's piece come from another core. By channel, a convolution takes half of its input from
 * there, a depthwise one nothing. */
enum { ROWS_OF_POINTS = 14, ROWS_OF_DEPTHWISE = 28 };

/* By place a thread copies what it reads, so chunks are few; by channel there are more of them than threads, since cores
 * are not equally fast, nor free. */
static void plan_chunks(const kernel *k, conv_job *job) {
    const geometry *g = &k->shape;
    const int32_t threads = known_threads(k), vectors = (g->run + job->lanes - 1) / job->lanes;
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

static OrtStatus *conv_examples(const kernel *k, OrtKernelContext *context, conv_job *job, const tensor *x, char *y,
                                const char *residual) {
    const geometry *g = &k->shape;
    const int64_t in = 4 * (int64_t)g->channels * g->height * g->width;
    const int64_t out_channels = k->conv.kind == KIND_INT8 ? groups_of_four(k->outputs) : k->outputs;
    const int64_t out = 4 * out_channels * g->out_h * g->out_w;
    for (int64_t n = 0; n < x->dims[0]; n++) {
        job->source = (const char *)x->data + n * in;
        job->output = y + n * out;
        job->residual = residual ? residual + n * out : 0;
        if (job->chunks) *job->threads = (thread_set){0};
        TRY(conv_example(k, context, job));
    }
    return 0;
}

static OrtStatus *compute_conv(kernel *k, OrtKernelContext *context) {
    const geometry *g = &k->shape;
    const int integer = k->conv.kind == KIND_INT8;
    tensor x, residual;
    int64_t dims[5];
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    TRY(run_input(k, context, integer ? 4 : 3, &residual));
    const char *problem = check_input(k, &x, integer);
    if (problem) return fail(k->api, k->name, problem);
    const size_t rank = tensor_dims(k, x.dims[0], k->outputs, g->out_h, g->out_w, integer, dims);
    int same = !residual.rank || residual.rank == rank;
    for (size_t i = 0; residual.rank && same && i < rank; i++) same = residual.dims[i] == dims[i];
    if (!same) return fail(k->api, k->name, "R does not have the output's shape");
    TRY(run_output(k, context, dims, rank, &y));
    conv_job job = job_of(k);
    requantization end = k->integer_end;
    end.has_sum = residual.data != 0;
    job.integer_end = &end;
    job.fill = (uint32_t)(integer ? (uint8_t)k->x_zero_point * 0x01010101u : 0);
    thread_set seen = {0};
    job.threads = &seen;
    plan_chunks(k, &job);
    /* Sets lie one behind the other: what is read behind the end of one must not be another thread's. */
    job.copy_bytes = job.copied ? 4 * whole_vectors(g->plane * g->views * g->channels) + OVER_READ : 0;
    const int64_t partial = 4 * partial_sums(&k->conv) * (job.chunks ? 1 : job.tiles);
    const size_t bytes = (size_t)(job.copy_bytes + (partial + 63) / 64 * 64);
    size_t available = 0;
    job.copies = bytes ? scratch_memory(k, bytes * (size_t)job.copy_sets, &available) : 0;
    if (bytes && !job.copies) return fail(k->api, k->name, "out of memory");
    job.set_bytes = (int64_t)(available / (size_t)job.copy_sets / 64 * 64);
    OrtStatus *status = conv_examples(k, context, &job, &x, y, residual.data);
    free_scratch(k, job.copies);
    if (x.dims[0]) end_run(k, &seen);
    return status;
}

static const char *read_sparse_weights(kernel *k, const OrtKernelInfo *info, int32_t kind, int32_t **row_sums) {
    tensor bytes;
    packed_weights packed;
    int64_t offset[1 << 12];
    const geometry *g = &k->shape;
    if (!constant_input(k, info, 1, &bytes) || bytes.type != ORT_UINT8) return "the weights must be constant bytes";
    const char *problem = read_weights(bytes.data, (size_t)bytes.elements, &packed);
    if (problem) return problem;
    if (packed.kind != kind) return kind ? "the weights are not int8" : "the weights are not float";
    if ((int32_t)packed.inputs != k->channels || (int32_t)packed.taps != g->kernel_h * g->kernel_w)
        return "the weights do not match input_shape and kernel_shape";
    k->outputs = (int32_t)packed.outputs;
    const int32_t four_rows = kind == KIND_FLOAT && packed.rows == 4;
    problem = plan(k, 2 + packed.count / g->channels, four_rows && k->level->masked);
    if (problem) return problem;
    *row_sums = kind ? own(k, 4 * ((size_t)k->outputs + 4)) : 0;
    if (kind && !*row_sums) return "out of memory for the weights";
    tap_offsets(g, offset);
    /* Blocks of four rows, and int8, use what they load often enough. With one vector a tile, weights are the limit. */
    const int32_t sparse_rows = kind == KIND_FLOAT && !four_rows;
    tiles_of(k, kind ? k->level->tile_i4 : sparse_rows ? k->level->tile_f1 : k->level->tile_f4);
    const int32_t cells = g->run < k->level->tile_f1 * k->tile_lanes ? g->run : k->level->tile_f1 * k->tile_lanes;
    const int64_t row_entries = (int64_t)packed.count * packed.columns / packed.outputs;
    const int32_t slab = sparse_rows && cells > 2 * k->level->lanes ? plan_slab(g, cells, row_entries) : g->channels;
    expansion e = {&packed, scratch_memory(k, window_bytes(&packed), 0), own, k};
    if (!e.window) return "out of memory for the weights";
    problem = expand_conv(&e, offset, 4 * g->plane * g->views, g->form == MASKED ? 0 : slab, &k->conv, *row_sums);
    free_scratch(k, e.window);
    return problem;
}

OrtStatus *create_conv(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    const char *problem = read_geometry(k, info, 1);
    if (!problem) problem = read_sparse_weights(k, info, KIND_FLOAT, &row_sums);
    if (!problem) problem = read_float_bias(k, info, 2);
    if (problem) return fail(k->api, k->name, problem);
    k->compute = compute_conv;
    return 0;
}

/* The residual and what is done with it go together. */
static const char *check_sum(kernel *k, const OrtKernelInfo *info) {
    static const char *const names[] = {"sum_scale", "sum_r_scale", "sum_r_zero_point", "sum_zero_point", "sum_low", "sum_high"};
    size_t inputs = 0;
    OrtStatus *status = k->api->KernelInfo_GetInputCount(info, &inputs);
    if (status) {
        k->api->ReleaseStatus(status);
        return "the number of inputs is unknown";
    }
    const int residual = inputs > 4;
    for (size_t i = 0; i < (residual ? 2 : sizeof names / sizeof *names); i++)
        if (has_attribute(k, info, names[i]) != residual)
            return problem_with(k, names[i], residual ? "is missing, which R needs" : "stands without R");
    return 0;
}

OrtStatus *create_quantized_conv(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    const char *problem = read_geometry(k, info, 4);
    if (!problem) problem = read_integer_end(k, info);
    if (!problem) problem = check_sum(k, info);
    if (!problem) problem = read_sparse_weights(k, info, KIND_INT8, &row_sums);
    if (!problem) problem = read_integer_bias(k, info, 2, row_sums);
    if (problem) return fail(k->api, k->name, problem);
    k->compute = compute_conv;
    return 0;
}

/* ---- depthwise ---- */

static OrtStatus *compute_depthwise(kernel *k, OrtKernelContext *context) {
    const geometry *g = &k->shape;
    const int integer = k->window.quads != 0;
    tensor x;
    int64_t dims[5];
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    const char *problem = check_input(k, &x, integer);
    if (problem) return fail(k->api, k->name, problem);
    const size_t rank = tensor_dims(k, x.dims[0], k->outputs, g->out_h, g->out_w, integer, dims);
    TRY(run_output(k, context, dims, rank, &y));
    depthwise_job job = k->window;
    job.shape = g;
    job.float_end = &k->float_end;
    job.integer_end = &k->integer_end;
    thread_set seen = {0};
    const int32_t threads = known_threads(k);
    job.bands = threads > 1 && g->out_h >= ROWS_OF_DEPTHWISE * threads ? threads : 1;
    const int32_t of_channels = (2 * PIECES + job.bands - 1) / job.bands;
    job.parts = job.bands * (g->channels < of_channels ? g->channels : of_channels);
    job.threads = threads ? 0 : &seen;
    job.fill = (uint32_t)(integer ? (uint8_t)k->x_zero_point * 0x01010101u : 0);
    job.copies = scratch_memory(k, 4 * (size_t)((int64_t)job.row_cells * (job.slots + 1) * job.parts), 0);
    if (!job.copies) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = 0;
    for (int64_t n = 0; n < x.dims[0] && !status; n++) {
        job.source = (const char *)x.data + 4 * n * g->channels * g->height * g->width;
        job.output = (char *)y + 4 * n * g->channels * g->out_h * g->out_w;
        status = k->api->KernelContext_ParallelFor(context, integer ? k->level->quantized_depthwise : k->level->depthwise,
                                           (size_t)job.parts, 0, &job);
    }
    free_scratch(k, job.copies);
    if (x.dims[0]) end_run(k, &seen);
    return status;
}

/* Cells that a ring may take up of the nearest cache, 32 or 48 KiB on all targets. */
enum { RING_CELLS = 4 << 10 };

/* How rows lie in the ring, for a window job with split, phases and the like set; ahead: cells that the kernels read
 * behind a phase's last. */
static const char *plan_rows(kernel *k, int32_t ahead) {
    depthwise_job *job = &k->window;
    const geometry *g = &k->shape;
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
    k->compute = compute_depthwise;
    return 0;
}

static const char *depthwise_weights(kernel *k, const OrtKernelInfo *info, int32_t type, tensor *weights) {
    k->outputs = k->channels;
    if (!constant_input(k, info, 1, weights) || weights->type != type ||
        weights->elements != (int64_t)k->channels * k->shape.kernel_h * k->shape.kernel_w)
        return "the weights must be constant, one kernel for each channel";
    return 0;
}

static const char *read_depthwise(kernel *k, const OrtKernelInfo *info) {
    tensor weights;
    const geometry *g = &k->shape;
    const char *problem = depthwise_weights(k, info, ORT_FLOAT, &weights);
    if (problem) return problem;
    const int32_t stride = g->stride_x, reach = g->dilation_x * (g->kernel_w - 1);
    int32_t *offset = own(k, 4 * (size_t)g->kernel_w);
    float *copy = own(k, 4 * (size_t)weights.elements);
    if (!offset || !copy) return "out of memory for the weights";
    for (int64_t i = 0; i < weights.elements; i++) copy[i] = ((const float *)weights.data)[i];
    k->window = (depthwise_job){.taps = g->kernel_h * g->kernel_w, .offset = offset, .weights = copy, .split = stride,
                                .phases = reach < stride ? reach + 1 : stride, .phase_used = g->out_w + reach / stride};
    problem = plan_rows(k, 2 * WIDEST);
    for (int32_t kx = 0; !problem && kx < g->kernel_w; kx++) {
        const int32_t column = kx * g->dilation_x;
        offset[kx] = 4 * (column % stride * k->window.phase_cells + column / stride);
    }
    return problem;
}

OrtStatus *create_depthwise(kernel *k, const OrtKernelInfo *info) {
    const char *problem = read_geometry(k, info, 1);
    if (!problem) problem = read_depthwise(k, info);
    if (!problem) problem = read_float_bias(k, info, 2);
    return problem ? fail(k->api, k->name, problem) : 0;
}

/* Rows of the kernel as quads of columns, zeros where dilation leaves gaps and past the last column. */
static const char *read_quads(kernel *k, const OrtKernelInfo *info, int32_t **row_sums) {
    tensor weights;
    const geometry *g = &k->shape;
    const char *problem = depthwise_weights(k, info, ORT_INT8, &weights);
    if (problem) return problem;
    const int32_t reach = g->dilation_x * (g->kernel_w - 1), quads = reach / 4 + 1, groups = groups_of_four(k->channels);
    const int64_t row_bytes = 16 * (int64_t)quads, bytes = groups * (int64_t)g->kernel_h * row_bytes;
    if (bytes > 1 << 28) return "the dilated kernel is too large";
    int8_t *copy = own(k, (size_t)bytes);
    *row_sums = own(k, 16 * (size_t)groups);
    if (!copy || !*row_sums) return "out of memory for the weights";
    for (int64_t i = 0; i < bytes; i++) copy[i] = 0;
    const int8_t *from = weights.data;
    for (int32_t c = 0; c < k->channels; c++) {
        int32_t sum = 0;
        for (int32_t tap = 0; tap < g->kernel_h * g->kernel_w; tap++, from++) {
            const int32_t x = tap % g->kernel_w * g->dilation_x;
            const int64_t row = c / 4 * (int64_t)g->kernel_h + tap / g->kernel_w;
            copy[row * row_bytes + 16 * (x / 4) + 4 * (c % 4) + x % 4] = *from;
            sum += *from;
        }
        (*row_sums)[c] = sum;
    }
    k->window = (depthwise_job){.quads = copy, .row_quads = quads, .columns = reach + 1, .step = g->stride_x, .split = 1,
                                .phases = 1};
    const int64_t used = (int64_t)(g->out_w - 1) * g->stride_x + reach + 1;
    if (used > 1 << 26) return "the input is too large";
    k->window.phase_used = (int32_t)used;
    /* Vectors of outputs, each `step` cells on, and whole quads of columns. */
    return g->stride_x > 1 << 20 ? "the stride is too large" : plan_rows(k, (g->stride_x + 1) * WIDEST + 4);
}

OrtStatus *create_quantized_depthwise(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    const char *problem = read_geometry(k, info, 4);
    if (!problem) problem = read_integer_end(k, info);
    if (!problem) problem = read_quads(k, info, &row_sums);
    if (!problem) problem = read_integer_bias(k, info, 2, row_sums);
    return problem ? fail(k->api, k->name, problem) : 0;
}

/* ---- pooling ---- */

static OrtStatus *compute_max_pool(kernel *k, OrtKernelContext *context) {
    const geometry *g = &k->shape;
    tensor x;
    int64_t dims[5];
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    const int integer = k->conv.kind == KIND_INT8;
    const char *problem = check_input(k, &x, integer);
    if (problem) return fail(k->api, k->name, problem);
    TRY(run_output(k, context, dims, tensor_dims(k, x.dims[0], k->outputs, g->out_h, g->out_w, integer, dims), &y));
    conv_job job = job_of(k);
    job.fill = integer ? (uint8_t)lowest(k) * 0x01010101u : 0xff800000u; /* minus infinity */
    job.copies = scratch_memory(k, 4 * (size_t)(g->plane * g->views * g->channels), 0);
    if (!job.copies) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = 0;
    for (int64_t n = 0; n < x.dims[0] && !status; n++) {
        job.source = (const char *)x.data + 4 * n * g->channels * g->height * g->width;
        job.output = (char *)y + 4 * n * g->channels * g->out_h * g->out_w;
        status = k->api->KernelContext_ParallelFor(context, k->level->max_pool, (size_t)job.copy_parts, 0, &job);
    }
    free_scratch(k, job.copies);
    return status;
}

static OrtStatus *create_pool(kernel *k, const OrtKernelInfo *info, int32_t kind) {
    const char *problem = read_geometry(k, info, kind == KIND_INT8 ? 4 : 1);
    if (!problem) problem = read_integer_end(k, info);
    k->conv.kind = kind;
    if (!problem) problem = plan(k, 1, 0);
    if (problem) return fail(k->api, k->name, problem);
    const geometry *g = &k->shape;
    const int32_t taps = g->kernel_h * g->kernel_w;
    int64_t offset[1 << 12];
    entry_i4 *entry = own(k, (size_t)taps * sizeof *entry);
    k->conv.start = own(k, 8);
    if (!entry || !k->conv.start) return fail(k->api, k->name, "out of memory");
    tap_offsets(g, offset);
    for (int32_t tap = 0; tap < taps; tap++) entry[tap] = (entry_i4){(int32_t)offset[tap], 0};
    k->conv.start[0] = 0;
    k->conv.start[1] = (uint32_t)taps;
    k->conv.entries = entry;
    k->outputs = k->channels;
    /* Whole vectors: a tile of the widest ones. */
    k->tile_lanes = k->level->lanes;
    k->tiles = ((g->run + k->tile_lanes - 1) / k->tile_lanes + k->level->tile_i4 - 1) / k->level->tile_i4;
    k->compute = compute_max_pool;
    return 0;
}

OrtStatus *create_max_pool(kernel *k, const OrtKernelInfo *info) { return create_pool(k, info, KIND_FLOAT); }
OrtStatus *create_quantized_max_pool(kernel *k, const OrtKernelInfo *info) { return create_pool(k, info, KIND_INT8); }

/* Half to even, for |value| < 2^22. */
static int32_t nearest(float value) {
    const float bounded = value > -1e6f ? (value < 1e6f ? value : 1e6f) : -1e6f;
    volatile float shifted = bounded + 12582912.0f;
    return (int32_t)(shifted - 12582912.0f);
}

/* One channel group, plainly: networks have one such layer, if any. */
static void average_group(const kernel *k, const uint8_t *x, uint8_t *y) {
    const geometry *g = &k->shape;
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
                        sums[c] += (k->level->signed_bytes ? (int8_t)byte : byte) - k->x_zero_point;
                    }
                }
            }
            const int32_t count = k->count_include_pad ? with_padding : inside ? inside : 1;
            for (int c = 0; c < 4; c++) {
                const int32_t value = nearest((float)sums[c] * (k->scale / (float)count)) + k->integer_end.zero_point;
                y[c] = (uint8_t)(value < lowest(k) ? lowest(k) : value > lowest(k) + 255 ? lowest(k) + 255 : value);
            }
        }
    }
}

static OrtStatus *compute_average_pool(kernel *k, OrtKernelContext *context) {
    const geometry *g = &k->shape;
    tensor x;
    int64_t dims[5];
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    const char *problem = check_input(k, &x, 1);
    if (problem) return fail(k->api, k->name, problem);
    TRY(run_output(k, context, dims, tensor_dims(k, x.dims[0], k->outputs, g->out_h, g->out_w, 1, dims), &y));
    for (int64_t plane = 0; plane < x.dims[0] * g->channels; plane++)
        average_group(k, (const uint8_t *)x.data + 4 * plane * g->height * g->width,
                      (uint8_t *)y + 4 * plane * g->out_h * g->out_w);
    return 0;
}

OrtStatus *create_average_pool(kernel *k, const OrtKernelInfo *info) {
    const char *problem = read_geometry(k, info, 4);
    if (!problem) problem = read_integer_end(k, info);
    if (!problem) problem = int_attribute(k, info, "count_include_pad", 0, 1, &k->count_include_pad);
    if (problem) return fail(k->api, k->name, problem);
    k->outputs = k->channels;
    k->compute = compute_average_pool;
    return 0;
}
