/* What operators have in common whose window moves over planes: its attributes, and the tensors that go in and out. */
#pragma once
#include "geometry.h"
#include "kernel.h"

typedef struct {
    geometry shape;
    int32_t spatial;           /* 1: [N, C, L], 2: [N, C, H, W] */
    int32_t channels, outputs; /* of the input and of the output */
} plane_window;

/* Conv attributes -> all but the outputs; null, or what is wrong. channels_a_cell: 1 or 4. */
const char *read_window(kernel *k, const OrtKernelInfo *info, int32_t channels_a_cell, plane_window *out);
/* Decides on copies, with the tables that they need; see plan_copies. */
const char *plan_window(kernel *k, plane_window *w, int64_t reads, int32_t masked);

/* Bytes of one example's input, and of a plane of its output (packed: of four channels). */
static inline int64_t input_bytes(const geometry *g) { return 4 * (int64_t)g->channels * g->height * g->width; }
static inline int64_t output_plane_bytes(const geometry *g) { return 4 * (int64_t)g->out_h * g->out_w; }

/* X and Y of one run, packed or not; dims: Y's. Refuses an X that is not [any batch, ...as the window's shape says]. */
typedef struct {
    tensor x;
    char *y;
    size_t rank;
    int64_t dims[5];
} window_run;
OrtStatus *open_run(const kernel *k, OrtKernelContext *context, const plane_window *w, int packed, window_run *run);
