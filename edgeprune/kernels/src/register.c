/* The operators' table, and the entry point that ONNX Runtime calls. */
#include "kernel.h"

enum { MOST_INPUTS = 8 };

typedef struct {
    OrtCustomOp op; /* first, so that a pointer to it is one to this */
    const char *name;
    create *create;
    int8_t inputs[MOST_INPUTS]; /* element types; 0 ends the list */
    int8_t optional;  /* the input from which on they may be left out, or -1 */
    int8_t several;   /* any number of inputs of one type */
    int8_t output;
    int8_t outputs;   /* how many there are, 0 for one; of several any may be left out */
    int8_t is_signed;
    uint32_t takes; /* groups of attributes */
} operator;

#define UNUSED __attribute__((unused))

static const operator *of(const OrtCustomOp *op) { return (const operator *)(const void *)op; }

static const char *get_name(const OrtCustomOp *op) { return of(op)->name; }
static const char *get_provider(UNUSED const OrtCustomOp *op) { return 0; /* the CPU's */ }
static size_t input_count(const OrtCustomOp *op) {
    size_t count = 0;
    while (count < MOST_INPUTS && of(op)->inputs[count]) count++;
    return count;
}
static int input_type(const OrtCustomOp *op, size_t index) { return of(op)->inputs[index]; }
static size_t output_count(const OrtCustomOp *op) { return of(op)->outputs ? (size_t)of(op)->outputs : 1; }
static int output_type(const OrtCustomOp *op, UNUSED size_t index) { return of(op)->output; }
enum { REQUIRED, OPTIONAL, VARIADIC };
static int input_characteristic(const OrtCustomOp *op, size_t index) {
    if (of(op)->several) return VARIADIC;
    return of(op)->optional >= 0 && (int)index >= of(op)->optional ? OPTIONAL : REQUIRED;
}
static int output_characteristic(const OrtCustomOp *op, UNUSED size_t index) { return of(op)->outputs > 1; }
static int zero_of_index(UNUSED const OrtCustomOp *op, UNUSED size_t index) { return 0; }
static int one(UNUSED const OrtCustomOp *op) { return 1; }
static int last_version(UNUSED const OrtCustomOp *op) { return 0x7fffffff; }

static OrtStatus *create_kernel(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    const char *problem = 0;
    const level *chosen = choose_level(&problem);
    if (!chosen) return fail(api, of(op)->name, problem);
    OrtAllocator *memory = 0;
    void *data = 0;
    TRY(api->GetAllocatorWithDefaultOptions(&memory));
    TRY(api->AllocatorAlloc(memory, sizeof(kernel), &data));
    kernel *k = data;
    if (!k) return fail(api, of(op)->name, "out of memory");
    *k = (kernel){.api = api, .level = chosen, .name = of(op)->name, .memory = memory, .is_signed = of(op)->is_signed,
                  .takes = of(op)->takes};
    count_user(k, 1);
    problem = check_attributes(k, info);
    if (!problem) problem = of(op)->create(k, info);
    *out = problem ? 0 : k;
    OrtStatus *status = problem ? fail(api, k->name, problem) : 0;
    if (problem) destroy_kernel(k);
    return status;
}

static OrtStatus *compute(void *data, OrtKernelContext *context) {
    kernel *k = data;
    return k->compute(k, context);
}

/* Nothing is written here, whichever threads register or create sessions. */
#define CALLBACKS \
    { \
        .version = ORT_API_VERSION, .GetName = get_name, .GetExecutionProviderType = get_provider, \
        .GetInputType = input_type, .GetInputTypeCount = input_count, .GetOutputType = output_type, \
        .GetOutputTypeCount = output_count, .KernelDestroy = destroy_kernel, \
        .GetInputCharacteristic = input_characteristic, .GetOutputCharacteristic = output_characteristic, \
        .GetInputMemoryType = zero_of_index, .GetVariadicInputMinArity = one, .GetVariadicInputHomogeneity = one, \
        .GetVariadicOutputMinArity = one, .GetVariadicOutputHomogeneity = one, .CreateKernelV2 = create_kernel, \
        .KernelComputeV2 = compute, .GetStartVersion = one, .GetEndVersion = last_version, \
    }
#define OPERATOR(op_name, creation, output_type, ...) \
    { .op = CALLBACKS, .name = op_name, .create = creation, .output = output_type, .optional = -1, __VA_ARGS__ }

enum { F = ORT_FLOAT, U = ORT_UINT8, S = ORT_INT8, I = ORT_INT32 };
enum {
    POINTS = TAKES_X_POINT | TAKES_Y_POINT,
    POOL = TAKES_WINDOW | TAKES_OUTPUT_SHAPE,
    AVERAGE = POINTS | TAKES_SCALE,
    LAYER = POINTS | TAKES_BOUNDS,
    BYTES = TAKES_Y_SCALE | TAKES_Y_POINT,
    PRODUCT = TAKES_FLOAT_BOUNDS | TAKES_FUNCTION | TAKES_EPSILON | TAKES_CHANNELS_FIRST,
    WINDOW = TAKES_WINDOW | TAKES_SIGN | LAYER,
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
static const operator operators[] = {
    OPERATOR("SparseConv", create_conv, F, .inputs = {F, U, F, F}, .optional = 3, .takes = TAKES_WINDOW | TAKES_FLOAT_BOUNDS),
    OPERATOR("SparseGemm", create_gemm, F, .inputs = {F, U, F, F, F, F}, .optional = 3, .takes = PRODUCT),
    OPERATOR("LayerNorm", create_norm, F, .inputs = {F, F, F}, .optional = 2, .takes = TAKES_EPSILON | TAKES_CHANNELS_FIRST),
    OPERATOR("QLayerNorm", create_quantized_norm, U, .inputs = {F, F, F}, .optional = 2, .takes = TAKES_EPSILON | BYTES),
    OPERATOR("QLayerNormS8", create_quantized_norm, S, .inputs = {F, F, F}, .optional = 2, .takes = TAKES_EPSILON | BYTES,
             .is_signed = 1),
    OPERATOR("Attention", create_attention, F, .inputs = {F, F, F}, .takes = TAKES_HEADS | TAKES_SCALE),
    OPERATOR("QAttention", create_quantized_attention, U, .inputs = {F, F, F}, .takes = TAKES_HEADS | TAKES_SCALE | BYTES),
    OPERATOR("QAttentionS8", create_quantized_attention, S, .inputs = {F, F, F}, .takes = TAKES_HEADS | TAKES_SCALE | BYTES,
             .is_signed = 1),
    OPERATOR("SparseLSTM", create_lstm, F, .inputs = {F, U, U, F, F, F}, .optional = 4, .outputs = 3, .takes = TAKES_UNITS),
    OPERATOR("SparseGRU", create_gru, F, .inputs = {F, U, U, F, F}, .optional = 4, .outputs = 2,
             .takes = TAKES_UNITS | TAKES_RESET),
    OPERATOR("SparseRNN", create_rnn, F, .inputs = {F, U, U, F, F}, .optional = 4, .outputs = 2,
             .takes = TAKES_UNITS | TAKES_RELU),
    OPERATOR("DepthwiseConv", create_depthwise, F, .inputs = {F, F, F}, .takes = TAKES_WINDOW | TAKES_FLOAT_BOUNDS),
    OPERATOR("SparseConvDepthwise", create_conv_depthwise, F, .inputs = {F, U, F, F, F},
             .takes = TAKES_WINDOW | TAKES_FLOAT_BOUNDS | TAKES_INNER_BOUNDS),
    OPERATOR("QSparseConv", create_quantized_conv, U, .inputs = {U, U, I, F, U, U}, .optional = 4,
             .takes = WINDOW | TAKES_SUM),
    OPERATOR("SparseMlp", create_mlp, F, .inputs = {F, U, F, U, F, F, F, F}, .optional = 5, .takes = PRODUCT),
    OPERATOR("QSparseGemm", create_quantized_gemm, U, .inputs = {U, U, I, F, U}, .optional = 4, .takes = LAYER),
    OPERATOR("QSparseGemmS8", create_quantized_gemm, S, .inputs = {S, U, I, F, U}, .optional = 4, .takes = LAYER, .is_signed = 1),
    OPERATOR("QSparseGemmF", create_gemm_to_floats, F, .inputs = {U, U, I, F, F}, .optional = 4,
             .takes = TAKES_X_POINT | TAKES_FLOAT_BOUNDS | TAKES_FUNCTION),
    OPERATOR("QSparseGemmFS8", create_gemm_to_floats, F, .inputs = {S, U, I, F, F}, .optional = 4,
             .takes = TAKES_X_POINT | TAKES_FLOAT_BOUNDS | TAKES_FUNCTION, .is_signed = 1),
    OPERATOR("QDepthwiseConv", create_quantized_depthwise, U, .inputs = {U, S, I, F, U}, .optional = 4, .takes = WINDOW),
    OPERATOR("QAdd", create_add, U, .inputs = {U, U},
             .takes = TAKES_SIGN | TAKES_CHANNELS | TAKES_TWO | TAKES_TWO_SCALES | TAKES_Y_POINT | TAKES_BOUNDS),
    OPERATOR("QMul", create_multiply, U, .inputs = {U, U},
             .takes = TAKES_SIGN | TAKES_CHANNELS | TAKES_TWO | TAKES_SCALE | TAKES_Y_POINT | TAKES_BOUNDS),
    OPERATOR("QTable", create_table, U, .inputs = {U, U}, .takes = TAKES_SIGN),
    OPERATOR("MaxPool", create_max_pool, F, .inputs = {F}, .takes = POOL),
    OPERATOR("QMaxPool", create_quantized_max_pool, U, .inputs = {U}, .takes = TAKES_SIGN | POOL),
    OPERATOR("QAveragePool", create_average_pool, U, .inputs = {U}, .takes = TAKES_SIGN | POOL | AVERAGE | TAKES_COUNT),
    OPERATOR("QGlobalAveragePool", create_global_average_pool, U, .inputs = {U},
             .takes = TAKES_SIGN | TAKES_CHANNELS | AVERAGE),
    OPERATOR("QGather", create_gather, U, .inputs = {U}, .several = 1, .takes = TAKES_SIGN | TAKES_X_POINT | TAKES_INDICES),
    OPERATOR("QPack", create_pack, U, .inputs = {U}),
    OPERATOR("QPackS8", create_pack, U, .inputs = {S}, .is_signed = 1),
    OPERATOR("QUnpack", create_unpack, U, .inputs = {U}, .takes = TAKES_CHANNELS),
    OPERATOR("QUnpackS8", create_unpack, S, .inputs = {U}, .takes = TAKES_CHANNELS, .is_signed = 1),
};
#pragma GCC diagnostic pop

/* One domain for each runtime in the process, whatever is registered how often: sessions refer to it for as long as this
 * library stays loaded. The runtime unloads the library with the last session options that registered it. */
enum { MOST_RUNTIMES = 4 };
static struct {
    const OrtApi *api;
    OrtCustomOpDomain *domain;
} domains[MOST_RUNTIMES];
static int32_t busy;

static OrtStatus *make_domain(const OrtApi *api, OrtCustomOpDomain **out) {
    OrtCustomOpDomain *domain = 0;
    OrtStatus *status = api->CreateCustomOpDomain("edgeprune", &domain);
    for (size_t i = 0; i < sizeof operators / sizeof *operators && !status; i++)
        status = api->CustomOpDomain_Add(domain, &operators[i].op);
    if (status && domain) api->ReleaseCustomOpDomain(domain);
    if (!status) *out = domain;
    return status;
}

static OrtStatus *domain_of(const OrtApi *api, OrtCustomOpDomain **out) {
    OrtStatus *status = 0;
    int i = 0;
    lock(&busy);
    while (i < MOST_RUNTIMES && domains[i].domain && domains[i].api != api) i++;
    if (i == MOST_RUNTIMES)
        status = fail(api, "kernels", "more runtimes are in this process than the library serves");
    else if (!domains[i].domain)
        status = make_domain(api, &domains[i].domain);
    if (!status) {
        domains[i].api = api;
        *out = domains[i].domain;
    }
    unlock(&busy);
    return status;
}

__attribute__((destructor)) static void release_domains(void) {
    for (int i = 0; i < MOST_RUNTIMES; i++)
        if (domains[i].domain) domains[i].api->ReleaseCustomOpDomain(domains[i].domain);
}

#define EXPORT __attribute__((visibility("default")))

EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);
EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    const OrtApi *api = base->GetApi(ORT_API_VERSION);
    OrtCustomOpDomain *domain = 0;
    const char *problem = 0;
    if (!api) return 0; /* older than 1.17: the runtime refuses the model's operators by name */
    if (!choose_level(&problem)) return fail(api, "kernels", problem);
    TRY(domain_of(api, &domain));
    return api->AddCustomOpDomain(options, domain);
}

EXPORT const char *edgeprune_level(void);
EXPORT const char *edgeprune_level(void) {
    const char *problem = 0;
    const level *chosen = choose_level(&problem);
    return chosen ? chosen->name : problem;
}
