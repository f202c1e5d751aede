/* Compact weights as they lie in a model file (docs/kernels.md, "Weights"), and what the kernels make of them. */
#pragma once
#include "kernels.h"

typedef struct {
    int32_t kind, rows, columns, coding;
    uint32_t outputs, inputs, taps, count;
    uint64_t blocks;
    uint32_t position_bytes;
    const uint8_t *positions, *values;
} packed_weights;

/* Memory for what is made of the weights; null when there is none. */
typedef void *(*allocate)(void *owner, size_t bytes);

/* Checks every field; returns null, or what is wrong. */
const char *read_weights(const uint8_t *bytes, size_t size, packed_weights *out);

/* Bytes that expanding needs for a while. */
size_t window_bytes(const packed_weights *packed);

typedef struct {
    const packed_weights *packed;
    uint32_t *window; /* window_bytes of memory */
    allocate get;
    void *owner;
    int32_t shared; /* 1: entries of int8 rows by four */
} expansion;

/* tap_offset: bytes from a channel's (int8: group's) first copied plane to the run of each tap; channel_bytes: from one
 * channel to the next. slab: channels (int8: groups) that are used together, or 0: all of them, each row block's entries
 * by tap. row_sums: int32 [outputs, rounded up to 4] for int8, or null. Null, or what is wrong. */
const char *expand_conv(const expansion *e, const int64_t *tap_offset, int64_t channel_bytes, int32_t slab,
                        sparse_conv *out, int32_t *row_sums);
const char *expand_gemm(const expansion *e, sparse_gemm *out, int32_t *row_sums, int32_t by_lane);
/* Expanded float weights of so many gates as a recurrent layer's steps read them; in_lanes: single weights may lie in lanes.
 * e: the weights that they come from, and the memory for these. */
const char *put_step_weights(const expansion *e, const sparse_gemm *w, int32_t gates, int32_t in_lanes, step_weights *out);
