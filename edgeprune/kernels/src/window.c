#include "window.h"

const char *read_window(kernel *k, const OrtKernelInfo *info, int32_t channels_a_cell, plane_window *out) {
    geometry *g = &out->shape;
    int32_t kernel_shape[2] = {1, 1}, strides[2] = {1, 1}, dilations[2] = {1, 1}, pads[4] = {0}, input[3], output[3];
    const size_t n = list_size(k, info, "kernel_shape"), at = n == 1; /* a row: height 1 */
    if (n > 2) return "kernel_shape must hold one or two integers";
    const char *problem = int_list(k, info, "kernel_shape", kernel_shape + at, n);
    if (!problem) problem = int_list(k, info, "strides", strides + at, n);
    if (!problem) problem = int_list(k, info, "dilations", dilations + at, n);
    if (!problem) problem = int_list(k, info, "pads", pads, 2 * n);
    if (!problem) problem = int_list(k, info, "input_shape", input, n + 1);
    if (problem) return problem;
    out->spatial = (int32_t)n;
    const int32_t begin_y = n == 2 ? pads[0] : 0, begin_x = n == 2 ? pads[1] : pads[0];
    const int32_t end_y = n == 2 ? pads[2] : 0, end_x = n == 2 ? pads[3] : pads[1];
    out->channels = input[0];
    *g = (geometry){
        .channels = (input[0] + channels_a_cell - 1) / channels_a_cell,
        .height = n == 2 ? input[1] : 1, .width = n == 2 ? input[2] : input[1],
        .kernel_h = kernel_shape[0], .kernel_w = kernel_shape[1], .stride_y = strides[0], .stride_x = strides[1],
        .dilation_y = dilations[0], .dilation_x = dilations[1], .pad_top = begin_y, .pad_left = begin_x,
    };
    if (input[0] < 1 || g->height < 1 || g->width < 1) return "input_shape holds a zero";
    if (g->kernel_h < 1 || g->kernel_w < 1 || (int64_t)g->kernel_h * g->kernel_w > MOST_TAPS)
        return "kernel_shape is out of range";
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

const char *plan_window(kernel *k, plane_window *w, int64_t reads, int32_t masked) {
    geometry *g = &w->shape;
    const int32_t lanes = k->level->lanes;
    const char *problem = plan_copies(g, lanes, reads, masked);
    const int64_t cells = problem ? 0 : gather_cells(g), count = problem ? 0 : mask_count(g, lanes);
    int32_t *table = cells ? own(k, 4 * (size_t)cells) : 0;
    uint16_t *masks = count ? own(k, 2 * (size_t)count) : 0;
    if ((cells && !table) || (count && !masks)) return "out of memory";
    if (table) plan_gather(g, table);
    if (masks) plan_masks(g, lanes, masks);
    return problem;
}

/* Channels and size of one example. */
typedef struct {
    int32_t channels, height, width;
} example_size;

static size_t dims_of(const plane_window *w, int64_t batch, example_size size, int packed, int64_t *dims) {
    size_t rank = 0;
    dims[rank++] = batch;
    dims[rank++] = packed ? groups_of_four(size.channels) : size.channels;
    if (w->spatial == 2) dims[rank++] = size.height;
    dims[rank++] = size.width;
    if (packed) dims[rank++] = 4;
    return rank;
}

size_t output_dims(const plane_window *w, int64_t batch, int packed, int64_t *dims) {
    return dims_of(w, batch, (example_size){w->outputs, w->shape.out_h, w->shape.out_w}, packed, dims);
}

const char *check_input(const plane_window *w, const tensor *x, int packed) {
    int64_t dims[5];
    const example_size size = {w->channels, w->shape.height, w->shape.width};
    if (!x->data && x->elements) return "an input is missing";
    const size_t rank = dims_of(w, x->rank ? x->dims[0] : 0, size, packed, dims);
    if (x->rank != rank) return "an input does not have the dimensions that input_shape says";
    for (size_t i = 1; i < rank; i++)
        if (x->dims[i] != dims[i]) return "an input does not have the dimensions that input_shape says";
    return 0;
}
