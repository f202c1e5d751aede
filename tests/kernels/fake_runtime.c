#include "fake_runtime.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

runtime_state runtime = {.threads = 1, .fail_at = -1};

/* Runs of one kernel may overlap. */
#define COUNT(field, change) __atomic_fetch_add(&runtime.field, change, __ATOMIC_RELAXED)

struct OrtKernelContext {
    node *n;
};
struct OrtTensorTypeAndShapeInfo {
    OrtValue value;
};

_Noreturn void give_up(const char *what, const char *name) {
    fprintf(stderr, "harness: %s: %s\n", what, name);
    abort();
}

static OrtStatus *create_status(int code, const char *message) {
    OrtStatus *status = malloc(sizeof *status);
    status->code = code;
    snprintf(status->message, sizeof status->message, "%s", message);
    COUNT(statuses, 1);
    return status;
}

void release_status(OrtStatus *status) {
    if (!status) return;
    COUNT(statuses, -1);
    free(status);
}

/* ---- memory ---- */

static int refused(size_t size) { return COUNT(allocations, 1) == runtime.fail_at || size > LARGEST_ALLOCATION; }

static OrtStatus *allocate(OrtAllocator *allocator, size_t size, void **out) {
    (void)allocator;
    *out = 0;
    if (refused(size)) return runtime.silently ? 0 : create_status(ORT_FAIL, "edgeprune test: no memory");
    *out = malloc(size);
    memset(*out, 0xa5, size < 4096 ? size : 4096);
    COUNT(blocks, 1);
    return 0;
}

static OrtStatus *release(OrtAllocator *allocator, void *memory) {
    (void)allocator;
    COUNT(blocks, -(memory != 0));
    free(memory);
    return 0;
}

static char the_allocator;
static OrtStatus *get_allocator(OrtAllocator **out) {
    *out = (OrtAllocator *)(void *)&the_allocator;
    return 0;
}

/* ---- tensors ---- */

static OrtStatus *get_data(OrtValue *value, void **out) {
    *out = value->data;
    return 0;
}
static OrtStatus *get_type_and_shape(const OrtValue *value, OrtTensorTypeAndShapeInfo **out) {
    *out = malloc(sizeof **out);
    (*out)->value = *value;
    COUNT(infos, 1);
    return 0;
}
static void release_info(OrtTensorTypeAndShapeInfo *info) {
    COUNT(infos, -1);
    free(info);
}
static OrtStatus *get_element_type(const OrtTensorTypeAndShapeInfo *info, int *out) {
    *out = info->value.type;
    return 0;
}
static OrtStatus *get_rank(const OrtTensorTypeAndShapeInfo *info, size_t *out) {
    *out = info->value.rank;
    return 0;
}
static OrtStatus *get_dims(const OrtTensorTypeAndShapeInfo *info, int64_t *out, size_t count) {
    for (size_t i = 0; i < count && i < info->value.rank; i++) out[i] = info->value.dims[i];
    return 0;
}

/* ---- attributes and inputs ---- */

static const attribute *find(const node *n, const char *name, uint32_t kind) {
    for (uint32_t i = 0; i < n->attribute_count; i++)
        if (n->attribute[i].kind == kind && !strcmp(n->attribute[i].name, name)) return n->attribute + i;
    return 0;
}
static OrtStatus *get_float(const node *n, const char *name, float *out) {
    const attribute *a = find(n, name, ATTRIBUTE_FLOAT);
    if (!a) return create_status(ORT_FAIL, "no such attribute");
    *out = a->number;
    return 0;
}
static OrtStatus *get_int(const node *n, const char *name, int64_t *out) {
    const attribute *a = find(n, name, ATTRIBUTE_INT);
    if (!a) return create_status(ORT_FAIL, "no such attribute");
    *out = a->ints[0];
    return 0;
}
static OrtStatus *get_ints(const node *n, const char *name, int64_t *out, size_t *count) {
    const attribute *a = find(n, name, ATTRIBUTE_INTS);
    if (!a) return create_status(ORT_FAIL, "no such attribute");
    const size_t room = *count;
    *count = a->count;
    if (!out) return 0;
    if (room < a->count) return create_status(ORT_INVALID_ARGUMENT, "the array is too small");
    memcpy(out, a->ints, a->count * sizeof *out);
    return 0;
}
/* Attributes of other types are not in the case files. */
static OrtStatus *get_floats(const node *n, const char *name, float *out, size_t *count) {
    (void)n;
    (void)name;
    (void)out;
    (void)count;
    return create_status(ORT_FAIL, "no such attribute");
}
static OrtStatus *get_string(const node *n, const char *name, char *out, size_t *size) {
    (void)n;
    (void)name;
    (void)out;
    (void)size;
    return create_status(ORT_FAIL, "no such attribute");
}
static OrtStatus *get_tensor(const node *n, const char *name, OrtAllocator *allocator, OrtValue **out) {
    (void)n;
    (void)name;
    (void)allocator;
    (void)out;
    return create_status(ORT_FAIL, "no such attribute");
}
static OrtStatus *count_inputs(const node *n, size_t *out) {
    *out = n->input_count;
    return 0;
}
static OrtStatus *get_constant(const node *n, size_t index, int *is_constant, const OrtValue **out) {
    *is_constant = index < n->input_count && n->input[index] && n->input[index]->constant;
    *out = *is_constant ? n->input[index] : 0;
    return 0;
}
static OrtStatus *get_input_count(const OrtKernelContext *context, size_t *out) {
    *out = context->n->input_count;
    return 0;
}
static OrtStatus *get_input(const OrtKernelContext *context, size_t index, const OrtValue **out) {
    if (index >= context->n->input_count) give_up("asks for an input that is not there", context->n->op);
    *out = context->n->input[index];
    return 0;
}
static OrtStatus *get_output(OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank, OrtValue **out) {
    OrtValue *y = context->n->output + index;
    *out = 0;
    if (index < context->n->output_count ? context->n->left_out[index] : index < MOST_OUTPUTS) return 0;
    if (index >= MOST_OUTPUTS || rank > MOST_DIMS || y->data) give_up("asks for a wrong output, or twice", context->n->op);
    y->rank = rank;
    uint64_t bytes = element_bytes(y->type);
    for (size_t i = 0; i < rank; i++) {
        if (dims[i] < 0 || dims[i] > 1 << 30) give_up("asks for a senseless output", context->n->op);
        y->dims[i] = dims[i];
        bytes = dims[i] && bytes > LARGEST_ALLOCATION ? bytes : bytes * (uint64_t)dims[i];
    }
    if (refused(bytes)) return create_status(ORT_FAIL, "edgeprune test: no memory");
    y->data = malloc(bytes);
    memset(y->data, 0xa5, bytes);
    *out = y;
    return 0;
}

/* ---- threads ---- */

typedef struct {
    void (*function)(void *, size_t);
    void *data;
    size_t first, step, total;
} tasks;

/* Dealt out, so that each thread takes some: the kernels count those that do. */
static void *work(void *data) {
    const tasks *dealt = data;
    for (size_t i = dealt->first; i < dealt->total; i += dealt->step) dealt->function(dealt->data, i);
    return 0;
}

static OrtStatus *parallel_for(const OrtKernelContext *context, void (*function)(void *, size_t), size_t total,
                               size_t batches, void *data) {
    (void)context;
    (void)batches;
    pthread_t thread[8];
    tasks dealt[8];
    const int alone = runtime.threads == 0 && runtime.run >= 4, some = runtime.threads > 1 ? runtime.threads : 1;
    for (int i = 0; i < some; i++) dealt[i] = (tasks){function, data, (size_t)i, (size_t)some, total};
    for (int i = alone ? 0 : 1; i < some; i++) pthread_create(thread + i, 0, work, dealt + i);
    if (runtime.threads < 0)
        while (total) function(data, --total);
    else if (!alone)
        work(dealt);
    for (int i = alone ? 0 : 1; i < some; i++) pthread_join(thread[i], 0);
    return 0;
}

/* ---- operators ---- */

static const OrtCustomOp *operators[32];
static size_t operator_count;

static int64_t open_domains, listed; /* domains that are not released; how often one was put into options */

static OrtStatus *create_domain(const char *name, OrtCustomOpDomain **out) {
    if (strcmp(name, "edgeprune")) give_up("unknown domain", name);
    if (__atomic_fetch_add(&open_domains, 1, __ATOMIC_RELAXED)) give_up("a domain for each registration", name);
    *out = (OrtCustomOpDomain *)(void *)operators;
    return 0;
}
static void release_domain(OrtCustomOpDomain *domain) {
    if (domain != (OrtCustomOpDomain *)(void *)operators || open_domains-- != 1) give_up("releases no domain of its own", "");
}
static OrtStatus *add_operator(OrtCustomOpDomain *domain, const OrtCustomOp *op) {
    (void)domain;
    operators[operator_count++] = op;
    return 0;
}
static OrtStatus *add_domain(OrtSessionOptions *options, OrtCustomOpDomain *domain) {
    (void)options;
    if (domain != (OrtCustomOpDomain *)(void *)operators) give_up("no domain", "");
    __atomic_fetch_add(&listed, 1, __ATOMIC_RELAXED);
    return 0;
}

/* Every function that is called; all others are null. */
static OrtApi functions;
static void fill_functions(void) {
    functions.CreateStatus = create_status;
    functions.CreateCustomOpDomain = create_domain;
    functions.CustomOpDomain_Add = add_operator;
    functions.AddCustomOpDomain = add_domain;
    functions.GetTensorMutableData = get_data;
    functions.GetTensorElementType = get_element_type;
    functions.GetDimensionsCount = get_rank;
    functions.GetDimensions = get_dims;
    functions.GetTensorTypeAndShape = get_type_and_shape;
    functions.AllocatorAlloc = allocate;
    functions.AllocatorFree = release;
    functions.GetAllocatorWithDefaultOptions = get_allocator;
    functions.KernelInfoGetAttribute_float = get_float;
    functions.KernelInfoGetAttribute_int64 = get_int;
    functions.KernelInfoGetAttribute_string = get_string;
    functions.KernelContext_GetInputCount = get_input_count;
    functions.KernelContext_GetInput = get_input;
    functions.KernelContext_GetOutput = get_output;
    functions.ReleaseStatus = release_status;
    functions.ReleaseTensorTypeAndShapeInfo = release_info;
    functions.ReleaseCustomOpDomain = release_domain;
    functions.KernelInfoGetAttributeArray_float = get_floats;
    functions.KernelInfoGetAttributeArray_int64 = get_ints;
    functions.KernelInfo_GetInputCount = count_inputs;
    functions.KernelInfoGetAttribute_tensor = get_tensor;
    functions.KernelInfoGetConstantInput_tensor = get_constant;
    functions.KernelContext_ParallelFor = parallel_for;
}
static const OrtApi *get_api(uint32_t version) { return version == ORT_API_VERSION ? &functions : 0; }
static const char *get_version(void) { return "1.17.0"; }

OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);

static void *register_often(void *data) {
    static const OrtApiBase base = {get_api, get_version};
    for (int i = 0; i < 3; i++) {
        OrtStatus *status = RegisterCustomOps(0, &base);
        if (status) give_up("RegisterCustomOps", status->message);
    }
    return data;
}

void load_operators(void) {
    pthread_t thread[4];
    fill_functions();
    for (int i = 0; i < 4; i++) pthread_create(thread + i, 0, register_often, 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], 0);
    if (open_domains != 1 || listed != 12) give_up("registrations are lost", "");
}

/* What ONNX Runtime checks before it makes a kernel. */
static void check_types(const OrtCustomOp *op, const node *n) {
    const size_t count = op->GetInputTypeCount(op);
    const int several = op->GetInputCharacteristic(op, count - 1) == 2; /* as many of the last one as there are */
    if ((n->input_count > count && !several) || n->output_count > op->GetOutputTypeCount(op)) give_up("wrong number of inputs", n->op);
    for (size_t i = 0; i < op->GetOutputTypeCount(op); i++)
        if ((i >= n->output_count || n->left_out[i]) && op->GetOutputCharacteristic(op, i) != 1) give_up("an output is left out", n->op);
    for (size_t i = 0; i < count || i < n->input_count; i++) {
        const OrtValue *value = i < n->input_count ? n->input[i] : 0;
        const size_t number = i < count ? i : count - 1;
        const int optional = op->GetInputCharacteristic(op, number) == 1;
        if (value ? value->type != op->GetInputType(op, number) : !optional) give_up("an input of the wrong type", n->op);
    }
}

static const OrtCustomOp *operator_of(node *n) {
    for (size_t i = 0; i < operator_count; i++) {
        if (strcmp(operators[i]->GetName(operators[i]), n->op)) continue;
        check_types(operators[i], n);
        for (size_t k = 0; k < MOST_OUTPUTS; k++) n->output[k] = (OrtValue){0};
        for (size_t k = 0; k < n->output_count; k++) n->output[k].type = operators[i]->GetOutputType(operators[i], k);
        return operators[i];
    }
    give_up("no such operator", n->op);
}

void free_outputs(node *n) {
    for (int i = 0; i < MOST_OUTPUTS; i++) {
        free(n->output[i].data);
        n->output[i].data = 0;
    }
}

static int outputs_differ(const node *a, const node *b) {
    for (uint32_t i = 0; i < a->output_count; i++) {
        const OrtValue *x = a->output + i;
        if (a->left_out[i]) continue;
        if (memcmp(x->data, b->output[i].data, element_bytes(x->type) * (size_t)elements_of(x))) return 1;
    }
    return 0;
}

static void check_leaks(const node *n, const OrtStatus *status) {
    if (runtime.blocks || runtime.infos || runtime.statuses != (status != 0)) give_up("leaks", n->op);
}

OrtStatus *run_node(node *n) {
    const OrtCustomOp *op = operator_of(n);
    OrtKernelContext context = {n};
    void *kernel = 0;
    OrtStatus *status = op->CreateKernelV2(op, &functions, n, &kernel);
    if (!status && !kernel) give_up("neither a kernel nor a status", n->op);
    runtime.run = 0;
    if (!status) {
        status = op->KernelComputeV2(kernel, &context);
        for (int i = 0; i < runtime.more_runs && !status; i++) {
            node first = *n;
            runtime.run++;
            for (int k = 0; k < MOST_OUTPUTS; k++) n->output[k].data = 0;
            status = op->KernelComputeV2(kernel, &context);
            if (!status && outputs_differ(&first, n)) give_up("a run differs from the one before", n->op);
            free_outputs(&first);
        }
        op->KernelDestroy(kernel);
    }
    for (uint32_t i = 0; i < n->output_count && !status; i++)
        if (!n->left_out[i] && !n->output[i].data) give_up("neither an output nor a status", n->op);
    check_leaks(n, status);
    return status;
}

typedef struct {
    const OrtCustomOp *op;
    void *kernel;
    node n;
} one_run;

static void *run_once(void *data) {
    one_run *run = data;
    for (int i = 0; i < 3; i++) {
        OrtKernelContext context = {&run->n};
        free_outputs(&run->n);
        OrtStatus *status = run->op->KernelComputeV2(run->kernel, &context);
        if (status) give_up("a run that overlaps another one", status->message);
    }
    return 0;
}

void run_overlapping(const node *n) {
    enum { RUNS = 3 };
    one_run run[RUNS] = {{.n = *n}};
    pthread_t thread[RUNS];
    run[0].op = operator_of(&run[0].n);
    OrtStatus *status = run[0].op->CreateKernelV2(run[0].op, &functions, n, &run[0].kernel);
    if (status) give_up(n->op, status->message);
    for (int i = 1; i < RUNS; i++) run[i] = run[0];
    for (int i = 0; i < RUNS; i++) pthread_create(thread + i, 0, run_once, run + i);
    for (int i = 0; i < RUNS; i++) pthread_join(thread[i], 0);
    run[0].op->KernelDestroy(run[0].kernel);
    check_leaks(n, 0);
    for (int i = 0; i < RUNS; i++) {
        if (outputs_differ(&run[i].n, n)) give_up("runs that overlap differ", n->op);
        free_outputs(&run[i].n);
    }
}
