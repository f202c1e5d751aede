#include "kernel.h"

size_t append(char *text, size_t length, const char *part) {
    for (; *part && length < MOST_TEXT - 1; part++) text[length++] = *part;
    text[length] = 0;
    return length;
}

OrtStatus *fail(const OrtApi *api, const char *name, const char *problem) {
    char text[MOST_TEXT];
    append(text, append(text, append(text, append(text, 0, "edgeprune "), name), ": "), problem);
    return api->CreateStatus(ORT_INVALID_ARGUMENT, text);
}

void *allocate_bytes(const kernel *k, size_t bytes) {
    void *memory = 0;
    return succeeded(k->api, k->api->AllocatorAlloc(k->memory, bytes + OVER_READ, &memory)) ? memory : 0;
}

void free_bytes(const kernel *k, void *memory) {
    if (memory) succeeded(k->api, k->api->AllocatorFree(k->memory, memory));
}

void *own(void *owner, size_t bytes) {
    kernel *k = owner;
    if (k->owned_count == (int32_t)(sizeof k->owned / sizeof *k->owned)) return 0;
    void *memory = allocate_bytes(k, bytes);
    if (memory) k->owned[k->owned_count++] = memory;
    return memory;
}

void *own_state(kernel *k, size_t bytes) {
    k->state = own(k, bytes);
    if (k->state) __builtin_memset(k->state, 0, bytes);
    return k->state;
}

void destroy_kernel(void *data) {
    kernel *k = data;
    while (k->owned_count) free_bytes(k, k->owned[--k->owned_count]);
    count_user(k, -1);
    free_bytes(k, k);
}

static OrtStatus *describe(const kernel *k, const OrtValue *value, tensor *out) {
    OrtTensorTypeAndShapeInfo *info = 0;
    TRY(k->api->GetTensorTypeAndShape(value, &info));
    OrtStatus *status = k->api->GetTensorElementType(info, &out->type);
    if (!status) status = k->api->GetDimensionsCount(info, &out->rank);
    if (!status && out->rank > 6) status = fail(k->api, k->name, "a tensor has more than six dimensions");
    if (!status) status = k->api->GetDimensions(info, out->dims, out->rank);
    k->api->ReleaseTensorTypeAndShapeInfo(info);
    if (status) return status;
    out->elements = 1;
    for (size_t i = 0; i < out->rank; i++) out->elements *= out->dims[i];
    void *data = 0;
    status = k->api->GetTensorMutableData((OrtValue *)value, &data);
    out->data = data;
    return status;
}

int constant_input(const kernel *k, const OrtKernelInfo *info, size_t index, tensor *out) {
    const OrtValue *value = 0;
    int is_constant = 0;
    if (!succeeded(k->api, k->api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value))) return 0;
    return is_constant && value && succeeded(k->api, describe(k, value, out));
}

OrtStatus *run_input(const kernel *k, OrtKernelContext *context, size_t index, tensor *out) {
    const OrtValue *value = 0;
    size_t count = 0;
    *out = (tensor){0};
    TRY(k->api->KernelContext_GetInputCount(context, &count));
    if (index >= count) return 0;
    TRY(k->api->KernelContext_GetInput(context, index, &value));
    return value ? describe(k, value, out) : 0;
}

OrtStatus *output_at(const kernel *k, OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank, void **data) {
    OrtValue *value = 0;
    *data = 0;
    TRY(k->api->KernelContext_GetOutput(context, index, dims, rank, &value));
    return value ? k->api->GetTensorMutableData(value, data) : 0;
}

OrtStatus *run_output(const kernel *k, OrtKernelContext *context, const int64_t *dims, size_t rank, void **data) {
    return output_at(k, context, 0, dims, rank, data);
}

const char *read_sign(kernel *k, const OrtKernelInfo *info) {
    const char *problem = int_attribute(k, info, "signed", 0, 1, &k->is_signed);
    k->shift = (k->is_signed ? 128 : 0) - (k->level->signed_bytes ? 128 : 0);
    return problem;
}

const char *read_points(kernel *k, const OrtKernelInfo *info, const point *points, size_t count) {
    const int32_t least = least_value(k);
    for (size_t i = 0; i < count; i++) {
        *points[i].to = points[i].missing;
        CHECK(int_attribute(k, info, points[i].name, least, least + 255, points[i].to));
        *points[i].to += k->shift;
    }
    return 0;
}

const char *read_layer_points(kernel *k, const OrtKernelInfo *info, layer_end *end) {
    byte_range *range = &end->integers.range;
    CHECK(read_sign(k, info));
    const int32_t least = least_value(k);
    const point points[] = {
        {"y_zero_point", &range->zero_point, 0},
        {"low", &range->low, least},
        {"high", &range->high, least + 255},
        {"x_zero_point", &end->x_zero_point, 0},
    };
    CHECK(read_points(k, info, points, sizeof points / sizeof *points));
    return range->low > range->high ? "low is above high" : 0;
}

const char *read_float_bias(kernel *k, const OrtKernelInfo *info, size_t index, int32_t outputs, activation *out) {
    tensor bias;
    CHECK(float_bounds(k, info, &out->low, &out->high));
    float *copy = own(k, 4 * whole_fours(outputs));
    if (!copy) return "out of memory for the bias";
    for (size_t m = 0; m < whole_fours(outputs); m++) copy[m] = 0;
    out->bias = copy;
    if (!constant_input(k, info, index, &bias) || bias.type != ORT_FLOAT || bias.elements != outputs)
        return "the bias must be a constant of one float for each output channel";
    for (int32_t m = 0; m < outputs; m++) copy[m] = ((const float *)bias.data)[m] + 0.0f; /* sums begin at 0, not -0 */
    return 0;
}

const char *read_integer_bias(kernel *k, const OrtKernelInfo *info, size_t index, int32_t outputs, const int32_t *row_sums,
                              layer_end *end) {
    tensor bias, scale;
    int32_t *bias_copy = own(k, 4 * whole_fours(outputs));
    float *scale_copy = own(k, 4 * whole_fours(outputs));
    if (!bias_copy || !scale_copy) return "out of memory for the bias";
    for (size_t m = 0; m < whole_fours(outputs); m++) {
        bias_copy[m] = 0;
        scale_copy[m] = 0;
    }
    end->integers.bias = bias_copy;
    end->integers.scale = scale_copy;
    if (!constant_input(k, info, index, &bias) || bias.type != ORT_INT32 || bias.elements != outputs)
        return "the bias must be a constant of one int32 for each output channel";
    if (!constant_input(k, info, index + 1, &scale) || scale.type != ORT_FLOAT || scale.elements != outputs)
        return "the scale must be a constant of one float for each output channel";
    for (int32_t m = 0; m < outputs; m++) {
        /* Wraps like the kernels' own sums, where a file's numbers are senseless. */
        const uint32_t padding = (uint32_t)end->x_zero_point * (uint32_t)row_sums[m];
        bias_copy[m] = (int32_t)((uint32_t)((const int32_t *)bias.data)[m] - padding);
        scale_copy[m] = ((const float *)scale.data)[m];
        if (!is_scale(scale_copy[m])) return "each scale " NO_SCALE;
    }
    return 0;
}

int32_t is_bounded(const requantization *q, int32_t outputs, int64_t terms) {
    const float most = 1 << 20; /* of what multiplies bytes */
    int32_t bounded = q->sum_scale < most && q->sum_r_scale < most;
    for (int32_t m = 0; m < outputs; m++) {
        const double bias = q->bias[m], sum = (double)terms * 128 * 255 + (bias < 0 ? -bias : bias);
        bounded &= q->scale[m] < 1 || (double)q->scale[m] * sum < 2e9;
    }
    return bounded;
}

/* The interface does not tell how many threads the runtime has, so the first runs are shared out in many pieces, to see
 * how many threads take some; and every so often, as long as there seems to be but one, for others may have slept. Runs at
 * the same time may try at once; nothing depends on it. */
enum { TRIALS = 4, AGAIN = 16 };

int32_t known_threads(const thread_count *threads) {
    const uint32_t runs = __atomic_load_n(&threads->runs, __ATOMIC_ACQUIRE);
    const int32_t most = __atomic_load_n(&threads->most, __ATOMIC_RELAXED);
    return runs < TRIALS || (most < 2 && runs % AGAIN == 0) ? 0 : most;
}

void end_run(thread_count *threads, const thread_set *seen) {
    if (seen->count > __atomic_load_n(&threads->most, __ATOMIC_RELAXED))
        __atomic_store_n(&threads->most, seen->count, __ATOMIC_RELAXED);
    __atomic_add_fetch(&threads->runs, 1, __ATOMIC_RELEASE);
}
