/* What stands between a transformer's matrix products: norms over a token's row, and attention. */
#include "kernel.h"

typedef struct {
    float epsilon, scale;
    int32_t heads, size;
    int32_t offsets[3]; /* of Q, K and V: floats before the first head of a token's row */
    int32_t channels_first;
    int32_t to_bytes;
    byte_end bytes;
} between;

/* Where floats become bytes in the end, as the operators whose names begin with Q do. */
static const char *read_byte_end(kernel *k, const OrtKernelInfo *info) {
    between *b = k->state;
    b->to_bytes = 1;
    CHECK(read_sign(k, info));
    const point points[] = {{"y_zero_point", &b->bytes.range.zero_point, 0}};
    CHECK(read_points(k, info, points, 1));
    CHECK(steps_attribute(k, info, &b->bytes.steps));
    const int32_t lowest = k->level->signed_bytes ? -128 : 0;
    b->bytes.range.low = lowest;
    b->bytes.range.high = lowest + 255;
    b->bytes.flip = flip_of(k);
    return 0;
}

static OrtStatus *compute_norm(kernel *k, OrtKernelContext *context) {
    const between *b = k->state;
    tensor x, scale, bias;
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    TRY(run_input(k, context, 1, &scale));
    TRY(run_input(k, context, 2, &bias));
    const size_t axis = b->channels_first ? 1 : x.rank - 1;
    const int64_t width = x.rank > axis ? x.dims[axis] : 0;
    if (x.rank < 1 || width < 1 || width > 1 << 24) return fail(k->api, k->name, "X must have rows of 1 to 2^24 numbers");
    if (scale.elements != width || (bias.data && bias.elements != width))
        return fail(k->api, k->name, "scale and bias must be as long as a row of X");
    TRY(run_output(k, context, x.dims, x.rank, &y));
    if (!x.elements) return 0;
    norm_job job = {
        .x = x.data, .scale = scale.data, .bias = bias.data, .y = y, .bytes = b->to_bytes ? &b->bytes : 0,
        .rows = x.elements / width, .width = (int32_t)width, .parts = PIECES, .epsilon = b->epsilon,
    };
    if (b->channels_first) {
        job.positions = job.rows / x.dims[0];
        return k->api->KernelContext_ParallelFor(context, k->level->norm_planes, PIECES, 0, &job);
    }
    if (job.bytes) job.scratch = scratch_memory(k, 4 * PIECES * (size_t)whole_vectors(width), 0);
    if (job.bytes && !job.scratch) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = k->api->KernelContext_ParallelFor(context, k->level->norm, PIECES, 0, &job);
    free_scratch(k, job.scratch);
    return status;
}

static const char *begin_norm(kernel *k, const OrtKernelInfo *info) {
    between *b = own_state(k, sizeof *b);
    if (!b) return "out of memory";
    k->compute = compute_norm;
    return epsilon_attribute(k, info, &b->epsilon);
}

const char *create_norm(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin_norm(k, info));
    between *b = k->state;
    return int_attribute(k, info, "channels_first", 0, 1, &b->channels_first);
}

const char *create_quantized_norm(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin_norm(k, info));
    return read_byte_end(k, info);
}

static OrtStatus *check_heads(const kernel *k, const tensor *inputs) {
    const between *b = k->state;
    for (size_t i = 0; i < 3; i++) {
        const tensor *x = inputs + i;
        if (x->rank != 3) return fail(k->api, k->name, "Q, K and V must be [N, tokens, floats]");
        if (x->dims[0] != inputs->dims[0] || x->dims[1] > 1 << 24 || (!x->data && x->elements))
            return fail(k->api, k->name, "Q, K and V must be batches of one size, of 2^24 tokens at most");
        if (x->dims[2] < b->offsets[i] + (int64_t)b->heads * b->size)
            return fail(k->api, k->name, "a token's row of Q, K or V is too short for the heads");
    }
    if (inputs[1].dims[1] != inputs[2].dims[1]) return fail(k->api, k->name, "K and V must have as many tokens");
    if (!inputs[1].dims[1]) return fail(k->api, k->name, "K has no tokens");
    return 0;
}

/* Of more keys the sums of bytes might not fit. */
enum { MOST_BYTE_KEYS = 1 << 15 };

/* Memory of its pieces (levels/tokens.inc, levels/integer_attention.inc), in whole lines. */
static void plan_attention(attention_job *job, int of_bytes) {
    const int64_t size = job->size, keys = job->key_columns, values = job->value_columns;
    const int64_t channel_cells = (size + 3) / 4, key_cells = (job->keys + 3) / 4;
    job->copy_floats = size * keys + job->keys * values;
    job->piece_floats = QUERY_ROWS * (keys + values);
    if (of_bytes) {
        job->copy_floats = 5 * channel_cells * keys + keys + 2 * values + key_cells * values;
        job->piece_floats += whole_vectors(QUERY_ROWS * (channel_cells + key_cells));
    }
}

static OrtStatus *compute_attention(kernel *k, OrtKernelContext *context) {
    const between *b = k->state;
    tensor inputs[3];
    void *y = 0;
    for (size_t i = 0; i < 3; i++) TRY(run_input(k, context, i, inputs + i));
    TRY(check_heads(k, inputs));
    const int64_t batch = inputs->dims[0], queries = inputs->dims[1], keys = inputs[1].dims[1];
    const int64_t dims[3] = {batch, queries, (int64_t)b->heads * b->size};
    TRY(run_output(k, context, dims, 3, &y));
    if (!batch || !queries) return 0;
    attention_job job = {
        .q = (const float *)inputs[0].data + b->offsets[0], .k = (const float *)inputs[1].data + b->offsets[1],
        .v = (const float *)inputs[2].data + b->offsets[2], .q_row = inputs[0].dims[2], .k_row = inputs[1].dims[2],
        .v_row = inputs[2].dims[2], .queries = queries, .keys = keys, .y = y, .bytes = b->to_bytes ? &b->bytes : 0,
        .key_columns = (int32_t)whole_vectors(keys), .value_columns = (int32_t)whole_vectors(b->size), .heads = b->heads,
        .size = b->size, .scale = b->scale, .parts = PIECES,
    };
    const int of_bytes = b->to_bytes && keys <= MOST_BYTE_KEYS;
    plan_attention(&job, of_bytes);
    const int64_t heads = batch * b->heads, pieces = heads * job.parts;
    job.copies = scratch_memory(k, 4 * (size_t)(heads * job.copy_floats + pieces * job.piece_floats), 0);
    if (!job.copies) return fail(k->api, k->name, "out of memory");
    job.scores = job.copies + heads * job.copy_floats;
    OrtStatus *status = k->api->KernelContext_ParallelFor(context, of_bytes ? k->level->copy_head_bytes : k->level->copy_head,
                                                              (size_t)heads, 0, &job);
    if (!status) status = k->api->KernelContext_ParallelFor(context, of_bytes ? k->level->attention_bytes : k->level->attention,
                                                            (size_t)pieces, 0, &job);
    free_scratch(k, job.copies);
    return status;
}

const char *create_attention(kernel *k, const OrtKernelInfo *info) {
    between *b = own_state(k, sizeof *b);
    if (!b) return "out of memory";
    k->compute = compute_attention;
    CHECK(int_attribute(k, info, "heads", 1, 1 << 12, &b->heads));
    CHECK(int_attribute(k, info, "size", 1, 1 << 12, &b->size));
    if (!b->heads || !b->size) return problem_with(k, b->heads ? "size" : "heads", "is missing");
    if (has_attribute(k, info, "offsets")) CHECK(int_list(k, info, "offsets", b->offsets, 3));
    return scale_attribute(k, info, "scale", &b->scale);
}

const char *create_quantized_attention(kernel *k, const OrtKernelInfo *info) {
    CHECK(create_attention(k, info));
    return read_byte_end(k, info);
}
