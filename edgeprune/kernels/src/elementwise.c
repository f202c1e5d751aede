/* Operators that compute position by position, or only move bytes: in and out of the packed layout. */
#include "kernel.h"

static OrtStatus *compute_add(kernel *k, OrtKernelContext *context) {
    tensor a, b;
    void *y = 0;
    TRY(run_input(k, context, 0, &a));
    TRY(run_input(k, context, 1, &b));
    int same = a.rank == b.rank && a.rank >= 3;
    for (size_t i = 0; same && i < a.rank; i++) same = a.dims[i] == b.dims[i];
    if (!same || a.dims[a.rank - 1] != 4) return fail(k->api, k->name, "A and B must be packed tensors of one shape");
    TRY(run_output(k, context, a.dims, a.rank, &y));
    add_job job = *(const add_job *)k->state;
    job.a = a.data;
    job.b = b.data;
    job.output = y;
    job.cells = a.elements / 4;
    job.parts = job.cells > 4096 ? PIECES : 1;
    return k->api->KernelContext_ParallelFor(context, k->level->add, (size_t)job.parts, 0, &job);
}

const char *create_add(kernel *k, const OrtKernelInfo *info) {
    add_job *job = own_state(k, sizeof *job); /* what of it is the same in all runs */
    if (!job) return "out of memory";
    k->compute = compute_add;
    CHECK(read_sign(k, info));
    const int32_t least = least_value(k);
    const point points[] = {
        {"y_zero_point", &job->range.zero_point, 0}, {"low", &job->range.low, least}, {"high", &job->range.high, least + 255},
        {"a_zero_point", &job->a_zero_point, 0},     {"b_zero_point", &job->b_zero_point, 0},
    };
    CHECK(read_points(k, info, points, sizeof points / sizeof *points));
    CHECK(scale_attribute(k, info, "a_scale", &job->a_scale));
    CHECK(scale_attribute(k, info, "b_scale", &job->b_scale));
    return job->range.low > job->range.high ? "low is above high" : 0;
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
    int64_t dims[4] = {x.dims[0], l->channels, 1, 1};
    TRY(run_output(k, context, dims, x.rank - 1, &y));
    move_job job = {
        .positions = positions, .channels = l->channels, .flip = flip_of(k), .scale = l->scale / (float)positions,
        .x_zero_point = l->x_zero_point, .y_zero_point = l->y_zero_point,
    };
    for (int64_t n = 0; n < x.dims[0]; n++) {
        job.input = (const uint8_t *)x.data + 4 * n * x.dims[1] * positions;
        job.output = (uint8_t *)y + n * l->channels;
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
