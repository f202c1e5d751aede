/* Operators that compute position by position, or only move bytes: in and out of the packed layout. */
#include "kernel.h"

/* What is shared out cell by cell. */
static int32_t parts_of(int64_t cells) { return cells > 4096 ? PIECES : 1; }

static int is_packed(const tensor *x) { return (x->rank == 4 || x->rank == 5) && x->dims[x->rank - 1] == 4; }

static int same_shape(const tensor *a, const tensor *b) {
    int same = a->rank == b->rank;
    for (size_t i = 0; same && i < a->rank; i++) same = a->dims[i] == b->dims[i];
    return same;
}

static OrtStatus *compute_add(kernel *k, OrtKernelContext *context) {
    tensor a, b;
    void *y = 0;
    TRY(run_input(k, context, 0, &a));
    TRY(run_input(k, context, 1, &b));
    if (!is_packed(&a) || !same_shape(&a, &b)) return fail(k->api, k->name, "A and B must be packed tensors of one shape");
    TRY(run_output(k, context, a.dims, a.rank, &y));
    pair_job job = *(const pair_job *)k->state;
    job.a = a.data;
    job.b = b.data;
    job.output = y;
    job.cells = a.elements / 4;
    job.parts = parts_of(job.cells);
    return k->api->KernelContext_ParallelFor(context, k->level->add, (size_t)job.parts, 0, &job);
}

/* A sum or a product; its scales are read by the caller. */
static const char *begin_pair(kernel *k, const OrtKernelInfo *info) {
    pair_job *job = own_state(k, sizeof *job); /* what of it is the same in all runs */
    if (!job) return "out of memory";
    CHECK(read_sign(k, info));
    const int32_t least = least_value(k);
    const point points[] = {
        {"y_zero_point", &job->range.zero_point, 0}, {"low", &job->range.low, least}, {"high", &job->range.high, least + 255},
        {"a_zero_point", &job->a_zero_point, 0},     {"b_zero_point", &job->b_zero_point, 0},
    };
    CHECK(read_points(k, info, points, sizeof points / sizeof *points));
    return job->range.low > job->range.high ? "low is above high" : 0;
}

const char *create_add(kernel *k, const OrtKernelInfo *info) {
    k->compute = compute_add;
    CHECK(begin_pair(k, info));
    pair_job *job = k->state;
    CHECK(scale_attribute(k, info, "a_scale", &job->a_scale));
    return scale_attribute(k, info, "b_scale", &job->b_scale);
}

static OrtStatus *compute_multiply(kernel *k, OrtKernelContext *context) {
    tensor a, b;
    void *y = 0;
    TRY(run_input(k, context, 0, &a));
    TRY(run_input(k, context, 1, &b));
    const int same = is_packed(&a) && same_shape(&a, &b);
    const int gate = is_packed(&a) && a.rank == b.rank && a.dims[0] == b.dims[0] && a.dims[1] == b.dims[1] &&
                     b.elements == 4 * b.dims[0] * b.dims[1] && b.dims[b.rank - 1] == 4;
    if (!same && !gate) return fail(k->api, k->name, "A and B must be packed tensors of one shape, or B of one position");
    TRY(run_output(k, context, a.dims, a.rank, &y));
    pair_job job = *(const pair_job *)k->state;
    job.a = a.data;
    job.b = b.data;
    job.output = y;
    job.cells = a.elements / 4;
    job.parts = parts_of(job.cells);
    job.positions = same || !b.elements ? 1 : a.elements / b.elements;
    piece_of_work *work = same ? k->level->multiply : k->level->multiply_planes;
    if (!job.cells) return 0;
    return k->api->KernelContext_ParallelFor(context, work, (size_t)job.parts, 0, &job);
}

const char *create_multiply(kernel *k, const OrtKernelInfo *info) {
    k->compute = compute_multiply;
    CHECK(begin_pair(k, info));
    return scale_attribute(k, info, "scale", &((pair_job *)k->state)->a_scale);
}

const char *read_table(kernel *k, const OrtKernelInfo *info, size_t index, const uint8_t **out) {
    tensor entries;
    if (!constant_input(k, info, index, &entries) || entries.type != ORT_UINT8 || entries.elements != 256)
        return "the table must be a constant of 256 bytes";
    uint8_t *copy = own(k, 256);
    if (!copy) return "out of memory for the table";
    const uint32_t flip = flip_of(k) & 255; /* a byte of the tensor's type -> the level's byte */
    for (uint32_t i = 0; i < 256; i++) copy[i ^ flip] = (uint8_t)(((const uint8_t *)entries.data)[i] ^ flip);
    *out = copy;
    return 0;
}

static OrtStatus *compute_table(kernel *k, OrtKernelContext *context) {
    tensor x;
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    if (!is_packed(&x)) return fail(k->api, k->name, "X must be a packed tensor");
    TRY(run_output(k, context, x.dims, x.rank, &y));
    table_job job = *(const table_job *)k->state;
    job.input = x.data;
    job.output = y;
    job.cells = x.elements / 4;
    job.parts = parts_of(job.cells);
    return k->api->KernelContext_ParallelFor(context, k->level->table, (size_t)job.parts, 0, &job);
}

const char *create_table(kernel *k, const OrtKernelInfo *info) {
    table_job *job = own_state(k, sizeof *job); /* what of it is the same in all runs */
    if (!job) return "out of memory";
    k->compute = compute_table;
    CHECK(read_sign(k, info));
    return read_table(k, info, 1, &job->table);
}

static OrtStatus *compute_pack(kernel *k, OrtKernelContext *context) {
    tensor x;
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    if (x.rank != 3 && x.rank != 4) return fail(k->api, k->name, "X must be [N, C, H, W] or [N, C, L]");
    int64_t dims[5] = {x.dims[0], (x.dims[1] + 3) / 4, x.dims[2], x.rank == 4 ? x.dims[3] : 4, 4}, positions = x.dims[2];
    if (x.rank == 4) positions *= x.dims[3];
    TRY(run_output(k, context, dims, x.rank + 1, &y));
    if (x.dims[1] > 1 << 24) return fail(k->api, k->name, "X has too many channels");
    move_job job = {.positions = positions, .channels = (int32_t)x.dims[1], .flip = flip_of(k)};
    for (int64_t n = 0; n < x.dims[0]; n++) {
        job.input = (const uint8_t *)x.data + n * x.dims[1] * positions;
        job.output = (uint8_t *)y + 4 * n * dims[1] * positions;
        TRY(k->api->KernelContext_ParallelFor(context, k->level->pack, (size_t)dims[1], 0, &job));
    }
    return 0;
}

const char *create_pack(kernel *k, const OrtKernelInfo *info) {
    k->compute = compute_pack;
    return read_sign(k, info);
}

/* What leaves the packed layout. */
typedef struct {
    int32_t channels; /* as many of the packed ones are real */
    int32_t x_zero_point, y_zero_point;
    float scale;
} leaving;

static const char *begin(kernel *k, const OrtKernelInfo *info) {
    leaving *l = own_state(k, sizeof *l);
    if (!l) return "out of memory";
    CHECK(int_attribute(k, info, "channels", 1, 1 << 24, &l->channels));
    return l->channels ? read_sign(k, info) : "channels is missing";
}

static OrtStatus *packed_input(const kernel *k, OrtKernelContext *context, tensor *x, int64_t *positions) {
    const leaving *l = k->state;
    TRY(run_input(k, context, 0, x));
    if ((x->rank != 4 && x->rank != 5) || x->dims[1] != groups_of_four(l->channels) || x->dims[x->rank - 1] != 4)
        return fail(k->api, k->name, "X is not packed, or does not have as many channels as the attribute says");
    *positions = x->dims[2] * (x->rank == 5 ? x->dims[3] : 1);
    return 0;
}

static OrtStatus *compute_unpack(kernel *k, OrtKernelContext *context) {
    const leaving *l = k->state;
    tensor x;
    int64_t positions = 0;
    void *y = 0;
    TRY(packed_input(k, context, &x, &positions));
    int64_t dims[4] = {x.dims[0], l->channels, x.dims[2], x.dims[3]};
    TRY(run_output(k, context, dims, x.rank - 1, &y));
    move_job job = {.positions = positions, .channels = l->channels, .flip = flip_of(k)};
    for (int64_t n = 0; n < x.dims[0]; n++) {
        job.input = (const uint8_t *)x.data + 4 * n * x.dims[1] * positions;
        job.output = (uint8_t *)y + n * l->channels * positions;
        TRY(k->api->KernelContext_ParallelFor(context, k->level->unpack, (size_t)x.dims[1], 0, &job));
    }
    return 0;
}

const char *create_unpack(kernel *k, const OrtKernelInfo *info) {
    k->compute = compute_unpack;
    return begin(k, info);
}

static OrtStatus *compute_global_average_pool(kernel *k, OrtKernelContext *context) {
    const leaving *l = k->state;
    tensor x;
    int64_t positions = 0;
    void *y = 0;
    TRY(packed_input(k, context, &x, &positions));
    if (positions < 1 || positions > 1 << 23) return fail(k->api, k->name, "X has no positions, or too many");
    int64_t dims[5] = {x.dims[0], x.dims[1], 1, x.rank == 5 ? 1 : 4, 4};
    TRY(run_output(k, context, dims, x.rank, &y));
    move_job job = {
        .positions = positions, .channels = l->channels, .scale = l->scale / (float)positions,
        .x_zero_point = l->x_zero_point, .y_zero_point = l->y_zero_point,
    };
    for (int64_t n = 0; n < x.dims[0]; n++) {
        job.input = (const uint8_t *)x.data + 4 * n * x.dims[1] * positions;
        job.output = (uint8_t *)y + 4 * n * x.dims[1];
        TRY(k->api->KernelContext_ParallelFor(context, k->level->global_average, (size_t)x.dims[1], 0, &job));
    }
    return 0;
}

const char *create_global_average_pool(kernel *k, const OrtKernelInfo *info) {
    k->compute = compute_global_average_pool;
    CHECK(begin(k, info));
    leaving *l = k->state;
    const point points[] = {{"y_zero_point", &l->y_zero_point, 0}, {"x_zero_point", &l->x_zero_point, 0}};
    CHECK(read_points(k, info, points, 2));
    return scale_attribute(k, info, "scale", &l->scale);
}
