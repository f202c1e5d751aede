#include "window.h"

const char *read_window(kernel *k, const OrtKernelInfo *info, int32_t channels_a_cell, plane_window *out) {
    geometry *g = &out->shape;
    int32_t kernel_shape[2] = {1, 1}, strides[2] = {1, 1}, dilations[2] = {1, 1}, pads[4] = {0}, input[3], output[3];
    const size_t n = list_size(k, info, "kernel_shape"), at = n == 1; /* a row: height 1 */
    if (n > 2) return "kernel_shape must hold one or two integers";
    CHECK(int_list(k, info, "kernel_shape", kernel_shape + at, n));
    CHECK(int_list(k, info, "strides", strides + at, n));
    CHECK(int_list(k, info, "dilations", dilations + at, n));
    CHECK(int_list(k, info, "pads", pads, 2 * n));
    CHECK(int_list(k, info, "input_shape", input, n + 1));
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
        CHECK(int_list(k, info, "output_shape", output, n + 1));
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
    CHECK(plan_copies(g, lanes, reads, masked));
    const int64_t cells = gather_cells(g), count = mask_count(g, lanes);
    int32_t *table = cells ? own(k, 4 * (size_t)cells) : 0;
    uint16_t *masks = count ? own(k, 2 * (size_t)count) : 0;
    if ((cells && !table) || (count && !masks)) return "out of memory";
    if (table) plan_gather(g, table);
    if (masks) plan_masks(g, lanes, masks);
    return 0;
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

OrtStatus *open_run(const kernel *k, OrtKernelContext *context, const plane_window *w, int packed, window_run *run) {
    const geometry *g = &w->shape;
    tensor *x = &run->x;
    int64_t wanted[5];
    void *y = 0;
    TRY(run_input(k, context, 0, x));
    if (!x->data && x->elements) return fail(k->api, k->name, "an input is missing");
    const int64_t batch = x->rank ? x->dims[0] : 0;
    int same = x->rank == dims_of(w, batch, (example_size){w->channels, g->height, g->width}, packed, wanted);
    for (size_t i = 1; same && i < x->rank; i++) same = x->dims[i] == wanted[i];
    if (!same) return fail(k->api, k->name, "an input does not have the dimensions that input_shape says");
    run->rank = dims_of(w, batch, (example_size){w->outputs, g->out_h, g->out_w}, packed, run->dims);
    TRY(run_output(k, context, run->dims, run->rank, &y));
    run->y = y;
    return 0;
}
