#include "kernel.h"

OrtStatus *fail(const OrtApi *api, const char *name, const char *problem) {
    char text[256];
    const char *parts[] = {"edgeprune ", name, ": ", problem};
    size_t length = 0;
    for (int i = 0; i < 4; i++)
        for (const char *c = parts[i]; *c && length < sizeof text - 1; c++) text[length++] = *c;
    text[length] = 0;
    return api->CreateStatus(ORT_INVALID_ARGUMENT, text);
}

void *own(void *owner, size_t bytes) {
    kernel *k = owner;
    void *memory = 0;
    if (k->owned_count == (int32_t)(sizeof k->owned / sizeof *k->owned)) return 0;
    OrtStatus *status = k->api->AllocatorAlloc(k->memory, bytes + OVER_READ, &memory);
    if (status) {
        k->api->ReleaseStatus(status);
        return 0;
    }
    if (memory) k->owned[k->owned_count++] = memory;
    return memory;
}

void destroy_kernel(void *data) {
    kernel *k = data;
    const OrtApi *api = k->api;
    OrtAllocator *memory = k->memory;
    OrtStatus *status = 0;
    while (k->owned_count) {
        status = api->AllocatorFree(memory, k->owned[--k->owned_count]);
        if (status) api->ReleaseStatus(status);
    }
    count_user(k, -1);
    status = api->AllocatorFree(memory, k);
    if (status) api->ReleaseStatus(status);
}

/* A missing attribute is no error: its status is dropped. */
static int found(const kernel *k, OrtStatus *status) {
    if (!status) return 1;
    k->api->ReleaseStatus(status);
    return 0;
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
    if (!found(k, k->api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value))) return 0;
    return is_constant && value && found(k, describe(k, value, out));
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

OrtStatus *run_output(const kernel *k, OrtKernelContext *context, const int64_t *dims, size_t rank, void **data) {
    OrtValue *value = 0;
    TRY(k->api->KernelContext_GetOutput(context, 0, dims, rank, &value));
    return k->api->GetTensorMutableData(value, data);
}

const char *read_geometry(kernel *k, const OrtKernelInfo *info, int32_t channels_a_cell) {
    geometry *g = &k->shape;
    int32_t kernel_shape[2] = {1, 1}, strides[2] = {1, 1}, dilations[2] = {1, 1}, pads[4] = {0}, input[3], output[3];
    const size_t n = list_size(k, info, "kernel_shape"), at = n == 1; /* a row: height 1 */
    if (n > 2) return "kernel_shape must hold one or two integers";
    const char *problem = int_list(k, info, "kernel_shape", kernel_shape + at, n);
    if (!problem) problem = int_list(k, info, "strides", strides + at, n);
    if (!problem) problem = int_list(k, info, "dilations", dilations + at, n);
    if (!problem) problem = int_list(k, info, "pads", pads, 2 * n);
    if (!problem) problem = int_list(k, info, "input_shape", input, n + 1);
    if (problem) return problem;
    k->spatial = (int32_t)n;
    const int32_t begin_y = n == 2 ? pads[0] : 0, begin_x = n == 2 ? pads[1] : pads[0];
    const int32_t end_y = n == 2 ? pads[2] : 0, end_x = n == 2 ? pads[3] : pads[1];
    k->channels = input[0];
    *g = (geometry){
        .channels = (input[0] + channels_a_cell - 1) / channels_a_cell,
        .height = n == 2 ? input[1] : 1, .width = n == 2 ? input[2] : input[1],
        .kernel_h = kernel_shape[0], .kernel_w = kernel_shape[1], .stride_y = strides[0], .stride_x = strides[1],
        .dilation_y = dilations[0], .dilation_x = dilations[1], .pad_top = begin_y, .pad_left = begin_x,
    };
    if (input[0] < 1 || g->height < 1 || g->width < 1) return "input_shape holds a zero";
    if (g->kernel_h < 1 || g->kernel_w < 1 || (int64_t)g->kernel_h * g->kernel_w > 1 << 12) return "kernel_shape is out of range";
    if (g->stride_y < 1 || g->stride_x < 1 || g->dilation_y < 1 || g->dilation_x < 1) return "a stride or dilation is zero";
    const int64_t room_y = (int64_t)g->height + begin_y + end_y - (int64_t)g->dilation_y * (g->kernel_h - 1);
    const int64_t room_x = (int64_t)g->width + begin_x + end_x - (int64_t)g->dilation_x * (g->kernel_w - 1);
    if (room_y < 1 || room_x < 1) return "the kernel is larger than the padded input";
    g->out_h = (int32_t)((room_y - 1) / g->stride_y + 1);
    g->out_w = (int32_t)((room_x - 1) / g->stride_x + 1);
    if (has_attribute(k, info, "output_shape")) {
        problem = int_list(k, info, "output_shape", output, n + 1);
        if (problem) return problem;
        /* Pooling with ceil_mode: the exporter says how many windows there are. */
        const int32_t height = n == 2 ? output[1] : 1, width = n == 2 ? output[2] : output[1];
        if (output[0] != input[0] || height < 1 || width < 1 || height > g->out_h + 1 || width > g->out_w + 1)
            return "output_shape does not follow from input_shape";
        g->out_h = height;
        g->out_w = width;
    }
    const int64_t cells = (int64_t)g->channels * (g->height + begin_y + end_y) * ((int64_t)g->width + begin_x + end_x);
    if (cells > 1 << 28 || (int64_t)g->out_h * g->out_w > 1 << 26) return "the input is too large";
    return 0;
}

const char *read_integer_end(kernel *k, const OrtKernelInfo *info) {
    requantization *q = &k->integer_end;
    const char *problem = int_attribute(k, info, "signed", 0, 1, &k->is_signed);
    k->shift = (k->is_signed ? 128 : 0) - (k->level->signed_bytes ? 128 : 0);
    const int32_t least = k->is_signed ? -128 : 0;
    const struct {
        const char *name;
        int32_t *to;
        int32_t missing;
    } fields[] = {
        {"y_zero_point", &q->zero_point, 0},
        {"low", &q->low, least},
        {"high", &q->high, least + 255},
        {"sum_r_zero_point", &q->sum_r_zero_point, 0},
        {"sum_zero_point", &q->sum_zero_point, 0},
        {"sum_low", &q->sum_low, least},
        {"sum_high", &q->sum_high, least + 255},
        {"x_zero_point", &k->x_zero_point, 0},
        {"a_zero_point", &k->add.a_zero_point, 0},
        {"b_zero_point", &k->add.b_zero_point, 0},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields && !problem; i++) {
        *fields[i].to = fields[i].missing;
        problem = int_attribute(k, info, fields[i].name, least, least + 255, fields[i].to);
        *fields[i].to += k->shift;
    }
    if (!problem) problem = scale_attribute(k, info, "scale", &k->scale);
    if (!problem) problem = scale_attribute(k, info, "sum_scale", &q->sum_scale);
    if (!problem) problem = scale_attribute(k, info, "sum_r_scale", &q->sum_r_scale);
    if (!problem) problem = scale_attribute(k, info, "a_scale", &k->add.a_scale);
    if (!problem) problem = scale_attribute(k, info, "b_scale", &k->add.b_scale);
    if (problem) return problem;
    return q->low > q->high ? "low is above high" : q->sum_low > q->sum_high ? "sum_low is above sum_high" : 0;
}

static size_t rounded(int32_t outputs) { return ((size_t)outputs + 3) / 4 * 4; }

const char *read_float_bias(kernel *k, const OrtKernelInfo *info, size_t index) {
    tensor bias;
    const char *problem = float_bounds(k, info, &k->float_end.low, &k->float_end.high);
    if (problem) return problem;
    float *copy = own(k, 4 * rounded(k->outputs));
    if (!copy) return "out of memory for the bias";
    for (size_t m = 0; m < rounded(k->outputs); m++) copy[m] = 0;
    k->float_end.bias = copy;
    if (!constant_input(k, info, index, &bias) || bias.type != ORT_FLOAT || bias.elements != k->outputs)
        return "the bias must be a constant of one float for each output channel";
    for (int32_t m = 0; m < k->outputs; m++) copy[m] = ((const float *)bias.data)[m] + 0.0f; /* sums begin at 0, not -0 */
    return 0;
}

const char *read_integer_bias(kernel *k, const OrtKernelInfo *info, size_t index, const int32_t *row_sums) {
    tensor bias, scale;
    int32_t *bias_copy = own(k, 4 * rounded(k->outputs));
    float *scale_copy = own(k, 4 * rounded(k->outputs));
    if (!bias_copy || !scale_copy) return "out of memory for the bias";
    for (size_t m = 0; m < rounded(k->outputs); m++) {
        bias_copy[m] = 0;
        scale_copy[m] = 0;
    }
    k->integer_end.bias = bias_copy;
    k->integer_end.scale = scale_copy;
    if (!constant_input(k, info, index, &bias) || bias.type != ORT_INT32 || bias.elements != k->outputs)
        return "the bias must be a constant of one int32 for each output channel";
    if (!constant_input(k, info, index + 1, &scale) || scale.type != ORT_FLOAT || scale.elements != k->outputs)
        return "the scale must be a constant of one float for each output channel";
    for (int32_t m = 0; m < k->outputs; m++) {
        /* Wraps like the kernels' own sums, where a file's numbers are senseless. */
        bias_copy[m] = (int32_t)((uint32_t)((const int32_t *)bias.data)[m] - (uint32_t)k->x_zero_point * (uint32_t)row_sums[m]);
        scale_copy[m] = ((const float *)scale.data)[m];
        if (!is_scale(scale_copy[m])) return "each scale " NO_SCALE;
    }
    return 0;
}

size_t tensor_dims(const kernel *k, int64_t batch, int32_t channels, int32_t height, int32_t width, int packed,
                   int64_t *dims) {
    size_t rank = 0;
    dims[rank++] = batch;
    dims[rank++] = packed ? groups_of_four(channels) : channels;
    if (k->spatial == 2) dims[rank++] = height;
    dims[rank++] = width;
    if (packed) dims[rank++] = 4;
    return rank;
}

const char *check_input(const kernel *k, const tensor *x, int packed) {
    int64_t dims[5];
    const geometry *g = &k->shape;
    if (!x->data && x->elements) return "an input is missing";
    const size_t rank = tensor_dims(k, x->rank ? x->dims[0] : 0, k->channels, g->height, g->width, packed, dims);
    if (x->rank != rank) return "an input does not have the dimensions that input_shape says";
    for (size_t i = 1; i < rank; i++)
        if (x->dims[i] != dims[i]) return "an input does not have the dimensions that input_shape says";
    return 0;
}
