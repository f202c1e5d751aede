/* Sparse matrix products. */
#include "kernel.h"
#include "weights.h"

typedef struct {
    sparse_gemm weights;
    layer_end end;
    int32_t to_floats;
} product;

/* From so many examples on a row of weights meets vectors of them. Below, each goes alone or, where int8 inputs are looked
 * up in registers, with a few others. */
enum { BATCH_IN_COLUMNS = 3, BATCH_BY_LANE = 16 };

/* One of a kernel's tensors of rows: of `inputs` numbers each. */
static OrtStatus *check(const kernel *k, const tensor *x, int32_t inputs, const tensor *residual, int32_t outputs) {
    if (x->rank < 2 || x->rank > MOST_DIMENSIONS || x->dims[x->rank - 1] != inputs || (!x->data && x->elements))
        return fail(k->api, k->name, "X does not have as many columns as the weights have inputs");
    int fits = !residual->rank || (residual->rank == x->rank && residual->dims[x->rank - 1] == outputs);
    for (size_t i = 0; residual->rank && fits && i + 1 < x->rank; i++) fits = residual->dims[i] == x->dims[i];
    return fits ? 0 : fail(k->api, k->name, "R does not have the output's shape");
}

static gemm_job job_of(const product *p, int64_t batch) {
    return (gemm_job){
        .weights = &p->weights, .float_end = &p->end.floats, .integer_end = &p->end.integers, .batch = (int32_t)batch,
        .to_floats = p->to_floats,
    };
}

/* Whether a weight meets vectors of examples, and the panels' sizes. */
static void plan_job(const kernel *k, gemm_job *job) {
    const int integer = job->weights->kind == KIND_INT8;
    const int columns = job->batch >= (integer && k->level->by_lane ? BATCH_BY_LANE : BATCH_IN_COLUMNS);
    const int32_t lanes = k->level->lanes, wanted = (job->batch + lanes - 1) / lanes * lanes;
    job->parts = PIECES;
    job->flip = flip_of(k);
    job->pitch = !columns ? 1 : wanted < PANEL ? wanted : PANEL;
    job->panel_parts = columns ? PIECES : 1;
}

static int64_t panels_of(const gemm_job *job) {
    const int needed = job->pitch > 1 || job->weights->kind == KIND_INT8;
    return needed ? ((int64_t)job->batch + job->pitch - 1) / job->pitch : 0;
}

static size_t panel_bytes(const gemm_job *job) {
    const sparse_gemm *w = job->weights;
    const int64_t cells = w->kind == KIND_INT8 ? groups_of_four(w->inputs) : w->inputs;
    return 4 * (size_t)(panels_of(job) * cells * job->pitch);
}

/* Runs it; its panels are filled already where it has no input. */
static OrtStatus *run_job(const kernel *k, OrtKernelContext *context, gemm_job *job) {
    const size_t pieces = job->input ? (size_t)(panels_of(job) * job->panel_parts) : 0;
    if (pieces) TRY(k->api->KernelContext_ParallelFor(context, k->level->gemm_panel, pieces, 0, job));
    return k->api->KernelContext_ParallelFor(context, k->level->gemm, PIECES, 0, job);
}

OrtStatus *multiply(const kernel *k, OrtKernelContext *context, gemm_job *job) {
    plan_job(k, job);
    const size_t bytes = panel_bytes(job);
    job->panels = bytes ? scratch_memory(k, bytes, 0) : 0;
    if (bytes && !job->panels) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = run_job(k, context, job);
    free_scratch(k, job->panels);
    return status;
}

static OrtStatus *begin_run(const kernel *k, OrtKernelContext *context, const tensor *x, int32_t outputs, void **y) {
    int64_t dims[MOST_DIMENSIONS];
    for (size_t i = 0; i < x->rank; i++) dims[i] = x->dims[i];
    dims[x->rank - 1] = outputs;
    TRY(run_output(k, context, dims, x->rank, y));
    const int64_t batch = x->elements / x->dims[x->rank - 1];
    return batch > MOST_BATCH ? fail(k->api, k->name, "the batch is too large") : 0;
}

static OrtStatus *compute_gemm(kernel *k, OrtKernelContext *context) {
    const product *p = k->state;
    const int integer = p->weights.kind == KIND_INT8;
    tensor x, residual = {0};
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    if (!integer || p->to_floats) TRY(run_input(k, context, integer ? 4 : 3, &residual));
    TRY(check(k, &x, p->weights.inputs, &residual, p->weights.outputs));
    TRY(begin_run(k, context, &x, p->weights.outputs, &y));
    if (x.elements == 0) return 0;
    gemm_job job = job_of(p, x.elements / p->weights.inputs);
    job.input = x.data;
    job.residual = residual.data;
    job.output = y;
    return multiply(k, context, &job);
}

/* Two products, of which the second reads what the first gives: in panels, or as rows where examples go alone. */
static OrtStatus *compute_mlp(kernel *k, OrtKernelContext *context) {
    const product *first = k->state, *second = first + 1;
    tensor x, residual;
    void *y = 0;
    TRY(run_input(k, context, 0, &x));
    TRY(run_input(k, context, 5, &residual));
    TRY(check(k, &x, first->weights.inputs, &residual, second->weights.outputs));
    TRY(begin_run(k, context, &x, second->weights.outputs, &y));
    if (x.elements == 0) return 0;
    const int64_t batch = x.elements / first->weights.inputs;
    gemm_job job = job_of(first, batch), next = job_of(second, batch);
    plan_job(k, &job);
    plan_job(k, &next);
    const size_t bytes = panel_bytes(&job), rows = 4 * (size_t)(batch * second->weights.inputs), panels = panel_bytes(&next);
    char *memory = scratch_memory(k, bytes + OVER_READ + (panels ? panels : rows), 0);
    if (!memory) return fail(k->api, k->name, "out of memory");
    void *between = memory + bytes + OVER_READ;
    job.input = x.data;
    job.panels = bytes ? memory : 0;
    if (panels)
        job.next = next.panels = between;
    else
        next.input = job.output = between;
    next.output = y;
    next.residual = residual.data;
    OrtStatus *status = run_job(k, context, &job);
    if (!status) status = run_job(k, context, &next);
    free_scratch(k, memory);
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
    expansion e = {&packed, scratch_memory(k, window_bytes(&packed), 0), own, k, 0};
    if (!e.window) return "out of memory for the weights";
    const char *problem = expand_gemm(&e, out, sums, k->level->by_lane);
    free_scratch(k, e.window);
    return problem;
}

static const char *begin(kernel *k, size_t products) {
    k->compute = compute_gemm;
    return own_state(k, products * sizeof(product)) ? 0 : "out of memory";
}

static const char *read_function(kernel *k, const OrtKernelInfo *info, product *p) {
    return int_attribute(k, info, "function", IDENTITY, RELU, &p->end.floats.function);
}

const char *create_gemm(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin(k, 1));
    product *p = k->state;
    CHECK(read_product(k, info, 1, &p->weights, 0));
    CHECK(read_function(k, info, p));
    return read_float_bias(k, info, 2, p->weights.outputs, &p->end.floats);
}

/* The clipping is the second product's. */
const char *create_mlp(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin(k, 2));
    k->compute = compute_mlp;
    product *p = k->state;
    for (size_t i = 0; i < 2; i++) {
        CHECK(read_product(k, info, 1 + 2 * i, &p[i].weights, 0));
        CHECK(read_float_bias(k, info, 2 + 2 * i, p[i].weights.outputs, &p[i].end.floats));
    }
    p->end.floats.low = -__builtin_inff();
    p->end.floats.high = __builtin_inff();
    if (p->weights.outputs != p[1].weights.inputs) return "the second weights do not have as many inputs as the first outputs";
    return read_function(k, info, p);
}

static const char *read_quantized(kernel *k, const OrtKernelInfo *info) {
    int32_t *row_sums = 0;
    product *p = k->state;
    CHECK(read_product(k, info, 1, &p->weights, &row_sums));
    return read_integer_bias(k, info, 2, p->weights.outputs, row_sums, &p->end);
}

const char *create_quantized_gemm(kernel *k, const OrtKernelInfo *info) {
    size_t count = 0;
    CHECK(begin(k, 1));
    product *p = k->state;
    CHECK(read_layer_points(k, info, &p->end));
    CHECK(read_quantized(k, info));
    if (!succeeded(k->api, k->api->KernelInfo_GetInputCount(info, &count))) return "its inputs cannot be counted";
    return count > 4 ? read_table(k, info, 4, &p->end.integers.table) : 0;
}

const char *create_gemm_to_floats(kernel *k, const OrtKernelInfo *info) {
    CHECK(begin(k, 1));
    product *p = k->state;
    p->to_floats = 1;
    CHECK(read_sign(k, info));
    const point points[] = {{"x_zero_point", &p->end.x_zero_point, 0}};
    CHECK(read_points(k, info, points, 1));
    CHECK(read_quantized(k, info));
    CHECK(read_function(k, info, p));
    return float_bounds(k, info, &p->end.floats.low, &p->end.floats.high);
}
