/* One operator of a session, and what its creation and its runs have in common. */
#pragma once
#include "kernels.h"
#include "ort.h"

/* Groups of attributes. */
enum {
    TAKES_WINDOW = 1 << 0, TAKES_OUTPUT_SHAPE = 1 << 1, TAKES_FLOAT_BOUNDS = 1 << 2, TAKES_BOUNDS = 1 << 3,
    TAKES_SIGN = 1 << 4, TAKES_X_POINT = 1 << 5, TAKES_Y_POINT = 1 << 6, TAKES_SUM = 1 << 7, TAKES_TWO = 1 << 8,
    TAKES_CHANNELS = 1 << 9, TAKES_SCALE = 1 << 10, TAKES_COUNT = 1 << 11, TAKES_UNITS = 1 << 12, TAKES_RESET = 1 << 13,
    TAKES_RELU = 1 << 14, TAKES_TWO_SCALES = 1 << 15, TAKES_INDICES = 1 << 16, TAKES_FUNCTION = 1 << 17,
    TAKES_EPSILON = 1 << 18, TAKES_HEADS = 1 << 19, TAKES_Y_SCALE = 1 << 20, TAKES_CHANNELS_FIRST = 1 << 21,
    TAKES_INNER_BOUNDS = 1 << 22,
};

enum { MOST_TEXT = 256 };

/* One operator of a session: what all of them have. The state of its family lives as long; runs only read it, but for the
 * count of threads, so they may overlap. */
typedef struct kernel {
    const OrtApi *api;
    const level *level;
    const char *name;
    OrtStatus *(*compute)(struct kernel *, OrtKernelContext *);
    void *state; /* of the operator's family */
    OrtAllocator *memory;
    uint32_t takes;       /* groups of attributes */
    char text[MOST_TEXT]; /* what is wrong with one */
    void *owned[16];
    int32_t owned_count;
    int32_t is_signed; /* int8 tensors, not uint8 */
    int32_t shift;     /* from a tensor's value to the level's byte */
} kernel;

/* Puts a part of a message, of MOST_TEXT characters at most, after the first `length`; returns how many there are now. */
size_t append(char *text, size_t length, const char *part);
/* A status with "edgeprune OPERATOR: problem". */
OrtStatus *fail(const OrtApi *api, const char *name, const char *problem);

/* Whether there was no status; one that only says that something is missing is dropped. */
static inline int succeeded(const OrtApi *api, OrtStatus *status) {
    if (status) api->ReleaseStatus(status);
    return !status;
}

/* The runtime's memory with OVER_READ bytes past its end, or null; free_bytes takes null as well. All that kernels read,
 * but for the runtime's own tensors, comes from here. */
void *allocate_bytes(const kernel *k, size_t bytes);
void free_bytes(const kernel *k, void *memory);
/* Memory that the kernel owns, freed with it; null when there is none. */
void *own(void *owner, size_t bytes);
/* The same for the state of the operator's family, which begins as zeros. */
void *own_state(kernel *k, size_t bytes);
void destroy_kernel(void *data);
/* Memory for a while, or null; several threads may ask at the same time. available: null, or how much it is. */
void *scratch_memory(const kernel *k, size_t bytes, size_t *available);
void free_scratch(const kernel *k, void *memory);
/* A kernel begins (1) or ends (-1) to use scratch memory; with the last one all of it is freed. */
void count_user(const kernel *k, int change);

typedef struct {
    int32_t *values;
    int32_t count;
} int32_list;

/* Attributes (attributes.c). These give null, or what is wrong, in words that name the attribute. */
const char *check_attributes(kernel *k, const OrtKernelInfo *info); /* none that the operator has not, none of a wrong type */
const char *problem_with(kernel *k, const char *name, const char *problem);
/* An integer in [low, high]; a node that does not have it leaves `out` alone. */
const char *int_attribute(kernel *k, const OrtKernelInfo *info, const char *name, int64_t low, int64_t high, int32_t *out);
const char *scale_attribute(kernel *k, const OrtKernelInfo *info, const char *name, float *out); /* 1 if it is missing */
const char *epsilon_attribute(kernel *k, const OrtKernelInfo *info, float *out); /* 1e-5 if it is missing */
const char *steps_attribute(kernel *k, const OrtKernelInfo *info, float *out); /* 1 / y_scale */
const char *float_bounds(kernel *k, const OrtKernelInfo *info, float *low, float *high); /* infinite where one is missing */
const char *inner_bounds(kernel *k, const OrtKernelInfo *info, float *low, float *high); /* of the first of two layers */
/* Exactly `count` integers, from 0 to 2^24. */
const char *int_list(kernel *k, const OrtKernelInfo *info, const char *name, int32_t *out, size_t count);
/* As many integers from `low` to `high` as the list holds, in memory that the kernel owns. */
const char *long_list(kernel *k, const OrtKernelInfo *info, const char *name, int64_t low, int64_t high, int32_list *out);
size_t list_size(const kernel *k, const OrtKernelInfo *info, const char *name);
int has_attribute(const kernel *k, const OrtKernelInfo *info, const char *name);
/* With such scales no product of an integer and no sum of two products is NaN. */
static inline int is_scale(float value) { return value >= 0 && value <= 1e30f; }
#define NO_SCALE "must be a number from 0 to 1e30"

enum { MOST_DIMENSIONS = 6 };

typedef struct {
    const void *data;
    int32_t type;
    size_t rank;
    int64_t dims[MOST_DIMENSIONS];
    int64_t elements;
} tensor;

/* A constant input (an initializer): 0 if it is none. */
int constant_input(const kernel *k, const OrtKernelInfo *info, size_t index, tensor *out);
/* An input of this run; data is null for an optional one that is not there. */
OrtStatus *run_input(const kernel *k, OrtKernelContext *context, size_t index, tensor *out);
OrtStatus *run_output(const kernel *k, OrtKernelContext *context, const int64_t *dims, size_t rank, void **data);
/* One of several outputs; null where the node leaves it out. */
OrtStatus *output_at(const kernel *k, OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank, void **data);

/* A zero point or a bound: an integer of the operator's type; `to` gets it in the level's domain. */
typedef struct {
    const char *name;
    int32_t *to;
    int32_t missing; /* what it is without the attribute */
} point;

/* What bytes of the operator's tensors mean; before any point is read. */
const char *read_sign(kernel *k, const OrtKernelInfo *info);
const char *read_points(kernel *k, const OrtKernelInfo *info, const point *points, size_t count);
static inline int32_t least_value(const kernel *k) { return k->is_signed ? -128 : 0; }

/* How a layer ends, as floats or as integers, the latter in the level's domain. */
typedef struct {
    activation floats;
    requantization integers;
    int32_t x_zero_point;
} layer_end;

/* Zero points and the output's range. */
const char *read_layer_points(kernel *k, const OrtKernelInfo *info, layer_end *end);
/* Bounds and the bias input; for integer layers bias and scale inputs, with the input's zero point taken off. */
const char *read_float_bias(kernel *k, const OrtKernelInfo *info, size_t index, int32_t outputs, activation *out);
const char *read_integer_bias(kernel *k, const OrtKernelInfo *info, size_t index, int32_t outputs, const int32_t *row_sums,
                              layer_end *end);

/* Whether what is rounded lies below 2^31 for any sums of so many products of bytes. */
int32_t is_bounded(const requantization *q, int32_t outputs, int64_t terms);

/* A sparse matrix product (product.c): compact weights in a constant input, expanded for the level, and a run of it, whose
 * job says weights, end, input, residual, output and batch. row_sums: of int8 weights. */
const char *read_product(kernel *k, const OrtKernelInfo *info, size_t index, sparse_gemm *out, int32_t **row_sums);
OrtStatus *multiply(const kernel *k, OrtKernelContext *context, gemm_job *job);
/* A table of 256 bytes, a constant input, in the level's domain. */
const char *read_table(kernel *k, const OrtKernelInfo *info, size_t index, const uint8_t **out);

/* Several threads share what is more than about this many pieces; one thread loses little by them. */
enum { PIECES = 8 };

/* How many of the runtime's threads take part in an operator's runs. */
typedef struct {
    uint32_t runs;
    int32_t most;
} thread_count;

/* 0: to be found out in this run, by `seen` in the job. */
int32_t known_threads(const thread_count *threads);
void end_run(thread_count *threads, const thread_set *seen);

static inline size_t whole_fours(int32_t count) { return ((size_t)count + 3) / 4 * 4; }
static inline int32_t groups_of_four(int32_t channels) { return (channels + 3) / 4; }
static inline uint32_t flip_of(const kernel *k) { return k->shift ? 0x80808080u : 0; }

#define TRY(expression) \
    do { \
        OrtStatus *status_ = (expression); \
        if (status_) return status_; \
    } while (0)

#define CHECK(expression) \
    do { \
        const char *problem_ = (expression); \
        if (problem_) return problem_; \
    } while (0)

/* Completes an operator of a session; null, or what is wrong. */
typedef const char *create(kernel *k, const OrtKernelInfo *info);
create create_conv, create_quantized_conv, create_depthwise, create_quantized_depthwise, create_gemm, create_quantized_gemm;
create create_max_pool, create_quantized_max_pool, create_average_pool, create_global_average_pool;
create create_add, create_multiply, create_table, create_pack, create_unpack, create_gather;
create create_conv_depthwise;
create create_lstm, create_gru, create_rnn, create_mlp, create_gemm_to_floats;
create create_norm, create_quantized_norm, create_attention, create_quantized_attention;
