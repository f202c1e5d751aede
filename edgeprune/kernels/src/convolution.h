/* What a sparse or a depthwise convolution keeps, for the operators that have one inside. */
#pragma once
#include "weights.h"
#include "window.h"

typedef struct {
    plane_window window;
    sparse_conv weights;
    layer_end end;
    int32_t tile_lanes, tiles;
    int32_t adds; /* int8: 1 with a residual */
    thread_count threads;
} convolution;

/* Reads the compact weights, input 1, for a window that is read but for its outputs. row_sums: of int8 weights, [outputs,
 * rounded up to 4]; null for what is float. */
const char *read_sparse_weights(kernel *k, const OrtKernelInfo *info, convolution *c, int32_t kind, int32_t **row_sums);
/* The layer's part of a run's job, and the bytes of its copies. */
conv_job job_of_conv(const convolution *c);
int64_t bytes_of_copies(const conv_job *job);

typedef struct {
    plane_window window;
    layer_end end;
    depthwise_job job; /* what of it is the same in all runs */
    thread_count threads;
} depthwise;

/* Reads float weights, the input at `index`. */
const char *read_depthwise(kernel *k, const OrtKernelInfo *info, size_t index, depthwise *d);
