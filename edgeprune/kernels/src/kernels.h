/* What the operators and the kernels of one instruction-set level share.
 *
 * A cell is four bytes: one float of one channel, or four int8 channels of one position (channels 4g .. 4g+3 of group
 * g). Both kinds of convolution move cells about in the same way. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

enum { KIND_FLOAT = 0, KIND_INT8 = 1 };

/* One stored block of a convolution: where its input run starts, in bytes from the start of the example's planes. */
typedef struct {
    int32_t offset;
    float weight;
} entry_f1;
typedef struct {
    int32_t offset;
    float weight[4];
} entry_f4;
typedef struct {
    int32_t offset;
    int32_t weight; /* four int8, input channels 4g .. 4g+3 */
} entry_i4;

typedef struct { int32_t offset, weight[4]; } entry_q4; /* weight: of four rows, each four int8 */

/* Four entry_f1 in three quarters of the bytes: offsets are index << shift. */
typedef struct {
    uint16_t index[4];
    float weight[4];
} quad_f1;

/* Sparse weights of a convolution, by blocks of `rows` output channels. */
typedef struct {
    int32_t kind, rows;
    int32_t outputs, row_blocks;
    int32_t in_quads, shift; /* 1: the entries are quad_f1, rows filled up with zeros */
    int32_t slabs;   /* the input's channels in so many pieces, each small enough for the nearest cache */
    uint32_t *start; /* [slabs][row_blocks + 1]: first entry of each row block in a slab */
    int32_t taps;    /* MASKED: a row block's entries stand by tap, otherwise 0 */
    uint32_t *tap_start; /* MASKED: [row_blocks][taps] + 1: first entry of each tap of a row block */
    void *entries;
} sparse_conv;

/* int8 weights of a matrix product by lanes: SLICE_ROWS rows side by side, and for each window of SLICE_CELLS inputs
 * (groups of four) as many steps as the fullest of those rows has blocks there; a step holds one block of each row, its
 * place in the window and its weights (0 where a row has none left). start: [row slices * windows + 1] first step. */
enum { SLICE_ROWS = 16, SLICE_CELLS = 64 };
typedef struct {
    int32_t windows;
    uint32_t *start;
    uint8_t *place;  /* [steps][SLICE_ROWS] */
    int32_t *weight; /* [steps][SLICE_ROWS] */
} slices;

/* Sparse weights of a matrix product: for each block of `rows` outputs the numbers of the inputs (int8: of the groups
 * of four) and the values (float: rows each; int8: four bytes each). */
typedef struct {
    int32_t kind, rows;
    int32_t outputs, inputs, row_blocks;
    uint32_t *start;
    uint16_t *index;
    void *values;
    slices by_lane; /* instead of index and values, where the level can look inputs up in registers */
} sparse_gemm;

/* One copy of an input channel's plane: cell (i, j) is the input at (i * stride_y + y, j * stride_x + x), or the fill
 * value where that lies outside. */
typedef struct {
    int32_t y, x;
} plane_view;

#define MAX_VIEWS 64
#define TILE_CELLS 128 /* cells of the largest tile */

enum { WIDEST = 16, LINE = 64 }; /* cells of the widest vector of all levels; bytes of a cache line */

/* How far past the end of a buffer may be read, because vectors are loaded whole: cells, and bytes. Everything that the
 * kernels allocate has as much past its end, by `own`, `scratch_memory` and the arrays of sums; ONNX Runtime's tensors
 * have not. */
enum { OVER_READ_CELLS = WIDEST, OVER_READ = 4 * OVER_READ_CELLS };

static inline int32_t clamp_int(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

static inline int64_t whole_vectors(int64_t cells) { return (cells + WIDEST - 1) / WIDEST * WIDEST; }

typedef enum { PHASES, COLUMNS, TAPS, MASKED } copy_form; /* see geometry.c */

/* How a convolution (or pooling) reads its input and lays out its output. A run of `run` consecutive columns holds the
 * whole output plane: column oy * pitch + ox is output (oy, ox), columns with ox >= out_w are waste. */
typedef struct {
    int32_t channels;  /* planes of the input: channels, or groups of four */
    int32_t height, width, out_h, out_w;
    int32_t kernel_h, kernel_w, stride_y, stride_x, pad_top, pad_left, dilation_y, dilation_x;
    int32_t direct;    /* 1: runs are read straight from the input */
    copy_form form;
    int32_t views, rows, pitch, run;
    int32_t first_row, last_row; /* of a plane, from an output's own row, that its taps read */
    int64_t plane;     /* cells from one copied plane to the next */
    plane_view view[MAX_VIEWS];
    const int32_t *gather; /* TAPS: [views][plane] input cell of each cell of a copy, or -1 for the fill value */
    const uint16_t *masks; /* MASKED: [taps][vectors of a run] lanes whose input lies in the plane */
} geometry;

/* Integers become bytes: clamp(value + zero_point, low, high). */
typedef struct {
    int32_t zero_point, low, high;
} byte_range;

/* Requantization of an integer layer, in the domain of the level's bytes. */
typedef struct {
    const uint8_t *table;  /* what each byte becomes before a residual is added, or null */
    const int32_t *bias;   /* [outputs, rounded up to 4], with the zero point of the input taken off */
    const float *scale;    /* [outputs, rounded up to 4] */
    byte_range range;
    int32_t bounded;       /* 1: what is rounded lies below 2^31, whatever the sums */
    int32_t sum_q_zero_point, sum_r_zero_point; /* what is done with a residual */
    float sum_scale, sum_r_scale;
    byte_range sum_range;
} requantization;

/* What a float operator computes of its sums, one by one (levels/functions.inc). */
typedef enum { IDENTITY, GELU, GELU_TANH, SILU, SIGMOID, TANH, RELU } function;

typedef struct {
    const float *bias; /* [outputs, rounded up to 4] */
    float low, high;
    int32_t function; /* of a matrix product, of its sums before a residual is added */
} activation;

/* The threads that took part in one run, or, where they copy for themselves, in one example: the first one to arrive is
 * at work on it, so that others may wait for its copies. */
enum { MOST_THREADS = 16 };
typedef struct {
    int32_t busy, count;
    int32_t id[MOST_THREADS];     /* 0: no thread has this number */
    int32_t copied[MOST_THREADS]; /* 1: this thread's copies are made */
} thread_set;

typedef struct {
    const geometry *shape;
    const sparse_conv *weights;
    const activation *float_end;
    const requantization *integer_end;
    const void *input;     /* planes: the example's input itself, or its copies */
    const void *source;    /* the example's input */
    char *copies;          /* sets of them, with the sums so far of several slabs after each */
    const void *residual;  /* of the output's shape, or null */
    void *output;
    uint32_t fill;         /* cell outside the input */
    int32_t tiles, parts;  /* the work is tiles of columns x parts of the row blocks */
    int32_t least;         /* vectors of the smallest of the layer's own tiles, however threads share them out */
    int32_t chunks;        /* or it is shared out in chunks */
    int32_t by_place;      /* 1: a chunk is some of the tiles, 0: some of the row blocks */
    int32_t copy_sets;     /* by place: one a chunk; else one a thread */
    int32_t copied;        /* 1: input is read from copies */
    int64_t copy_bytes;    /* of a set's copies */
    int64_t set_bytes;     /* from one set to the next */
    thread_set *threads;
    int32_t copy_parts;    /* the channels to copy, or to pool, are shared out in so many pieces */
    int32_t lanes;
} conv_job;

/* A tile of several slabs keeps the sums so far of each row here; what is read past one must not be another thread's. */
enum { PARTIAL_ROW = TILE_CELLS + OVER_READ_CELLS };
static inline int64_t partial_sums(const sparse_conv *w) { return w->slabs > 1 ? (int64_t)w->row_blocks * PARTIAL_ROW : 0; }

enum { MOST_TAPS = 1 << 12 };

/* One dense window per channel (levels/ring.h). A padded row is `phases` pieces of phase_cells, one for each remainder of
 * the column by `split`. */
typedef struct {
    const geometry *shape;
    int32_t parts, bands, taps; /* parts / bands of the channels in each of the bands of rows */
    thread_set *threads;        /* where threads are to be noted, or null */
    int32_t slots, row_cells; /* rows of a part's ring, a power of two, and cells of one */
    int32_t split, phases, phase_cells, phase_used;
    const int32_t *offset;    /* float: [kernel_w] bytes from a row's first cell to where the taps of output 0 begin */
    const float *weights;     /* float: [channels][taps] */
    const int8_t *quads;      /* int8: [groups][kernel_h][quads of columns][4 channels][4 columns] */
    int32_t columns, row_quads, step; /* int8: columns of the dilated kernel, quads of them, cells between outputs */
    const activation *float_end;
    const requantization *integer_end;
    const void *source;
    int64_t plane; /* cells from one of its planes to the next */
    void *copies, *output;
    uint32_t fill;
} depthwise_job;

/* A sparse 1x1 convolution and the depthwise one that alone reads it. A piece of the memory: a line, what lies between for a
 * band of four channels' planes, and the depthwise one's ring. */
typedef struct {
    conv_job point;
    depthwise_job deep; /* plane: of a band */
    char *pieces; /* [parts] */
    int64_t planes_bytes, piece_bytes;
    int32_t band, parts; /* rows of outputs; of the channels between */
    thread_set *threads;
} conv_depthwise_job;

typedef struct {
    const sparse_gemm *weights;
    const activation *float_end;
    const requantization *integer_end;
    const void *input;    /* [batch, inputs], or planes [inputs, positions] of which the batch is a part */
    const float *residual;
    void *output;         /* [batch, outputs], or planes */
    int64_t positions;    /* floats of a plane; 0: the tensors' channels come last */
    const float *norm_scale, *norm_bias; /* of what is done with each column first, or null */
    float epsilon;
    void *panels;         /* [panel][inputs, or groups][pitch] cells, or null */
    int32_t pitch;        /* columns of a panel, examples side by side: whole vectors, or 1 */
    int32_t panel_parts;  /* the inputs of a panel are shared out in so many pieces */
    int32_t batch, parts;
    uint32_t flip;        /* int8: xor that takes a byte of the tensor to the level's domain */
    int32_t to_floats;    /* int8: 1: outputs are floats */
    void *next;           /* panels of the product that reads this one's outputs, which go there alone, or null */
} gemm_job;

/* A product and the one that reads its outputs, panel by panel, all of each at once. */
typedef struct {
    const gemm_job *first, *second;
    char *buffers;        /* [parts][buffer_bytes]: a panel of the first, one of the second */
    int64_t buffer_bytes, second_at;
    int32_t parts;
} chain_job;

#define PANEL 64 /* most columns of a panel */
enum { MOST_BATCH = 1 << 24 };

typedef struct {
    const uint8_t *a, *b;
    uint8_t *output;
    int64_t cells;
    int32_t parts;
    float a_scale, b_scale; /* of a product the first alone */
    int32_t a_zero_point, b_zero_point;
    byte_range range;
    int64_t positions;      /* of a product: cells of A that share one of B */
} pair_job;

typedef struct {
    const uint8_t *input, *table;
    uint8_t *output;
    int64_t cells;
    int32_t parts;
} table_job;

typedef struct {
    const uint8_t *input;
    uint8_t *output;
    int64_t positions;
    int32_t channels, groups;
    uint32_t flip;
    float scale;           /* global average pooling: x_scale / y_scale / positions */
    int32_t x_zero_point, y_zero_point; /* both in the level's domain */
} move_job;

/* The end of an operator that computes floats and writes bytes: rint(value * steps) + zero point. */
typedef struct {
    float steps; /* 1 / the output's scale */
    byte_range range;
    uint32_t flip; /* xor that takes four bytes of the level's domain to the tensor's */
} byte_end;

/* Rows of `width` floats, each less its mean, over its deviation. */
typedef struct {
    const float *x, *scale, *bias; /* bias: or null */
    void *y;
    int64_t positions;     /* of planes [width, positions], whose columns are the rows; 0: rows lie as such */
    const byte_end *bytes; /* null: y are floats */
    float *scratch;        /* [parts][width, whole vectors]: a row before it becomes bytes, or null */
    int64_t rows;
    int32_t width, parts;
    float epsilon;
} norm_job;

/* softmax(scale * Q K^T) V for each head: `size` neighbouring floats of each token's row. */
enum { QUERY_ROWS = 6 };
typedef struct {
    const float *q, *k, *v; /* the first example's first head */
    int64_t q_row, k_row, v_row; /* floats from one token to the next */
    int64_t queries, keys;       /* tokens of an example */
    void *y;                     /* [batch, queries, heads * size] */
    const byte_end *bytes;       /* null: y are floats */
    float *copies;               /* [batch * heads] K^T [size][key_columns], then V [keys][value_columns] */
    float *scores;               /* [pieces][QUERY_ROWS][the larger of key_columns and value_columns] */
    int64_t copy_floats, piece_floats;
    int32_t key_columns, value_columns; /* whole vectors */
    int32_t heads, size, parts;  /* the queries of a head are shared out in so many pieces */
    float scale;
} attention_job;

/* Weights that multiply one column, the state of a recurrent layer, by slices of rows; each step of a slice takes as many
 * values of all of its rows. In the first three forms these are four rows, or blocks of four rows, of about the same length:
 * blocks of 4x1 or 1x4, or four single weights of each row. IN_LANES: as many rows as two of the widest vectors have lanes,
 * each with the weight that it has in the step's window of two neighbouring vectors of inputs, if any. */
typedef enum { FOUR_ROWS, FOUR_INPUTS, SINGLES, IN_LANES } step_form;
enum { STEP_VALUES = 16, LANE_ROWS = 2 * WIDEST, LANE_WINDOW = 2 * WIDEST, LANE_TAKEN = 1 << 7 };
typedef struct {
    step_form form;
    int32_t slices;  /* of a gate */
    uint32_t *start; /* [gates * slices + 1] first step */
    uint16_t *index; /* [steps][4] inputs, FOUR_INPUTS: the first of four; SINGLES: [steps][16]; IN_LANES: [steps] first vector */
    uint8_t *place;  /* IN_LANES: [steps][LANE_ROWS] LANE_TAKEN and the place in the window, or 0 */
    float *value;    /* [steps][STEP_VALUES], IN_LANES: [LANE_ROWS] */
    int32_t *row;    /* not IN_LANES: [gates * slices][4] first row of each of the four in its gate */
} step_weights;

/* Recurrent layers, by ONNX's order of the gates: LSTM i, o, f, c; GRU z, r, h. */
typedef enum { LSTM, GRU, RNN } cell_kind;

/* The steps of a recurrent layer. Rows of weights and sums are [direction][gate][padded]: units, rounded up to four. */
typedef struct {
    const step_weights *weights; /* of h */
    cell_kind cell;
    int32_t gates, units, padded, directions, steps, batch;
    int32_t backwards;        /* 1: the first direction begins at the last step, as the second always does */
    int32_t reset_after;      /* GRU: r multiplies h's product, not h */
    int32_t rectified;        /* RNN: Relu in place of tanh */
    int32_t first, end;       /* of the steps in their order, those of this run; the state stays from one run to the next */
    int32_t given_step;       /* the step in X's order that `given` begins with */
    const float *given;       /* [steps, batch, rows]: the inputs' product with the biases */
    const float *reset_bias;  /* GRU: [directions][padded], added before r multiplies */
    const float *first_h, *first_c; /* [directions, batch, units], or null for zeros */
    float *states;            /* [directions * batch] pieces of piece_floats */
    int64_t piece_floats;
    float *y, *last_h, *last_c; /* [steps, directions, batch, units], [directions, batch, units]; or null */
} recurrent_job;

/* Bytes of an output cell: those of the same place in group `group` of an input, moved up by `bytes` places (negative:
 * down), where `mask` has them. */
typedef struct {
    int32_t input, group, bytes;
    uint32_t mask;
} cell_part;

/* Where a cell along an axis comes from. RUN: `before` cells of fill, then `count` from `first` on, then fill. EVEN: so with
 * every second cell. TWICE: each cell two times. ANY: index says it, -1 for fill. */
typedef enum { RUN, EVEN, TWICE, ANY } axis_form;
typedef struct {
    axis_form form;
    int32_t size, before, first, count; /* size: of the output */
    const int32_t *index;               /* [size] */
} axis;

enum { MOST_JOINED = 256 }; /* inputs of one operator */

typedef struct {
    const uint32_t *input[MOST_JOINED]; /* of one example */
    const cell_part *parts;
    const uint32_t *first_part; /* [groups + 1] */
    const uint32_t *filled;     /* [groups] what of a cell is fill, whatever its place */
    axis rows, columns;
    int32_t height, width;      /* of the inputs */
    int32_t groups, pieces;
    uint32_t fill;
    uint32_t *output;
} gather_job;

/* Does one piece of a job's work, by its number. */
typedef void piece_of_work(void *job, size_t number);

/* The kernels of one instruction-set level. */
typedef struct {
    const char *name;
    int32_t lanes;         /* cells in the widest vector */
    int32_t signed_bytes;  /* 1: packed bytes are int8 (value - 128), 0: uint8 */
    int32_t tile_f1, tile_f4, tile_i4; /* vectors of columns that one tile holds in registers */
    int32_t masked;        /* 1: blocks of four rows can read their input by masks */
    int32_t shared_rows;   /* 1: dense int8 convolutions take their weights by four rows */
    int32_t by_lane;       /* 1: int8 matrix products take their weights as slices */
    int32_t in_lanes;      /* 1: recurrent layers take single weights in lanes */
    piece_of_work *copy_planes, *conv, *conv_chunk, *max_pool; /* of a conv_job */
    piece_of_work *depthwise, *quantized_depthwise, *conv_depthwise; /* of a depthwise_job, the last of one of both layers */
    piece_of_work *gemm, *gemm_panel, *gemm_chain;             /* of a gemm_job; the last of a chain_job */
    piece_of_work *norm, *norm_planes;                         /* of a norm_job */
    piece_of_work *copy_head, *attention, *copy_head_bytes, *attention_bytes; /* of an attention_job; the last two: of bytes */
    piece_of_work *recurrent;                                  /* of a recurrent_job: a direction of an example */
    piece_of_work *add, *multiply, *multiply_planes;           /* of a pair_job */
    piece_of_work *table;                                      /* of a table_job */
    piece_of_work *pack, *unpack, *global_average;             /* of a move_job */
    piece_of_work *gather;                                     /* of a gather_job */
} level;

const level *choose_level(const char **problem);
/* Number of the calling thread in the set. If need be it is added, as number `wanted` or, where that is taken, as the
 * lowest that is free; MOST_THREADS if none is. */
int32_t note_thread(thread_set *threads, int32_t wanted);
void let_others_run(void);

static inline void lock(int32_t *busy) {
    while (__atomic_exchange_n(busy, 1, __ATOMIC_ACQUIRE)) let_others_run();
}
static inline void unlock(int32_t *busy) { __atomic_store_n(busy, 0, __ATOMIC_RELEASE); }
