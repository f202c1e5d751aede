/* Sparse matrix products. */
#include "kernel.h"
#include "weights.h"

typedef struct {
    sparse_gemm weights;
    layer_end end;
    int32_t to_floats;
    int32_t channels_first;
    float epsilon;
} product;

/* From so many examples on a row of weights meets vectors of them. Below, each goes alone or, where int8 inputs are looked
 * up in registers, with a few others. */
enum { BATCH_IN_COLUMNS = 3, BATCH_BY_LANE = 16 };

/* A run's tensors of floats or bytes: rows of `inputs` numbers, or with the channels first planes of positions. */
typedef struct {
    tensor x, residual, norm_scale, norm_bias;
    void *y;
    size_t axis;       /* of the channels */
    int64_t positions; /* of an example's planes; 0: channels last */
    int64_t examples;  /* products of their own: with the channels first each example is one */
    int64_t batch;     /* columns of each */
} operands;

/* first: the product whose inputs X are, last: the one whose outputs Y are. */
static OrtStatus *check(const kernel *k, const operands *o, const product *first, const product *last) {
    const tensor *x = &o->x, *r = &o->residual;
    const int32_t inputs = first->weights.inputs;
    if (x->rank < 2 || x->rank > MOST_DIMENSIONS || x->dims[o->axis] != inputs || (!x->data && x->elements))
        return fail(k->api, k->name, "X does not have as many columns as the weights have inputs");
    int fits = !r->rank || (r->rank == x->rank && r->dims[o->axis] == last->weights.outputs);
    for (size_t i = 0; r->rank && fits && i < x->rank; i++) fits = i == o->axis || r->dims[i] == x->dims[i];
    if (!fits) return fail(k->api, k->name, "R does not have the output's shape");
    const int64_t scales = o->norm_scale.elements, shifts = o->norm_bias.elements;
    if ((o->norm_scale.data && scales != inputs) || (o->norm_bias.data && (shifts != inputs || !o->norm_scale.data)))
        return fail(k->api, k->name, "the norm's scale and bias must be as long as a column of X");
    return 0;
}

/* The tensors from input `residual` on are optional. */
static OrtStatus *read_operands(const kernel *k, OrtKernelContext *context, size_t residual, const product *last, operands *o) {
    const product *first = k->state;
    *o = (operands){.examples = 1};
    TRY(run_input(k, context, 0, &o->x));
    if (residual) TRY(run_input(k, context, residual, &o->residual));
    if (residual && first->weights.kind == KIND_FLOAT) {
        TRY(run_input(k, context, residual + 1, &o->norm_scale));
        TRY(run_input(k, context, residual + 2, &o->norm_bias));
    }
    o->axis = first->channels_first ? 1 : o->x.rank - 1;
    TRY(check(k, o, first, last));
    int64_t dims[MOST_DIMENSIONS];
    for (size_t i = 0; i < o->x.rank; i++) dims[i] = o->x.dims[i];
    dims[o->axis] = last->weights.outputs;
    TRY(run_output(k, context, dims, o->x.rank, &o->y));
    if (!o->x.elements) return 0;
    o->batch = o->x.elements / first->weights.inputs;
    if (first->channels_first) {
        o->examples = o->x.dims[0];
        o->positions = o->batch /= o->examples;
    }
    return o->batch > MOST_BATCH ? fail(k->api, k->name, "the batch is too large") : 0;
}

static gemm_job job_of(const product *p, const operands *o) {
    return (gemm_job){
        .weights = &p->weights, .float_end = &p->end.floats, .integer_end = &p->end.integers, .batch = (int32_t)o->batch,
        .to_floats = p->to_floats, .positions = o->positions,
    };
}

/* X and the norm of its columns. */
static void read_from(gemm_job *job, const product *p, const operands *o, int64_t example) {
    job->input = (const char *)o->x.data + 4 * example * o->batch * p->weights.inputs;
    job->norm_scale = o->norm_scale.data;
    job->norm_bias = o->norm_bias.data;
    job->epsilon = p->epsilon;
}

static void write_to(gemm_job *job, const product *p, const operands *o, int64_t example) {
    const int64_t at = example * o->batch * p->weights.outputs;
    job->output = (char *)o->y + 4 * at;
    if (o->residual.data) job->residual = (const float *)o->residual.data + at;
}

/* Whether a weight meets vectors of examples, and the panels' sizes. */
static void plan_job(const kernel *k, gemm_job *job) {
    const int integer = job->weights->kind == KIND_INT8;
    const int32_t least = integer && k->level->by_lane ? BATCH_BY_LANE : BATCH_IN_COLUMNS;
    const int columns = job->batch >= least || job->positions || job->norm_scale;
    const int32_t lanes = k->level->lanes, wanted = (job->batch + lanes - 1) / lanes * lanes;
    job->parts = PIECES;
    job->flip = flip_of(k);
    job->pitch = !columns ? 1 : wanted < PANEL ? wanted : PANEL;
    job->panel_parts = columns && !job->norm_scale ? PIECES : 1;
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

static OrtStatus *compute_gemm(kernel *k, OrtKernelContext *context) {
    const product *p = k->state;
    const int integer = p->weights.kind == KIND_INT8;
    operands o;
    TRY(read_operands(k, context, !integer ? 3 : p->to_floats ? 4 : 0, p, &o));
    for (int64_t example = 0; example < o.examples && o.x.elements; example++) {
        gemm_job job = job_of(p, &o);
        read_from(&job, p, &o, example);
        write_to(&job, p, &o, example);
        TRY(multiply(k, context, &job));
    }
    return 0;
}

/* Both products by panels, each from a panel of X to outputs, so that what is between stays near. */
static OrtStatus *run_chain(const kernel *k, OrtKernelContext *context, const gemm_job *job, const gemm_job *next) {
    chain_job chain = {
        .first = job, .second = next, .parts = PIECES,
        .second_at = 4 * (int64_t)job->pitch * job->weights->inputs + OVER_READ,
    };
    chain.buffer_bytes = chain.second_at + 4 * (int64_t)next->pitch * next->weights->inputs + OVER_READ;
    chain.buffers = scratch_memory(k, (size_t)(PIECES * chain.buffer_bytes), 0);
    if (!chain.buffers) return fail(k->api, k->name, "out of memory");
    OrtStatus *status = k->api->KernelContext_ParallelFor(context, k->level->gemm_chain, PIECES, 0, &chain);
    free_scratch(k, chain.buffers);
    return status;
}

/* Two products, of which the second reads what the first gives: in panels, or as rows where examples go alone. */
static OrtStatus *run_both(const kernel *k, OrtKernelContext *context, gemm_job *job, gemm_job *next) {
    plan_job(k, job);
    plan_job(k, next);
    next->pitch = job->pitch; /* which a norm may have made a panel's */
    if (job->pitch > 1 && panels_of(job) >= PIECES) return run_chain(k, context, job, next);
    const int32_t between_inputs = next->weights->inputs;
    const size_t bytes = panel_bytes(job), rows = 4 * (size_t)next->batch * (size_t)between_inputs, panels = panel_bytes(next);
    char *memory = scratch_memory(k, bytes + OVER_READ + (panels ? panels : rows), 0);
    if (!memory) return fail(k->api, k->name, "out of memory");
    void *between = memory + bytes + OVER_READ;
    job->panels = bytes ? memory : 0;
    if (panels)
        job->next = next->panels = between;
    else
        next->input = job->output = between;
    OrtStatus *status = run_job(k, context, job);
    if (!status) status = run_job(k, context, next);
    free_scratch(k, memory);
    return status;
}

static OrtStatus *compute_mlp(kernel *k, OrtKernelContext *context) {
    const product *first = k->state, *second = first + 1;
    operands o;
    TRY(read_operands(k, context, 5, second, &o));
    for (int64_t example = 0; example < o.examples && o.x.elements; example++) {
        gemm_job job = job_of(first, &o), next = job_of(second, &o);
        read_from(&job, first, &o, example);
        write_to(&next, second, &o, example);
        TRY(run_both(k, context, &job, &next));
    }
    return 0;
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

/* What a float product does besides multiplying. */
static const char *read_function(kernel *k, const OrtKernelInfo *info, product *p) {
    CHECK(epsilon_attribute(k, info, &p->epsilon));
    CHECK(int_attribute(k, info, "channels_first", 0, 1, &p->channels_first));
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
