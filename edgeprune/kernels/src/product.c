/* Sparse matrix products. */
#include "kernel.h"
#include "weights.h"

typedef struct {
    sparse_gemm weights;
    layer_end end;
} product;

/* From so many examples on a row of weights meets vectors of them. Below, each goes alone or, where int8 inputs are looked
 * up in registers, with a few others. */
enum { BATCH_IN_COLUMNS = 3, BATCH_BY_LANE = 16 };

static OrtStatus *check(const kernel *k, const tensor *x, const tensor *residual) {
    const sparse_gemm *w = &((const product *)k->state)->weights;
    if (x->rank < 2 || x->rank > MOST_DIMENSIONS || x->dims[x->rank - 1] != w->inputs || (!x->data && x->elements))
        return fail(k->api, k->name, "X does not have as many columns as the weights have inputs");
    int fits = !residual->rank || (residual->rank == x->rank && residual->dims[x->rank - 1] == w->outputs);
    for (size_t i = 0; residual->rank && fits && i + 1 < x->rank; i++) fits = residual->dims[i] == x->dims[i];
    return fits ? 0 : fail(k->api, k->name, "R does not have the output's shape");
}

static OrtStatus *compute_gemm(kernel *k, OrtKernelContext *context) {
    const product *p = k->state;
    const sparse_gemm *w = &p->weights;
    const int integer = w->kind == KIND_INT8;
    tensor x, residual = {0};
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    if (!integer) TRY(run_input(k, context, 3, &residual));
    TRY(check(k, &x, &residual));
    int64_t dims[MOST_DIMENSIONS];
    for (size_t i = 0; i < x.rank; i++) dims[i] = x.dims[i];
    dims[x.rank - 1] = w->outputs;
    TRY(run_output(k, context, dims, x.rank, &y));
    if (x.elements == 0) return 0;
    const int64_t batch = x.elements / w->inputs;
    if (batch > MOST_BATCH) return fail(k->api, k->name, "the batch is too large");
    gemm_job job = {
        .weights = w, .float_end = &p->end.floats, .integer_end = &p->end.integers, .input = x.data,
        .residual = residual.data, .output = y, .batch = (int32_t)batch,
    };
    return multiply(k, context, &job);
}

OrtStatus *multiply(const kernel *k, OrtKernelContext *context, gemm_job *job) {
    const sparse_gemm *w = job->weights;
    const int integer = w->kind == KIND_INT8;
    const int64_t batch = job->batch;
    const int columns = batch >= (integer && k->level->by_lane ? BATCH_BY_LANE : BATCH_IN_COLUMNS);
    const int64_t lanes = k->level->lanes, wanted = (batch + lanes - 1) / lanes * lanes;
    const int64_t pitch = !columns ? 1 : wanted < PANEL ? wanted : PANEL;
    const int64_t panels = columns || integer ? (batch + pitch - 1) / pitch : 0;
    const int64_t cells = integer ? groups_of_four(w->inputs) : w->inputs, panel_bytes = 4 * cells * pitch;
    job->parts = PIECES;
    job->flip = flip_of(k);
    job->pitch = (int32_t)pitch;
    job->panel_parts = columns ? PIECES : 1;
    job->panels = panels ? scratch_memory(k, (size_t)(panels * panel_bytes), 0) : 0;
    if (panels && !job->panels) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = 0;
    const size_t pieces = (size_t)(panels * job->panel_parts);
    if (pieces) status = k->api->KernelContext_ParallelFor(context, k->level->gemm_panel, pieces, 0, job);
    if (!status) status = k->api->KernelContext_ParallelFor(context, k->level->gemm, PIECES, 0, job);
    free_scratch(k, job->panels);
    return status;
}

const char *read_product(kernel *k, const OrtKernelInfo *info, size_t index, sparse_gemm *out, int32_t **row_sums) {
    const int32_t kind = row_sums ? KIND_INT8 : KIND_FLOAT;
    tensor bytes;
    packed_weights packed;
    if (!constant_input(k, info, index, &bytes) || bytes.type != ORT_UINT8) return "the weights must be constant bytes";
    CHECK(read_weights(bytes.data, (size_t)bytes.elements, &packed));
    if (packed.kind != kind) return kind ? "the weights are not int8" : "the weights are not float";
    int32_t *sums = row_sums ? own(k, 4 * whole_fours((int32_t)packed.outputs)) : 0;
    if (row_sums && !sums) return "out of memory for the weights";
    if (row_sums) *row_sums = sums;
    expansion e = {&packed, scratch_memory(k, window_bytes(&packed), 0), own, k};
    if (!e.window) return "out of memory for the weights";
    const char *problem = expand_gemm(&e, out, sums, k->level->by_lane);
    free_scratch(k, e.window);
    return problem;
}

static const char *begin(kernel *k) {
    k->compute = compute_gemm;
    return own_state(k, sizeof(product)) ? 0 : "out of memory";
}

const char *create_gemm(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin(k));
    product *p = k->state;
    CHECK(read_product(k, info, 1, &p->weights, 0));
    return read_float_bias(k, info, 2, p->weights.outputs, &p->end.floats);
}

const char *create_quantized_gemm(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    CHECK(begin(k));
    product *p = k->state;
    CHECK(read_layer_points(k, info, &p->end));
    CHECK(read_product(k, info, 1, &p->weights, &row_sums));
    return read_integer_bias(k, info, 2, p->weights.outputs, row_sums, &p->end);
}
