/* Depthwise convolution of one level; level.c includes this file.
 *
 * One dense window a channel: little work for each byte, so what counts is that a byte is touched near the core and
 * once. The rows of the input that the window covers lie, padded, in a ring that stays in the nearest cache; a row enters
 * it when the first output needs it. */

/* Rows of one channel (int8: of one group): row r of the padded plane is ring[r % slots], or all padding. */
typedef struct {
    const depthwise_job *job;
    const uint32_t *source; /* the channel's plane */
    uint32_t *ring;
    int32_t slots, row_cells, pad_top, height; /* the job's: no store of an output can change these copies */
    int32_t next; /* first row that has not entered the ring */
} padded_rows;

static padded_rows open_rows(const depthwise_job *job, size_t part) {
    const geometry *g = job->shape;
    uint32_t *ring = (uint32_t *)job->copies + part * (size_t)(job->slots + 1) * job->row_cells;
    /* The last slot is padding alone. */
    fill_cells(ring + (int64_t)job->slots * job->row_cells, job->row_cells, job->fill);
    return (padded_rows){job, 0, ring, job->slots, job->row_cells, g->pad_top, g->height, 0};
}

/* Once for all channels: what enters the ring leaves the padding as it is. */
static void pad_ring(const padded_rows *rows) {
    const depthwise_job *job = rows->job;
    const geometry *g = job->shape;
    for (int32_t phase = 0; phase < job->phases; phase++) {
        int32_t first, end;
        inside(phase - g->pad_left, job->split, g->width, job->phase_used, &first, &end);
        uint32_t *row = rows->ring + (int64_t)phase * job->phase_cells;
        for (int32_t slot = 0; slot < job->slots; slot++, row += job->row_cells) {
            fill_cells(row, first, job->fill);
            /* What vectors read behind the padding must be no slow float, though it counts nowhere. */
            fill_cells(row + end, (job->weights ? job->phase_cells : job->phase_used) - end, job->fill);
        }
    }
}

/* A part of the work: some rows of some channels. */
typedef struct {
    int32_t channel, end_channel, row, end_row;
} piece;

static piece piece_of_part(const depthwise_job *job, size_t part) {
    const int32_t of_channels = job->parts / job->bands, band = (int32_t)part / of_channels;
    const int64_t number = (int32_t)part % of_channels, channels = job->shape->channels, rows = job->shape->out_h;
    if (job->threads) note_thread(job->threads, 0);
    return (piece){(int32_t)(channels * number / of_channels), (int32_t)(channels * (number + 1) / of_channels),
                   (int32_t)(rows * band / job->bands), (int32_t)(rows * (band + 1) / job->bands)};
}


static void begin_channel(padded_rows *rows, int32_t channel) {
    const geometry *g = rows->job->shape;
    rows->source = (const uint32_t *)rows->job->source + (int64_t)channel * g->height * g->width;
    rows->next = 0;
}

static const uint32_t *padded_row(const padded_rows *rows, int32_t row) {
    const int32_t outside = (uint32_t)(row - rows->pad_top) >= (uint32_t)rows->height;
    return rows->ring + (int64_t)(outside ? rows->slots : row & (rows->slots - 1)) * rows->row_cells;
}

/* Columns 0, stride, 2 * stride ... of a row. */
static void copy_columns(const uint32_t *from, uint32_t *to, int32_t stride, int32_t count) {
    if (stride == 2)
        copy_even_cells(from, to, count);
    else
        for (int32_t i = 0; i < count; i++) to[i] = from[(int64_t)i * stride];
}

/* Lets as many rows of the padded plane enter as fit while `first` and those behind it stay: a vector that is read soon
 * after parts of it were written waits for them. */
static void enter_rows(padded_rows *rows, int32_t first) {
    const depthwise_job *job = rows->job;
    const geometry *g = job->shape;
    int32_t begin = rows->next > first ? rows->next : first;
    int32_t end = first + job->slots;
    rows->next = end;
    if (begin < g->pad_top) begin = g->pad_top;
    if (end > g->pad_top + g->height) end = g->pad_top + g->height;
    for (int32_t phase = 0; phase < job->phases; phase++) {
        int32_t first_cell, end_cell;
        inside(phase - g->pad_left, job->split, g->width, job->phase_used, &first_cell, &end_cell);
        const uint32_t *from = rows->source + (int64_t)(begin - g->pad_top) * g->width + phase - g->pad_left;
        from += (int64_t)first_cell * job->split;
        uint32_t *to = rows->ring + (int64_t)phase * job->phase_cells + first_cell;
        const int32_t mask = rows->slots - 1, row_cells = rows->row_cells, width = g->width, split = job->split;
        if (split == 1)
            for (int32_t row = begin; row < end; row++, from += width)
                copy_cells(from, to + (int64_t)(row & mask) * row_cells, end_cell - first_cell);
        else
            for (int32_t row = begin; row < end; row++, from += width)
                copy_columns(from, to + (int64_t)(row & mask) * row_cells, split, end_cell - first_cell);
    }
}

/* ---- float ---- */

enum { BLOCK_ROWS = 4, MOST_ROWS = 2 * (BLOCK_ROWS - 1) + 3 };
/* BLOCK_VECTORS: sums of a block of rows, nine weights and an input take as many vectors of columns as the registers hold.
 * IN_PLACE: neighbours come out of registers where those suffice for the rows of a block; then nothing is copied. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define BLOCK_VECTORS 2
#define IN_PLACE 1
#else
#define BLOCK_VECTORS 1
#define IN_PLACE 0
#endif

/* 3x3 without dilation: `outputs` rows by `vectors` vectors of columns at once, so that an input loaded serves all
 * rows that read it. at: where the three taps of a row begin in it. */
static ALWAYS_INLINE void block_3x3(const int outputs, const int vectors, const int stride_y, const int count,
                                    const char *const *rows, const int64_t *at, const W(vf) *weight, const float bias,
                                    const activation *end, float *y, const int64_t pitch) {
    W(vf) sum[BLOCK_ROWS * BLOCK_VECTORS];
    UNROLL for (int i = 0; i < outputs * vectors; i++) sum[i] = W(set_f)(bias);
    UNROLL for (int row = 0; row < stride_y * (outputs - 1) + 3; row++) {
        UNROLL for (int tap = 0; tap < 3; tap++) {
            UNROLL for (int v = 0; v < vectors; v++) {
                const W(vf) input = W(load_f)(rows[row] + at[tap] + v * 4 * WIDE);
                UNROLL for (int m = 0; m < outputs; m++) {
                    const int ky = row - stride_y * m, i = m * vectors + v;
                    if (ky >= 0 && ky < 3) sum[i] = W(fma_f)(input, weight[3 * ky + tap], sum[i]);
                }
            }
        }
    }
    const W(vf) low = W(set_f)(end->low), high = W(set_f)(end->high);
    UNROLL for (int m = 0; m < outputs; m++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const W(vf) value = W(clip_f)(sum[m * vectors + v], low, high);
            float *to = y + m * pitch + v * WIDE;
            if (count >= vectors * WIDE)
                W(store_f)(to, value);
            else
                W(store_part_f)(to, value, count);
        }
    }
}

/* Columns by vectors; the last ones are moved back to end with the row, and compute some outputs again. */
static ALWAYS_INLINE void rows_3x3(const int32_t width, const int32_t *offset, const activation *end, const int outputs,
                                   const int stride_y, const char *const *rows, const float *weights, float bias,
                                   float *y) {
    W(vf) weight[9];
    UNROLL for (int i = 0; i < 9; i++) weight[i] = W(set_f)(weights[i]);
    for (int32_t x = 0; x < width;) {
        const int32_t wide = BLOCK_VECTORS * WIDE, rest = width - x;
        const int32_t vectors = rest > WIDE && width >= wide ? BLOCK_VECTORS : 1;
        if (rest < vectors * WIDE && width >= vectors * WIDE) x = width - vectors * WIDE;
        const int64_t at[3] = {offset[0] + 4 * x, offset[1] + 4 * x, offset[2] + 4 * x};
        if (vectors == BLOCK_VECTORS && width >= wide)
            block_3x3(outputs, BLOCK_VECTORS, stride_y, BLOCK_VECTORS * WIDE, rows, at, weight, bias, end, y + x, width);
        else if (width >= WIDE)
            block_3x3(outputs, 1, stride_y, WIDE, rows, at, weight, bias, end, y + x, width);
        else
            block_3x3(outputs, 1, stride_y, width, rows, at, weight, bias, end, y + x, width);
        x += vectors * WIDE;
    }
}

#if IN_PLACE
/* Cells at .. of a row of `width`, zeros behind its end. */
static ALWAYS_INLINE W(vi) cells_at(const char *row, int32_t at, int32_t width) {
    const int32_t rest = width - at;
    if (rest >= WIDE) return W(load_i)(row + 4 * at);
    return rest > 0 ? W(load_part_i)(row + 4 * at, rest) : W(set_i)(0);
}

/* 3x3 with one column of padding on the left: BLOCK_ROWS rows of outputs, read from the tensor itself. At stride 2 the
 * middle taps are the even cells and the others the odd ones. narrow: a vector holds a row of outputs. */
static ALWAYS_INLINE void rows_in_place(const int stride, const int narrow, const char *const *rows, int32_t width,
                                        int32_t out_w, const float *weights, const float bias, const activation *end,
                                        float *y) {
    const int count = stride * (BLOCK_ROWS - 1) + 3;
    W(vf) weight[9];
    W(vi) before[MOST_ROWS], here[MOST_ROWS];
    UNROLL for (int i = 0; i < 9; i++) weight[i] = W(set_f)(weights[i]);
    UNROLL for (int i = 0; i < count; i++) {
        before[i] = W(set_i)(0);
        if (stride == 1) here[i] = cells_at(rows[i], 0, width);
    }
    const W(vf) low = W(set_f)(end->low), high = W(set_f)(end->high);
    for (int32_t x = 0; x < (narrow ? 1 : out_w); x += WIDE) {
        W(vf) sum[BLOCK_ROWS];
        UNROLL for (int m = 0; m < BLOCK_ROWS; m++) sum[m] = W(set_f)(bias);
        UNROLL for (int i = 0; i < count; i++) {
            W(vi) tap[3];
            if (stride == 1) {
                const W(vi) next = narrow ? W(set_i)(0) : cells_at(rows[i], x + WIDE, width);
                tap[0] = W(one_before_i)(before[i], here[i]);
                tap[1] = here[i];
                tap[2] = W(one_after_i)(here[i], next);
                before[i] = here[i];
                here[i] = next;
            } else {
                const W(vi) left = cells_at(rows[i], 2 * x, width), right = cells_at(rows[i], 2 * x + WIDE, width);
                tap[1] = W(even_i)(left, right);
                tap[2] = W(odd_i)(left, right);
                tap[0] = W(one_before_i)(before[i], tap[2]);
                before[i] = tap[2];
            }
            UNROLL for (int m = 0; m < BLOCK_ROWS; m++) {
                const int ky = i - stride * m;
                if (ky < 0 || ky > 2) continue;
                UNROLL for (int kx = 0; kx < 3; kx++)
                    sum[m] = W(fma_f)(W(as_f)(tap[kx]), weight[3 * ky + kx], sum[m]);
            }
        }
        UNROLL for (int m = 0; m < BLOCK_ROWS; m++) {
            const W(vf) value = W(clip_f)(sum[m], low, high);
            if (out_w - x >= WIDE)
                W(store_f)(y + m * out_w + x, value);
            else
                W(store_part_f)(y + m * out_w + x, value, out_w - x);
        }
    }
}

/* Whether all columns that the middle taps meet are there, one column of padding in front of them. */
static int goes_in_place(const geometry *g) {
    return g->kernel_h == 3 && g->kernel_w == 3 && g->dilation_y == 1 && g->dilation_x == 1 && g->pad_left == 1 &&
           g->stride_x == g->stride_y && g->stride_x <= 2 && g->out_h >= BLOCK_ROWS &&
           (g->out_w - 1) * g->stride_x < g->width;
}

static void channel_in_place(const depthwise_job *job, const padded_rows *rows, const piece *p, const float *weights,
                             float bias, float *y) {
    const geometry *g = job->shape;
    const int32_t width = g->width, height = g->height, out_w = g->out_w, stride = g->stride_x, end_row = p->end_row;
    const int32_t pad_top = g->pad_top, count = stride * (BLOCK_ROWS - 1) + 3;
    const char *source = (const char *)rows->source, *blank = (const char *)(rows->ring + rows->slots * rows->row_cells);
    const activation end = *job->float_end;
    for (int32_t oy = p->row; oy < end_row; oy += BLOCK_ROWS) {
        if (end_row - oy < BLOCK_ROWS) oy = end_row - BLOCK_ROWS; /* some rows again */
        const char *row[MOST_ROWS];
        ONE_BY_ONE for (int32_t i = 0; i < count; i++) {
            const int32_t in = oy * stride + i - pad_top;
            row[i] = (uint32_t)in < (uint32_t)height ? source + 4 * (int64_t)in * width : blank;
        }
        float *to = y + (int64_t)oy * out_w;
        if (stride == 1 && width <= WIDE)
            rows_in_place(1, 1, row, width, out_w, weights, bias, &end, to);
        else if (stride == 1)
            rows_in_place(1, 0, row, width, out_w, weights, bias, &end, to);
        else if (out_w <= WIDE)
            rows_in_place(2, 1, row, width, out_w, weights, bias, &end, to);
        else
            rows_in_place(2, 0, row, width, out_w, weights, bias, &end, to);
    }
}
#endif

static void one_row(const depthwise_job *job, const padded_rows *rows, int32_t first_row, const float *weights,
                    float bias, float *y) {
    const geometry *g = job->shape;
    const W(vf) low = W(set_f)(job->float_end->low), high = W(set_f)(job->float_end->high);
    for (int32_t x = 0; x < g->out_w; x += WIDE) {
        W(vf) sum = W(set_f)(bias);
        const float *weight = weights;
        for (int32_t ky = 0; ky < g->kernel_h; ky++) {
            const char *from = (const char *)(padded_row(rows, first_row + ky * g->dilation_y) + x);
            for (int32_t kx = 0; kx < g->kernel_w; kx++, weight++)
                sum = W(fma_f)(W(load_f)(from + job->offset[kx]), W(set_f)(*weight), sum);
        }
        const W(vf) value = W(clip_f)(sum, low, high);
        if (g->out_w - x >= WIDE)
            W(store_f)(y + x, value);
        else
            W(store_part_f)(y + x, value, g->out_w - x);
    }
}

static void depthwise(void *data, size_t part) {
    const depthwise_job *job = data;
    const geometry *g = job->shape;
    const int small = g->kernel_h == 3 && g->kernel_w == 3 && g->dilation_y == 1 && g->stride_y <= 2;
    const piece p = piece_of_part(job, part);
    const int32_t width = g->out_w, stride = g->stride_y, reach = g->dilation_y * (g->kernel_h - 1), end_row = p.end_row;
    const int32_t outputs = small && end_row - p.row >= BLOCK_ROWS ? BLOCK_ROWS : 1;
    const int32_t count = (outputs - 1) * stride + reach + 1;
    const int32_t offset[3] = {job->offset[0], job->offset[small], job->offset[2 * small]};
    const activation float_end = *job->float_end;
    padded_rows rows = open_rows(job, part);
#if IN_PLACE
    const int in_place = goes_in_place(g);
#else
    const int in_place = 0;
#endif
    if (!in_place) pad_ring(&rows);
    for (int32_t channel = p.channel; channel < p.end_channel; channel++) {
        const float *weights = job->weights + (int64_t)channel * job->taps, bias = job->float_end->bias[channel];
        float *y = (float *)job->output + (int64_t)channel * g->out_h * width;
        begin_channel(&rows, channel);
#if IN_PLACE
        if (in_place) {
            channel_in_place(job, &rows, &p, weights, bias, y);
            continue;
        }
#endif
        for (int32_t oy = p.row; oy < end_row; oy += outputs) {
            if (end_row - oy < outputs) oy = end_row - outputs; /* some rows again */
            const int32_t first = oy * stride;
            if (rows.next < first + count) enter_rows(&rows, first);
            float *to = y + (int64_t)oy * width;
            if (small) {
                const char *row[MOST_ROWS];
                ONE_BY_ONE for (int32_t i = 0; i < count; i++) row[i] = (const char *)padded_row(&rows, first + i);
                if (outputs == 1)
                    rows_3x3(width, offset, &float_end, 1, 1, row, weights, bias, to);
                else if (stride == 1)
                    rows_3x3(width, offset, &float_end, BLOCK_ROWS, 1, row, weights, bias, to);
                else
                    rows_3x3(width, offset, &float_end, BLOCK_ROWS, 2, row, weights, bias, to);
            } else {
                one_row(job, &rows, first, weights, bias, to);
            }
        }
    }
}

/* ---- int8 ---- */

/* Four cells of four channels -> four channels of four cells each: what a dot product with four columns of a kernel row
 * takes. The sums of an output's four channels then stand side by side. */

/* Rows [first, end) of one group's outputs, whose inputs are in the ring. */
typedef struct {
    const padded_rows *rows;
    int32_t first, end;
    int32_t stride, dilation, kernel_h; /* of rows */
    int32_t row_quads, columns, step;   /* as in the job */
    int32_t width, end_row;             /* of the outputs; of the piece of work */
    const int8_t *weights;
    vi4 bias;
    vf4 scale;
    requantization q;
    uint32_t *y;                        /* the group's plane */
} group_rows;

static ALWAYS_INLINE const uint32_t *input_row(const group_rows *r, int32_t oy, int32_t ky) {
    return padded_row(r->rows, oy * r->stride + ky * r->dilation);
}

static ALWAYS_INLINE vi4 four_outputs(const group_rows *r, const vi4 *sum) {
    vi4 value[4];
    UNROLL for (int i = 0; i < 4; i++) value[i] = rint_i4(mul_f4(to_f4(sum[i]), r->scale));
    return pack_bytes_4(value[0], value[1], value[2], value[3], r->q.range);
}

static void rows_by_fours(const group_rows *r) {
    const int64_t step = r->step;
    for (int32_t oy = r->first; oy < r->end; oy++) {
        uint32_t *y = r->y + (int64_t)oy * r->width;
        for (int32_t x = 0; x < r->width; x += 4) {
            /* Past the last output the row still has cells to read, if not the ones that belong there. */
            const int32_t count = r->width - x;
            const int64_t cell[4] = {0, count > 1 ? step : 0, count > 2 ? 2 * step : 0, count > 3 ? 3 * step : 0};
            const int8_t *weights = r->weights;
            va4 sum[4] = {start_a4(0), start_a4(0), start_a4(0), start_a4(0)};
            for (int32_t ky = 0; ky < r->kernel_h; ky++) {
                const uint32_t *from = input_row(r, oy, ky) + x * step;
                for (int32_t quad = 0; quad < r->row_quads; quad++, weights += 16) {
                    UNROLL for (int i = 0; i < 4; i++) {
                        const vi4 columns = transpose_bytes_4(load_i4(from + cell[i] + 4 * quad));
                        sum[i] = dot_lanes_4(sum[i], columns, lane_weights_4(weights));
                    }
                }
            }
            vi4 total[4];
            UNROLL for (int i = 0; i < 4; i++) total[i] = add_i4(total_4(sum[i]), r->bias);
            const vi4 bytes = four_outputs(r, total);
            if (count >= 4)
                store_i4(y + x, bytes);
            else
                store_part_i4(y + x, bytes, count);
        }
    }
}

#if BY_LANE
/* Sixteen at a time: each lane of 16 bytes takes one output's four columns, wherever in 64 bytes they lie. */
static ALWAYS_INLINE void rows_by_sixteens(const group_rows *r, const int32_t kernel_h, const int32_t row_quads) {
    const vi16 bias = _mm512_broadcast_i32x4(r->bias);
    const vf16 scale = _mm512_broadcast_f32x4(r->scale);
    const int64_t step = r->step;
    const byte_range range = r->q.range;
    const int32_t width = r->width;
    const vi16 order = _mm512_add_epi8(
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                           set_i16(0x04040404 * r->step)),
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
    for (int32_t oy = r->first; oy < r->end; oy++) {
        uint32_t *y = r->y + (int64_t)oy * width;
        for (int32_t x = 0; x < width; x += 16) {
            const int8_t *weights = r->weights;
            vi16 value[4] = {bias, bias, bias, bias};
            for (int32_t ky = 0; ky < kernel_h; ky++) {
                const uint32_t *from = input_row(r, oy, ky) + x * step;
                for (int32_t quad = 0; quad < row_quads; quad++, weights += 16, from += 4) {
                    const vi16 factors = _mm512_broadcast_i32x4(load_i4(weights));
                    UNROLL for (int i = 0; i < 4; i++) {
                        const vi16 cells = load_i16(from + 4 * i * step);
                        value[i] = dot_16(value[i], _mm512_permutexvar_epi8(order, cells), factors);
                    }
                }
            }
            UNROLL for (int i = 0; i < 4; i++) value[i] = rint_i16(mul_f16(to_f16(value[i]), scale));
            vi16 bytes = pack_bytes_16(value[0], value[1], value[2], value[3], range);
            bytes = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
            if (width - x >= 16)
                store_i16(y + x, bytes);
            else
                store_part_i16(y + x, bytes, width - x);
        }
    }
}
#endif

#if defined(__ARM_FEATURE_DOTPROD)
/* A kernel row of up to three columns, moved by an output's place among four cells. */
static ALWAYS_INLINE vw4 moved(vw4 weights, const int columns) {
    return vreinterpretq_s8_u32(vshlq_u32(vreinterpretq_u32_s8(weights), vdupq_n_s32(8 * columns)));
}

/* Four outputs of a 3x3 window: cells are read and transposed once for all outputs that they reach, against weights that
 * are moved instead. from: each row's cells behind `cells`, the ones that the outputs before have read last. */
static ALWAYS_INLINE vi4 four_of_3x3(const group_rows *r, const int step, const vw4 *weight, const uint32_t *const *from,
                                     int32_t x, vi4 *cells) {
    vi4 sum[4] = {r->bias, r->bias, r->bias, r->bias};
    UNROLL for (int ky = 0; ky < 3; ky++) {
        UNROLL for (int part = 0; part < step + 1; part++) {
            if (part) cells[ky] = transpose_bytes_4(load_i4(from[ky] + step * x + 4 * part));
            UNROLL for (int i = 0; i < 4; i++) {
                const int columns = step * i - 4 * part;
                if (columns > -3 && columns < 4) sum[i] = dot_lanes_4(sum[i], cells[ky], moved(weight[ky], columns));
            }
        }
    }
    UNROLL for (int i = 0; i < 4; i++) sum[i] = rint_i4(mul_f4(to_f4(sum[i]), r->scale));
    return narrow_4(sum[0], sum[1], sum[2], sum[3], r->q.range.zero_point);
}

static ALWAYS_INLINE void rows_of_3x3(const group_rows *rows, const int step) {
    const group_rows r = *rows;
    vw4 weight[3];
    UNROLL for (int ky = 0; ky < 3; ky++) weight[ky] = lane_weights_4(r.weights + 16 * ky);
    for (int32_t oy = r.first; oy < r.end; oy++) {
        uint32_t *y = r.y + (int64_t)oy * r.width;
        const uint32_t *from[3] = {input_row(&r, oy, 0), input_row(&r, oy, 1), input_row(&r, oy, 2)};
        vi4 cells[3];
        UNROLL for (int ky = 0; ky < 3; ky++) cells[ky] = transpose_bytes_4(load_i4(from[ky]));
        int32_t x = 0;
        for (; x + 4 <= r.width; x += 4) store_i4(y + x, four_of_3x3(&r, step, weight, from, x, cells));
        if (x == r.width) continue;
        const vi4 last = four_of_3x3(&r, step, weight, from, x, cells);
        /* But for a piece's last row, what is written past the end is overwritten by the next one. */
        if (oy < r.end_row - 1 && r.width >= 4)
            store_i4(y + x, last);
        else
            store_part_i4(y + x, last, r.width - x);
    }
    if (clips_bytes(&r.q)) {
        const int64_t first = (int64_t)r.first * r.width;
        clip_all(r.y + first, 4 * ((int64_t)r.end * r.width - first), &r.q);
    }
}
#endif

static void compute_group_rows(const group_rows *r) {
#if defined(__ARM_FEATURE_DOTPROD)
    if (r->kernel_h == 3 && r->columns <= 3 && r->step <= 2) {
        if (r->step == 1)
            rows_of_3x3(r, 1);
        else
            rows_of_3x3(r, 2);
        return;
    }
#endif
#if BY_LANE
    if (r->step <= 4) {
        if (r->kernel_h == 3 && r->row_quads == 1)
            rows_by_sixteens(r, 3, 1);
        else
            rows_by_sixteens(r, r->kernel_h, r->row_quads);
        return;
    }
#endif
    rows_by_fours(r);
}

static void quantized_depthwise(void *data, size_t part) {
    const depthwise_job *job = data;
    const geometry *g = job->shape;
    const int32_t reach = g->dilation_y * (g->kernel_h - 1);
    const piece p = piece_of_part(job, part);
    padded_rows rows = open_rows(job, part);
    pad_ring(&rows);
    group_rows r = {
        .rows = &rows, .stride = g->stride_y, .dilation = g->dilation_y, .kernel_h = g->kernel_h,
        .row_quads = job->row_quads, .columns = job->columns, .step = job->step, .width = g->out_w, .end_row = p.end_row,
        .q = *job->integer_end,
    };
    for (int32_t group = p.channel; group < p.end_channel; group++) {
        r.weights = job->quads + group * (16 * (int64_t)r.kernel_h * r.row_quads);
        r.bias = load_i4(r.q.bias + 4 * group);
        r.scale = load_f4(r.q.scale + 4 * group);
        r.y = (uint32_t *)job->output + (int64_t)group * g->out_h * r.width;
        begin_channel(&rows, group);
        for (r.first = p.row; r.first < p.end_row; r.first = r.end) {
            enter_rows(&rows, r.first * r.stride);
            const int32_t ready = (rows.next - reach - 1) / r.stride + 1;
            r.end = ready < p.end_row ? ready : p.end_row;
            compute_group_rows(&r);
        }
    }
}
