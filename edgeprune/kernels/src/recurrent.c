/* Recurrent layers: LSTM, GRU, RNN. The inputs' part of all steps is one sparse product, whose columns the steps are; what
 * depends on the step before is a product of one column each. */
#include "kernel.h"
#include "weights.h"

typedef struct {
    sparse_gemm inputs;
    step_weights recurrent;
    activation end;    /* of the inputs' product: biases, no bounds */
    float *reset_bias; /* [directions][padded], or null */
    recurrent_job job; /* what of it is the same in all runs */
} recurrent_layer;

/* Floats of a piece's state (levels/recurrent.inc): h and another of its size, each with a vector of zeros behind it, c, then
 * the gates' products. Pieces begin at whole lines, so that no two threads write one. */
static int64_t piece_floats(const recurrent_job *job) { return (3 + job->gates) * whole_vectors(job->padded) + 2 * WIDEST; }

/* Rows of weights for all directions. */
static int32_t rows_of(const recurrent_job *job) { return job->directions * job->gates * job->padded; }

static OrtStatus *first_state(const kernel *k, OrtKernelContext *context, size_t index, const float **out) {
    const recurrent_job *job = &((const recurrent_layer *)k->state)->job;
    tensor x, state;
    TRY(run_input(k, context, 0, &x));
    TRY(run_input(k, context, index, &state));
    *out = state.data;
    if (!state.rank) return 0;
    const int fits = state.rank == 3 && state.dims[0] == job->directions && state.dims[1] == x.dims[1] && state.dims[2] == job->units;
    return fits ? 0 : fail(k->api, k->name, "an initial state does not have the shape [directions, batch, hidden_size]");
}

static OrtStatus *outputs_of(const kernel *k, OrtKernelContext *context, recurrent_job *job) {
    const int64_t all[4] = {job->steps, job->directions, job->batch, job->units};
    void *y[3] = {0};
    TRY(output_at(k, context, 0, all, 4, y));
    TRY(output_at(k, context, 1, all + 1, 3, y + 1));
    if (job->cell == LSTM) TRY(output_at(k, context, 2, all + 1, 3, y + 2));
    job->y = y[0];
    job->last_h = y[1];
    job->last_c = y[2];
    return 0;
}

/* Some steps after one another: the inputs' part, then the rest. */
static OrtStatus *run_some(const kernel *k, OrtKernelContext *context, const tensor *x, recurrent_job *job, float *given) {
    const recurrent_layer *layer = k->state;
    const int32_t steps = job->end - job->first;
    job->given = given;
    job->given_step = job->backwards ? job->steps - job->end : job->first;
    gemm_job product = {
        .weights = &layer->inputs, .float_end = &layer->end, .output = given, .batch = steps * job->batch,
        .input = (const float *)x->data + (int64_t)job->given_step * job->batch * layer->inputs.inputs,
    };
    if (product.batch) TRY(multiply(k, context, &product));
    return k->api->KernelContext_ParallelFor(context, k->level->recurrent, (size_t)(job->directions * job->batch), 0, job);
}

/* A panel of the inputs' product at a time, so that its sums are still near when they are read; the two directions of a layer
 * begin at either end, so that they need all of it. */
static OrtStatus *run_steps(const kernel *k, OrtKernelContext *context, const tensor *x, recurrent_job *job) {
    const int64_t pieces = (int64_t)job->directions * job->batch;
    const int32_t of_panel = job->batch && job->batch < PANEL ? PANEL / job->batch : 1;
    const int32_t some = job->directions > 1 || of_panel > job->steps ? job->steps : of_panel;
    job->piece_floats = piece_floats(job);
    const size_t sums = 4 * (size_t)some * (size_t)job->batch * (size_t)rows_of(job);
    char *memory = scratch_memory(k, sums + OVER_READ + 4 * (size_t)(pieces * job->piece_floats), 0);
    if (!memory) return fail(k->api, k->name, "out of memory");
    job->states = (float *)(memory + sums + OVER_READ);
    OrtStatus *status = 0;
    for (job->first = 0; !status && pieces && (job->first < job->steps || !job->first); job->first = job->end) {
        job->end = job->steps - job->first < some ? job->steps : job->first + some;
        status = run_some(k, context, x, job, (float *)memory);
        if (!job->steps) break;
    }
    free_scratch(k, memory);
    return status;
}

static OrtStatus *compute_recurrent(kernel *k, OrtKernelContext *context) {
    const recurrent_layer *layer = k->state;
    recurrent_job job = layer->job;
    tensor x;
    TRY(run_input(k, context, 0, &x));
    if (x.rank != 3 || x.dims[2] != layer->inputs.inputs)
        return fail(k->api, k->name, "X must be [steps, batch, inputs], with as many inputs as the weights have");
    if (x.dims[0] > MOST_BATCH || x.dims[1] > MOST_BATCH || x.dims[0] * x.dims[1] > MOST_BATCH)
        return fail(k->api, k->name, "X has too many steps or examples");
    job.steps = (int32_t)x.dims[0];
    job.batch = (int32_t)x.dims[1];
    TRY(first_state(k, context, 4, &job.first_h));
    if (job.cell == LSTM) TRY(first_state(k, context, 5, &job.first_c));
    TRY(outputs_of(k, context, &job));
    return run_steps(k, context, &x, &job);
}

/* Biases [directions, 2 * gates * units], of the inputs' rows and of h's, as the rows of the weights are. */
static const char *read_biases(kernel *k, const OrtKernelInfo *info, recurrent_layer *layer) {
    const recurrent_job *job = &layer->job;
    const int32_t units = job->units, rows = rows_of(job), gates = job->gates, half = gates * units;
    tensor given;
    float *bias = own(k, 4 * (size_t)rows), *reset = own(k, 4 * (size_t)(job->directions * job->padded));
    if (!bias || !reset) return "out of memory for the biases";
    if (!constant_input(k, info, 3, &given) || given.type != ORT_FLOAT || given.elements != 2 * (int64_t)job->directions * half)
        return "the biases must be a constant of two floats for each gate of each unit";
    for (int32_t row = 0; row < rows; row++) bias[row] = 0;
    for (int32_t i = 0; i < job->directions * job->padded; i++) reset[i] = 0;
    for (int32_t direction = 0; direction < job->directions; direction++) {
        const float *from = (const float *)given.data + 2 * (int64_t)direction * half;
        for (int32_t i = 0; i < half; i++) {
            const int32_t gate = i / units, unit = i % units;
            const int apart = job->reset_after && gate == gates - 1;
            bias[(direction * gates + gate) * job->padded + unit] = from[i] + (apart ? 0 : from[half + i]);
            if (apart) reset[direction * job->padded + unit] = from[half + i];
        }
    }
    layer->end = (activation){.bias = bias, .low = -__builtin_inff(), .high = __builtin_inff()};
    layer->reset_bias = reset;
    return 0;
}

/* Memory for what is only needed while the kernel is created. */
typedef struct {
    const kernel *k;
    void *pieces[4];
    int32_t count;
} passing;

static void *for_now(void *owner, size_t bytes) {
    passing *p = owner;
    if (p->count == (int32_t)(sizeof p->pieces / sizeof *p->pieces)) return 0;
    void *memory = allocate_bytes(p->k, bytes);
    if (memory) p->pieces[p->count++] = memory;
    return memory;
}

static const char *expand_recurrent(kernel *k, expansion *e, recurrent_layer *layer) {
    const recurrent_job *job = &layer->job;
    sparse_gemm weights;
    CHECK(expand_gemm(e, &weights, 0, 0));
    if (weights.outputs != layer->inputs.outputs || weights.inputs != job->units)
        return "the recurrent weights do not have as many rows as the inputs' and hidden_size columns";
    e->get = own;
    e->owner = k;
    return put_step_weights(e, &weights, job->directions * job->gates, k->level->in_lanes, &layer->recurrent);
}

static const char *read_recurrent(kernel *k, const OrtKernelInfo *info, recurrent_layer *layer) {
    tensor bytes;
    packed_weights packed;
    if (!constant_input(k, info, 2, &bytes) || bytes.type != ORT_UINT8) return "the recurrent weights must be constant bytes";
    CHECK(read_weights(bytes.data, (size_t)bytes.elements, &packed));
    if (packed.kind != KIND_FLOAT) return "the recurrent weights are not float";
    passing p = {.k = k};
    expansion e = {&packed, scratch_memory(k, window_bytes(&packed), 0), for_now, &p, 0};
    const char *problem = e.window ? expand_recurrent(k, &e, layer) : "out of memory for the weights";
    free_scratch(k, e.window);
    while (p.count) free_bytes(k, p.pieces[--p.count]);
    return problem;
}

enum { MOST_UNITS = 1 << 15 }; /* an index has sixteen bits, and is also that of a zero past the state */

static const char *create_recurrent(kernel *k, const OrtKernelInfo *info, cell_kind cell, int32_t gates) {
    recurrent_layer *layer = own_state(k, sizeof *layer);
    if (!layer) return "out of memory";
    k->compute = compute_recurrent;
    recurrent_job *job = &layer->job;
    CHECK(int_attribute(k, info, "hidden_size", 1, MOST_UNITS, &job->units));
    if (!job->units) return "hidden_size is missing";
    CHECK(int_attribute(k, info, "reverse", 0, 1, &job->backwards));
    if (cell == GRU) CHECK(int_attribute(k, info, "linear_before_reset", 0, 1, &job->reset_after));
    if (cell == RNN) CHECK(int_attribute(k, info, "relu", 0, 1, &job->rectified));
    CHECK(read_product(k, info, 1, &layer->inputs, 0));
    job->weights = &layer->recurrent;
    job->cell = cell;
    job->gates = gates;
    job->padded = 4 * groups_of_four(job->units);
    const int32_t of_one = gates * job->padded, all = layer->inputs.outputs;
    job->directions = all == 2 * of_one ? 2 : 1;
    if (all != job->directions * of_one)
        return "the weights do not have hidden_size rows, rounded up to four, for each gate of one or two directions";
    CHECK(read_recurrent(k, info, layer));
    CHECK(read_biases(k, info, layer));
    job->reset_bias = layer->reset_bias;
    return 0;
}

const char *create_lstm(kernel *k, const OrtKernelInfo *info) { return create_recurrent(k, info, LSTM, 4); }
const char *create_gru(kernel *k, const OrtKernelInfo *info) { return create_recurrent(k, info, GRU, 3); }
const char *create_rnn(kernel *k, const OrtKernelInfo *info) { return create_recurrent(k, info, RNN, 1); }
