/* What a node may say: the attributes of docs/kernels.md, their types, and messages about those that do not fit. */
#include "kernel.h"

enum { INTEGER, FLOAT, INTEGERS, OTHER, ABSENT };
enum { MOST_INDICES = 1 << 20 };

static const char *const type_names[] = {"an integer", "a float", "a list of integers"};

/* groups: the operators that have it are those that take one of these; none for what other operators have, ONNX's own among
 * them: the interface does not list a node's attributes, so that only names that are known can be asked for. */
static const struct {
    const char *name;
    int type;
    uint32_t groups;
} known[] = {
    {"kernel_shape", INTEGERS, TAKES_WINDOW}, {"strides", INTEGERS, TAKES_WINDOW}, {"pads", INTEGERS, TAKES_WINDOW},
    {"dilations", INTEGERS, TAKES_WINDOW}, {"input_shape", INTEGERS, TAKES_WINDOW},
    {"output_shape", INTEGERS, TAKES_OUTPUT_SHAPE}, {"low", FLOAT, TAKES_FLOAT_BOUNDS},
    {"high", FLOAT, TAKES_FLOAT_BOUNDS}, {"inner_low", FLOAT, TAKES_INNER_BOUNDS},
    {"inner_high", FLOAT, TAKES_INNER_BOUNDS}, {"low", INTEGER, TAKES_BOUNDS}, {"high", INTEGER, TAKES_BOUNDS},
    {"signed", INTEGER, TAKES_SIGN}, {"x_zero_point", INTEGER, TAKES_X_POINT}, {"y_zero_point", INTEGER, TAKES_Y_POINT},
    {"sum_scale", FLOAT, TAKES_SUM}, {"sum_r_scale", FLOAT, TAKES_SUM}, {"sum_r_zero_point", INTEGER, TAKES_SUM},
    {"sum_q_zero_point", INTEGER, TAKES_SUM},
    {"sum_zero_point", INTEGER, TAKES_SUM}, {"sum_low", INTEGER, TAKES_SUM}, {"sum_high", INTEGER, TAKES_SUM},
    {"a_scale", FLOAT, TAKES_TWO_SCALES}, {"b_scale", FLOAT, TAKES_TWO_SCALES}, {"a_zero_point", INTEGER, TAKES_TWO},
    {"b_zero_point", INTEGER, TAKES_TWO}, {"channels", INTEGER, TAKES_CHANNELS}, {"scale", FLOAT, TAKES_SCALE},
    {"function", INTEGER, TAKES_FUNCTION}, {"epsilon", FLOAT, TAKES_EPSILON}, {"heads", INTEGER, TAKES_HEADS},
    {"size", INTEGER, TAKES_HEADS}, {"offsets", INTEGERS, TAKES_HEADS}, {"y_scale", FLOAT, TAKES_Y_SCALE},
    {"channels_first", INTEGER, TAKES_CHANNELS_FIRST},
    {"count_include_pad", INTEGER, TAKES_COUNT}, {"hidden_size", INTEGER, TAKES_UNITS}, {"reverse", INTEGER, TAKES_UNITS},
    {"linear_before_reset", INTEGER, TAKES_RESET}, {"relu", INTEGER, TAKES_RELU},
    {"input_channels", INTEGERS, TAKES_INDICES},
    {"channel_indices", INTEGERS, TAKES_INDICES}, {"row_indices", INTEGERS, TAKES_INDICES},
    {"column_indices", INTEGERS, TAKES_INDICES},
    {"group", INTEGER, 0}, {"groups", INTEGER, 0}, {"auto_pad", OTHER, 0}, {"ceil_mode", INTEGER, 0},
    {"storage_order", INTEGER, 0}, {"output_padding", INTEGERS, 0}, {"alpha", FLOAT, 0}, {"beta", FLOAT, 0},
    {"transA", INTEGER, 0}, {"transB", INTEGER, 0}, {"activation", OTHER, 0}, {"activation_params", OTHER, 0},
    {"axis", INTEGER, 0}, {"axes", INTEGERS, 0}, {"min", FLOAT, 0}, {"max", FLOAT, 0}, {"bias", OTHER, 0},
    {"stride", OTHER, 0}, {"pad", OTHER, 0}, {"padding", OTHER, 0}, {"dilation", OTHER, 0}, {"kernel", OTHER, 0},
    {"kernel_size", OTHER, 0}, {"shape", OTHER, 0}, {"zero_point", OTHER, 0}, {"w_zero_point", OTHER, 0},
    {"x_scale", OTHER, 0}, {"w_scale", OTHER, 0}, {"is_signed", OTHER, 0},
    {"direction", OTHER, 0}, {"activations", OTHER, 0}, {"activation_alpha", OTHER, 0}, {"activation_beta", OTHER, 0},
    {"clip", FLOAT, 0}, {"input_forget", INTEGER, 0}, {"layout", INTEGER, 0},
};

static int has_tensor(const kernel *k, const OrtKernelInfo *info, const char *name) {
    OrtValue *value = 0;
    if (!succeeded(k->api, k->api->KernelInfoGetAttribute_tensor(info, name, k->memory, &value))) return 0;
    k->api->ReleaseValue(value);
    return 1;
}

static int type_of(const kernel *k, const OrtKernelInfo *info, const char *name) {
    int64_t integer;
    float number;
    size_t size = 0;
    if (succeeded(k->api, k->api->KernelInfoGetAttribute_int64(info, name, &integer))) return INTEGER;
    if (succeeded(k->api, k->api->KernelInfoGetAttribute_float(info, name, &number))) return FLOAT;
    /* The runtime gives lists of another type as empty ones. */
    const int is_list = succeeded(k->api, k->api->KernelInfoGetAttributeArray_int64(info, name, 0, &size));
    if (is_list && size) return INTEGERS;
    if (succeeded(k->api, k->api->KernelInfoGetAttributeArray_float(info, name, 0, &size)) && size) return OTHER;
    if (succeeded(k->api, k->api->KernelInfoGetAttribute_string(info, name, 0, &size))) return OTHER;
    return has_tensor(k, info, name) ? OTHER : is_list ? INTEGERS : ABSENT;
}

static size_t append_number(char *text, size_t length, int64_t number) {
    char digits[24];
    size_t at = sizeof digits - 1;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    digits[at] = 0;
    do digits[--at] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) digits[--at] = '-';
    return append(text, length, digits + at);
}

const char *problem_with(kernel *k, const char *name, const char *problem) {
    append(k->text, append(k->text, append(k->text, 0, name), " "), problem);
    return k->text;
}

static const char *out_of_range(kernel *k, const char *name, int64_t value, int64_t low, int64_t high) {
    size_t length = append_number(k->text, append(k->text, append(k->text, 0, name), " is "), value);
    length = append_number(k->text, append(k->text, length, ", but must lie between "), low);
    append_number(k->text, append(k->text, length, " and "), high);
    return k->text;
}

const char *check_attributes(kernel *k, const OrtKernelInfo *info) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const int taken = (known[i].groups & k->takes) != 0;
        /* Bounds are floats in some operators and integers in the others. */
        if (!taken && known[i].groups & (TAKES_FLOAT_BOUNDS | TAKES_BOUNDS) && k->takes & (TAKES_FLOAT_BOUNDS | TAKES_BOUNDS))
            continue;
        const int type = type_of(k, info, known[i].name);
        if (type == ABSENT || (taken && type == known[i].type)) continue;
        if (!taken) return problem_with(k, known[i].name, "is no attribute of this operator");
        append(k->text, append(k->text, append(k->text, 0, known[i].name), " must be "), type_names[known[i].type]);
        return k->text;
    }
    return 0;
}

int has_attribute(const kernel *k, const OrtKernelInfo *info, const char *name) {
    return type_of(k, info, name) != ABSENT;
}

const char *int_attribute(kernel *k, const OrtKernelInfo *info, const char *name, int64_t low, int64_t high, int32_t *out) {
    int64_t value = 0;
    if (!succeeded(k->api, k->api->KernelInfoGetAttribute_int64(info, name, &value))) return 0;
    if (value < low || value > high) return out_of_range(k, name, value, low, high);
    *out = (int32_t)value;
    return 0;
}

const char *scale_attribute(kernel *k, const OrtKernelInfo *info, const char *name, float *out) {
    float value = 1;
    if (succeeded(k->api, k->api->KernelInfoGetAttribute_float(info, name, &value)) && !is_scale(value))
        return problem_with(k, name, NO_SCALE);
    *out = value;
    return 0;
}

const char *epsilon_attribute(kernel *k, const OrtKernelInfo *info, float *out) {
    *out = 1e-5f;
    succeeded(k->api, k->api->KernelInfoGetAttribute_float(info, "epsilon", out));
    return *out >= 0 && *out <= 1e30f ? 0 : "epsilon must be a number from 0 to 1e30";
}

const char *steps_attribute(kernel *k, const OrtKernelInfo *info, float *out) {
    float scale = 1;
    CHECK(scale_attribute(k, info, "y_scale", &scale));
    *out = 1 / scale;
    return scale >= 1e-30f ? 0 : problem_with(k, "y_scale", "must be a number from 1e-30 to 1e30");
}

static const char *named_bounds(kernel *k, const OrtKernelInfo *info, const char *const *name, float *low, float *high) {
    *low = -__builtin_inff();
    *high = __builtin_inff();
    succeeded(k->api, k->api->KernelInfoGetAttribute_float(info, name[0], low));
    succeeded(k->api, k->api->KernelInfoGetAttribute_float(info, name[1], high));
    if (*low != *low || *high != *high) return problem_with(k, name[*low == *low], "is NaN");
    if (*low <= *high) return 0;
    append(k->text, append(k->text, append(k->text, 0, name[0]), " is above "), name[1]);
    return k->text;
}

const char *float_bounds(kernel *k, const OrtKernelInfo *info, float *low, float *high) {
    return named_bounds(k, info, (const char *const[]){"low", "high"}, low, high);
}

const char *inner_bounds(kernel *k, const OrtKernelInfo *info, float *low, float *high) {
    return named_bounds(k, info, (const char *const[]){"inner_low", "inner_high"}, low, high);
}

size_t list_size(const kernel *k, const OrtKernelInfo *info, const char *name) {
    size_t size = 0;
    return succeeded(k->api, k->api->KernelInfoGetAttributeArray_int64(info, name, 0, &size)) ? size : 0;
}

const char *int_list(kernel *k, const OrtKernelInfo *info, const char *name, int32_t *out, size_t count) {
    int64_t values[8];
    size_t size = list_size(k, info, name);
    if (!size) return problem_with(k, name, "is missing");
    if (size != count) {
        size_t length = append(k->text, append(k->text, 0, name), " must hold ");
        length = append(k->text, append_number(k->text, length, (int64_t)count), " integers, got ");
        append_number(k->text, length, (int64_t)size);
        return k->text;
    }
    if (!succeeded(k->api, k->api->KernelInfoGetAttributeArray_int64(info, name, values, &size)))
        return problem_with(k, name, "cannot be read");
    for (size_t i = 0; i < count; i++) {
        if (values[i] < 0 || values[i] > 1 << 24) return out_of_range(k, name, values[i], 0, 1 << 24);
        out[i] = (int32_t)values[i];
    }
    return 0;
}

const char *long_list(kernel *k, const OrtKernelInfo *info, const char *name, int64_t low, int64_t high, int32_list *out) {
    size_t size = list_size(k, info, name);
    if (size > MOST_INDICES) return problem_with(k, name, "holds too many integers");
    const char *problem = 0;
    *out = (int32_list){.count = (int32_t)size};
    if (!size) return 0;
    int64_t *values = allocate_bytes(k, size * sizeof *values);
    out->values = own(k, size * sizeof *out->values);
    if (!values || !out->values)
        problem = "out of memory";
    else if (!succeeded(k->api, k->api->KernelInfoGetAttributeArray_int64(info, name, values, &size)))
        problem = problem_with(k, name, "cannot be read");
    for (size_t i = 0; i < size && !problem; i++) {
        if (values[i] < low || values[i] > high) problem = out_of_range(k, name, values[i], low, high);
        out->values[i] = (int32_t)values[i];
    }
    free_bytes(k, values);
    return problem;
}
