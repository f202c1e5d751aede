/* The operators' table, and the entry point that ONNX Runtime calls. */
#include "kernel.h"

typedef struct {
    OrtCustomOp op; /* first, so that a pointer to it is one to this */
    const char *name;
    create create;
    int8_t inputs[5]; /* element types; 0 ends the list */
    int8_t optional;  /* number of the input that may be left out, or -1 */
    int8_t output;
    int8_t is_signed;
} operator;

enum { F = ORT_FLOAT, U = ORT_UINT8, S = ORT_INT8, I = ORT_INT32 };

static operator operators[] = {
    {.name = "SparseConv", .create = create_conv, .inputs = {F, U, F, F}, .optional = 3, .output = F},
    {.name = "SparseGemm", .create = create_gemm, .inputs = {F, U, F, F}, .optional = 3, .output = F},
    {.name = "DepthwiseConv", .create = create_depthwise, .inputs = {F, F, F}, .optional = -1, .output = F},
    {.name = "QSparseConv", .create = create_quantized_conv, .inputs = {U, U, I, F, U}, .optional = 4, .output = U},
    {.name = "QSparseGemm", .create = create_quantized_gemm, .inputs = {U, U, I, F}, .optional = -1, .output = U},
    {.name = "QSparseGemmS8", .create = create_quantized_gemm, .inputs = {S, U, I, F}, .optional = -1, .output = S,
     .is_signed = 1},
    {.name = "QDepthwiseConv", .create = create_quantized_depthwise, .inputs = {U, S, I, F}, .optional = -1, .output = U},
    {.name = "QAdd", .create = create_add, .inputs = {U, U}, .optional = -1, .output = U},
    {.name = "MaxPool", .create = create_max_pool, .inputs = {F}, .optional = -1, .output = F},
    {.name = "QMaxPool", .create = create_quantized_max_pool, .inputs = {U}, .optional = -1, .output = U},
    {.name = "QAveragePool", .create = create_average_pool, .inputs = {U}, .optional = -1, .output = U},
    {.name = "QGlobalAveragePool", .create = create_global_average_pool, .inputs = {U}, .optional = -1, .output = U},
    {.name = "QGlobalAveragePoolS8", .create = create_global_average_pool, .inputs = {U}, .optional = -1, .output = S,
     .is_signed = 1},
    {.name = "QPack", .create = create_pack, .inputs = {U}, .optional = -1, .output = U},
    {.name = "QPackS8", .create = create_pack, .inputs = {S}, .optional = -1, .output = U, .is_signed = 1},
    {.name = "QUnpack", .create = create_unpack, .inputs = {U}, .optional = -1, .output = U},
    {.name = "QUnpackS8", .create = create_unpack, .inputs = {U}, .optional = -1, .output = S, .is_signed = 1},
};

static const operator *of(const OrtCustomOp *op) { return (const operator *)(const void *)op; }

static const char *get_name(const OrtCustomOp *op) { return of(op)->name; }
static const char *get_provider(const OrtCustomOp *op) {
    (void)op;
    return 0; /* the CPU's */
}
static size_t input_count(const OrtCustomOp *op) {
    size_t count = 0;
    while (count < 5 && of(op)->inputs[count]) count++;
    return count;
}
static int input_type(const OrtCustomOp *op, size_t index) { return of(op)->inputs[index]; }
static size_t output_count(const OrtCustomOp *op) {
    (void)op;
    return 1;
}
static int output_type(const OrtCustomOp *op, size_t index) {
    (void)index;
    return of(op)->output;
}
static int input_characteristic(const OrtCustomOp *op, size_t index) { return (int)index == of(op)->optional; }
static int zero_of_index(const OrtCustomOp *op, size_t index) {
    (void)op;
    (void)index;
    return 0;
}
static int one(const OrtCustomOp *op) {
    (void)op;
    return 1;
}
static int last_version(const OrtCustomOp *op) {
    (void)op;
    return 0x7fffffff;
}

static OrtStatus *create_kernel(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    const char *problem = 0;
    const level *chosen = choose_level(&problem);
    if (!chosen) return fail(api, of(op)->name, problem);
    OrtAllocator *memory = 0;
    void *data = 0;
    TRY(GetAllocatorWithDefaultOptions(api, &memory));
    TRY(AllocatorAlloc(api, memory, sizeof(kernel), &data));
    kernel *k = data;
    if (!k) return fail(api, of(op)->name, "out of memory");
    *k = (kernel){.api = api, .level = chosen, .name = of(op)->name, .memory = memory, .is_signed = of(op)->is_signed};
    count_user(k, 1);
    OrtStatus *status = of(op)->create(k, info);
    if (status)
        destroy_kernel(k);
    else
        *out = k;
    return status;
}

static OrtStatus *compute(void *data, OrtKernelContext *context) {
    kernel *k = data;
    return k->compute(k, context);
}

#define EXPORT __attribute__((visibility("default")))

EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);
EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    const OrtApi *api = base->GetApi(ORT_API_VERSION);
    OrtCustomOpDomain *domain = 0;
    const char *problem = 0;
    if (!api) return 0; /* older than 1.17: the runtime refuses the model's operators by name */
    if (!choose_level(&problem)) return fail(api, "kernels", problem);
    /* The domain lives as long as the process, as the interface asks for: sessions refer to it. */
    TRY(CreateCustomOpDomain(api, "edgeprune", &domain));
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        operators[i].op = (OrtCustomOp){
            .version = ORT_API_VERSION, .GetName = get_name, .GetExecutionProviderType = get_provider,
            .GetInputType = input_type, .GetInputTypeCount = input_count, .GetOutputType = output_type,
            .GetOutputTypeCount = output_count, .KernelDestroy = destroy_kernel,
            .GetInputCharacteristic = input_characteristic, .GetOutputCharacteristic = zero_of_index,
            .GetInputMemoryType = zero_of_index, .GetVariadicInputMinArity = one, .GetVariadicInputHomogeneity = one,
            .GetVariadicOutputMinArity = one, .GetVariadicOutputHomogeneity = one, .CreateKernelV2 = create_kernel,
            .KernelComputeV2 = compute, .GetStartVersion = one, .GetEndVersion = last_version,
        };
        TRY(CustomOpDomain_Add(api, domain, &operators[i].op));
    }
    return AddCustomOpDomain(api, options, domain);
}

EXPORT const char *edgeprune_level(void);
EXPORT const char *edgeprune_level(void) {
    const char *problem = 0;
    const level *chosen = choose_level(&problem);
    return chosen ? chosen->name : problem;
}
