/* Matrix products: single examples against rows of weights, a few against slices of them, and vectors of examples. */

/* Cells of an example's inputs. */
static int32_t input_cells(const sparse_gemm *w) { return w->kind == KIND_INT8 ? (w->inputs + 3) / 4 : w->inputs; }

/* Four inputs by their numbers, loaded one by one: gather instructions take half as long again on Zen 5. */
static ALWAYS_INLINE vf4 pick_four(const float *x, const uint16_t *index) {
    uint64_t four;
    __builtin_memcpy(&four, index, sizeof four);
    const float picked[4] = {x[four & 0xffff], x[four >> 16 & 0xffff], x[four >> 32 & 0xffff], x[four >> 48]};
    return load_f4(picked);
}

static float dot_row_f1(const float *x, const uint16_t *index, const float *value, uint32_t count) {
    vf4 sum[4] = {set_f4(0), set_f4(0), set_f4(0), set_f4(0)};
    uint32_t i = 0;
    for (; i + 16 <= count; i += 16)
        UNROLL for (int k = 0; k < 4; k++)
            sum[k] = fma_f4(pick_four(x, index + i + 4 * k), load_f4(value + i + 4 * k), sum[k]);
    for (; i + 4 <= count; i += 4) sum[0] = fma_f4(pick_four(x, index + i), load_f4(value + i), sum[0]);
    float lanes[4];
    store_f4(lanes, add_f4(add_f4(sum[0], sum[1]), add_f4(sum[2], sum[3])));
    float total = lanes[0] + lanes[1] + (lanes[2] + lanes[3]);
    for (; i < count; i++) total += x[index[i]] * value[i];
    return total;
}

static vf4 dot_row_f4(const float *x, const uint16_t *index, const float *value, uint32_t count) {
    vf4 sum[4] = {set_f4(0), set_f4(0), set_f4(0), set_f4(0)};
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4)
        UNROLL for (int k = 0; k < 4; k++)
            sum[k] = fma_f4(load_f4(value + 4 * (i + k)), set_f4(x[index[i + k]]), sum[k]);
    for (; i < count; i++) sum[0] = fma_f4(load_f4(value + 4 * i), set_f4(x[index[i]]), sum[0]);
    return add_f4(add_f4(sum[0], sum[1]), add_f4(sum[2], sum[3]));
}

#if BY_LANE
enum { SLICE_EXAMPLES = 4 };

/* A slice of rows against the whole inputs of some examples: each step looks its inputs up in the window's four registers.
 * x: [examples][cells]; sums: [examples][SLICE_ROWS]. */
static ALWAYS_INLINE void dot_slice_body(const int examples, const int32_t *x, const slices *w, int32_t slice, int32_t cells,
                                         int32_t *sums) {
    vi16 sum[SLICE_EXAMPLES];
    UNROLL for (int e = 0; e < examples; e++) sum[e] = set_i16(0);
    const uint32_t *start = w->start + (int64_t)slice * w->windows;
    for (int32_t window = 0; window < w->windows; window++) {
        vi16 input[SLICE_EXAMPLES][4];
        UNROLL for (int e = 0; e < examples; e++) {
            UNROLL for (int i = 0; i < 4; i++) {
                const int32_t at = window * SLICE_CELLS + 16 * i, rest = cells - at;
                const int32_t *from = x + (int64_t)e * cells + at;
                input[e][i] = rest >= 16 ? load_i16(from) : rest > 0 ? load_part_i16(from, rest) : set_i16(0);
            }
        }
        for (uint32_t step = start[window]; step < start[window + 1]; step++) {
            const __m512i place = _mm512_cvtepu8_epi32(load_i4(w->place + (int64_t)step * SLICE_ROWS));
            const vi16 weight = load_i16(w->weight + (int64_t)step * SLICE_ROWS);
            const __mmask16 upper = _mm512_test_epi32_mask(place, set_i16(32));
            UNROLL for (int e = 0; e < examples; e++) {
                const vi16 low = _mm512_permutex2var_epi32(input[e][0], place, input[e][1]);
                const vi16 high = _mm512_permutex2var_epi32(input[e][2], place, input[e][3]);
                sum[e] = dot_16(sum[e], _mm512_mask_mov_epi32(low, upper, high), weight);
            }
        }
    }
    UNROLL for (int e = 0; e < examples; e++) store_i16(sums + e * SLICE_ROWS, sum[e]);
}

/* A register array needs a number of examples that the compiler knows. */
static void dot_slice(int32_t examples, const int32_t *x, const slices *w, int32_t slice, int32_t cells, int32_t *sums) {
    switch (examples) {
    case 1: dot_slice_body(1, x, w, slice, cells, sums); break;
    case 2: dot_slice_body(2, x, w, slice, cells, sums); break;
    case 3: dot_slice_body(3, x, w, slice, cells, sums); break;
    default: dot_slice_body(SLICE_EXAMPLES, x, w, slice, cells, sums); break;
    }
}
#else
static int32_t dot_row_i4(const int32_t *x, const uint16_t *index, const int32_t *value, uint32_t count) {
    uint32_t i = 0;
    int32_t total = 0;
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
    vi4 sum = set_i4(0);
    for (; i + 4 <= count; i += 4) {
        int32_t cells[4] = {x[index[i]], x[index[i + 1]], x[index[i + 2]], x[index[i + 3]]};
        sum = dot_4(sum, load_i4(cells), vreinterpretq_s8_s32(load_i4(value + i)));
    }
    total = vaddvq_s32(sum);
#endif
    for (; i < count; i++) {
        const int32_t cell = x[index[i]], weight = value[i];
        for (int k = 0; k < 32; k += 8) {
            const int32_t input = SIGNED_BYTES ? (int8_t)(cell >> k) : (uint8_t)(cell >> k);
            total = wrapping_sum(total, input * (int8_t)(weight >> k));
        }
    }
    return total;
}
#endif

/* Four outputs of one example, as bytes of a cell in the level's domain. */
static uint32_t requantize_four(const int32_t *sums, const requantization *q, int32_t group) {
    int32_t lanes[4][4];
    for (int k = 0; k < 4; k++) {
        vi4 value = rint_i4(mul_f4(to_f4(set_i4(sums[k])), set_f4(q->scale[4 * group + k])));
        store_i4(lanes[k], value);
    }
    vi4 cells = pack_i4(load_i4(lanes[0]), load_i4(lanes[1]), load_i4(lanes[2]), load_i4(lanes[3]), q->range);
    uint32_t cell[4];
    store_i4(cell, cells);
    return cell[0];
}

static void store_outputs(const gemm_job *job, int64_t example, int32_t group, uint32_t cell) {
    const int32_t outputs = job->weights->outputs, rest = outputs - 4 * group;
    uint8_t *y = (uint8_t *)job->output + example * outputs + 4 * group;
    cell ^= job->flip;
    for (int k = 0; k < 4 && k < rest; k++) y[k] = (uint8_t)(cell >> (8 * k));
}

static float clip(float value, const activation *end) {
    value = value < end->low ? end->low : value;
    return value > end->high ? end->high : value;
}

#if BY_LANE
static void gemm_slices(const gemm_job *job, int32_t first, int32_t end) {
    const sparse_gemm *w = job->weights;
    const int32_t cells = input_cells(w);
    for (int32_t row = first; row < end; row += SLICE_ROWS) {
        for (int32_t example = 0; example < job->batch; example += SLICE_EXAMPLES) {
            const int32_t rest = job->batch - example, examples = rest < SLICE_EXAMPLES ? rest : SLICE_EXAMPLES;
            int32_t all[SLICE_EXAMPLES * SLICE_ROWS];
            dot_slice(examples, (const int32_t *)job->panels + (int64_t)example * cells, &w->by_lane, row / SLICE_ROWS, cells, all);
            for (int32_t e = 0; e < examples; e++) {
                int32_t *sums = all + e * SLICE_ROWS;
                for (int32_t m = 0; m < SLICE_ROWS && row + m < end; m++)
                    sums[m] = wrapping_sum(sums[m], job->integer_end->bias[row + m]);
                for (int32_t m = 0; m < SLICE_ROWS && row + m < end; m += 4)
                    store_outputs(job, example + e, (row + m) / 4, requantize_four(sums + m, job->integer_end, (row + m) / 4));
            }
        }
    }
}
#endif

static void gemm_example(const gemm_job *job, int64_t example, int32_t first, int32_t end) {
    const sparse_gemm *w = job->weights;
#if !BY_LANE
    if (w->kind == KIND_INT8) {
        const int32_t *x = (const int32_t *)job->panels + example * input_cells(w);
        for (int32_t group = first / 4; group < end / 4; group++) {
            int32_t sums[4];
            for (int32_t m = 0; m < 4; m++) {
                const int32_t row = 4 * group + m;
                const uint32_t from = w->start[row], count = w->start[row + 1] - from;
                const int32_t *value = (const int32_t *)w->values + from;
                sums[m] = wrapping_sum(job->integer_end->bias[row], dot_row_i4(x, w->index + from, value, count));
            }
            store_outputs(job, example, group, requantize_four(sums, job->integer_end, group));
        }
        return;
    }
#endif
    const float *x = (const float *)job->input + example * w->inputs;
    const int64_t at = example * w->outputs;
    for (int32_t block = first; block < end; block++) {
        const uint32_t from = w->start[block], count = w->start[block + 1] - from;
        const float *value = (const float *)w->values + (int64_t)from * w->rows;
        float sums[4];
        if (w->rows == 1)
            sums[0] = dot_row_f1(x, w->index + from, value, count);
        else
            store_f4(sums, dot_row_f4(x, w->index + from, value, count));
        for (int32_t m = 0; m < w->rows && block * w->rows + m < w->outputs; m++) {
            const int32_t row = block * w->rows + m;
            const float sum = sums[m] + job->float_end->bias[row] + (job->residual ? job->residual[at + row] : 0);
            ((float *)job->output)[at + row] = clip(sum, job->float_end);
        }
    }
}

/* A cell of an example's inputs, in the level's domain. */
static uint32_t input_cell(const gemm_job *job, int64_t example, int32_t k) {
    const sparse_gemm *w = job->weights;
    uint32_t cell = 0;
    if (w->kind == KIND_FLOAT) {
        __builtin_memcpy(&cell, (const float *)job->input + example * w->inputs + k, 4);
        return cell;
    }
    const uint8_t *x = (const uint8_t *)job->input + example * w->inputs + 4 * k;
    const int32_t rest = w->inputs - 4 * k;
    if (rest >= 4)
        __builtin_memcpy(&cell, x, 4);
    else
        for (int32_t i = 0; i < rest; i++) cell |= (uint32_t)x[i] << (8 * i);
    return cell ^ job->flip;
}

/* A part of a panel: [inputs or groups][pitch] cells, one column an example, so that a row of weights meets vectors of
 * examples; the columns left over hold zeros. With a pitch of one, int8 inputs are copied for their padding and domain. */
static void gemm_panel(void *data, size_t task) {
    const gemm_job *job = data;
    const sparse_gemm *w = job->weights;
    const int32_t cells = input_cells(w), pitch = job->pitch;
    const int64_t panel = (int64_t)task / job->panel_parts, part = (int64_t)task % job->panel_parts, first = panel * pitch;
    const int32_t end = (int32_t)(cells * (part + 1) / job->panel_parts);
    uint32_t *to = (uint32_t *)job->panels + panel * cells * pitch;
    enum { NEAR_CELLS = 16 }; /* by so many inputs, for whose lines the nearest cache has room on both sides */
    for (int32_t k = (int32_t)(cells * part / job->panel_parts); k < end; k += NEAR_CELLS) {
        const int32_t some = end - k < NEAR_CELLS ? end : k + NEAR_CELLS;
        for (int32_t column = 0; column < pitch; column++)
            for (int32_t i = k; i < some; i++)
                to[(int64_t)i * pitch + column] = first + column < job->batch ? input_cell(job, first + column, i) : 0;
    }
}

/* One row of weights, or four, against vectors of examples: x is a panel's column, with row_bytes from one input to the next.
 * With few vectors a single chain of additions would wait for itself. */
enum { COLUMN_VECTORS = 4, COLUMN_VECTORS_F4 = TILE_F4 > 3 ? 4 : 2 };

static ALWAYS_INLINE void columns_f1_body(const int vectors, const char *x, int64_t row_bytes, const uint16_t *index,
                                          const float *value, uint32_t count, float bias, float *sums) {
    const int sets = vectors == 1 ? 4 : vectors == 2 ? 2 : 1;
    W(vf) sum[COLUMN_VECTORS];
    UNROLL for (int i = 0; i < vectors * sets; i++) sum[i] = W(set_f)(i < vectors ? bias : 0);
    for (; count >= (uint32_t)sets; count -= sets, index += sets, value += sets)
        UNROLL for (int s = 0; s < sets; s++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[s * vectors + v] = W(fma_f)(W(load_f)(x + index[s] * row_bytes + v * 4 * WIDE), W(set_f)(value[s]),
                                                sum[s * vectors + v]);
    for (; count; count--, index++, value++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = W(fma_f)(W(load_f)(x + *index * row_bytes + v * 4 * WIDE), W(set_f)(*value), sum[v]);
    UNROLL for (int i = vectors; i < vectors * sets; i++) sum[i % vectors] = W(add_f)(sum[i % vectors], sum[i]);
    UNROLL for (int v = 0; v < vectors; v++) W(store_f)(sums + v * WIDE, sum[v]);
}

static ALWAYS_INLINE void columns_f4_body(const int vectors, const char *x, int64_t row_bytes, const uint16_t *index,
                                          const float *value, uint32_t count, const float *bias, float *sums) {
    const int sets = vectors == 1 ? 2 : 1;
    W(vf) sum[4 * COLUMN_VECTORS_F4];
    UNROLL for (int i = 0; i < 4 * vectors * sets; i++) sum[i] = W(set_f)(i < 4 * vectors ? bias[i / vectors] : 0);
    for (; count >= (uint32_t)sets; count -= sets, index += sets, value += 4 * sets) {
        UNROLL for (int s = 0; s < sets; s++) {
            UNROLL for (int v = 0; v < vectors; v++) {
                const W(vf) input = W(load_f)(x + index[s] * row_bytes + v * 4 * WIDE);
                UNROLL for (int m = 0; m < 4; m++) {
                    const int i = (s * 4 + m) * vectors + v;
                    sum[i] = W(fma_f)(input, W(set_f)(value[4 * s + m]), sum[i]);
                }
            }
        }
    }
    if (sets == 2) {
        for (; count; count--, index++, value += 4)
            UNROLL for (int m = 0; m < 4; m++)
                sum[m] = W(fma_f)(W(load_f)(x + *index * row_bytes), W(set_f)(value[m]), sum[m]);
        UNROLL for (int m = 0; m < 4; m++) sum[m] = W(add_f)(sum[m], sum[4 + m]);
    }
    UNROLL for (int m = 0; m < 4; m++)
        UNROLL for (int v = 0; v < vectors; v++) W(store_f)(sums + m * PANEL + v * WIDE, sum[m * vectors + v]);
}

static ALWAYS_INLINE void columns_i4_body(const int vectors, const char *x, int64_t row_bytes, const sparse_gemm *w,
                                          int32_t row, int32_t bias, int32_t *sums) {
    W(va) sum[COLUMN_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = W(start_a)(bias);
#if BY_LANE
    const slices *s = &w->by_lane;
    const uint32_t *start = s->start + (int64_t)(row / SLICE_ROWS) * s->windows;
    for (int32_t window = 0; window < s->windows; window++, x += SLICE_CELLS * row_bytes) {
        for (uint32_t step = start[window]; step < start[window + 1]; step++) {
            const int64_t slot = (int64_t)step * SLICE_ROWS + row % SLICE_ROWS;
            const char *from = x + s->place[slot] * row_bytes;
            UNROLL for (int v = 0; v < vectors; v++)
                sum[v] = W(dot_)(sum[v], W(load_i)(from + v * 4 * WIDE), W(weight_)(s->weight[slot]));
        }
    }
#else
    const int32_t *value = w->values;
    for (uint32_t i = w->start[row]; i < w->start[row + 1]; i++) {
        const W(vw) weight = W(weight_)(value[i]);
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = W(dot_)(sum[v], W(load_i)(x + w->index[i] * row_bytes + v * 4 * WIDE), weight);
    }
#endif
    UNROLL for (int v = 0; v < vectors; v++) W(store_i)(sums + v * WIDE, W(total_)(sum[v]));
}

/* A register array needs a number of vectors that the compiler knows. */
#define COLUMNS(vectors, most, body, ...) \
    switch (vectors) { \
    case 1: body(1, __VA_ARGS__); break; \
    case 2: body(2, __VA_ARGS__); break; \
    case 3: body(most > 2 ? 3 : 2, __VA_ARGS__); break; \
    default: body(most, __VA_ARGS__); break; \
    }

/* So many outputs are put together before they are stored, for an example's outputs lie far from the next one's. */
enum { COLUMN_ROWS = 16 };

static void columns_float(const gemm_job *job, int32_t block, int32_t vectors, const char *x, float *sums) {
    const sparse_gemm *w = job->weights;
    const uint32_t from = w->start[block], count = w->start[block + 1] - from;
    const float *value = (const float *)w->values + (int64_t)from * w->rows, *bias = job->float_end->bias + block * w->rows;
    if (w->rows == 1) {
        COLUMNS(vectors, COLUMN_VECTORS, columns_f1_body, x, 4 * job->pitch, w->index + from, value, count, *bias, sums)
        return;
    }
    for (; vectors > 0; vectors -= COLUMN_VECTORS_F4, x += COLUMN_VECTORS_F4 * 4 * WIDE, sums += COLUMN_VECTORS_F4 * WIDE)
        COLUMNS(vectors, COLUMN_VECTORS_F4, columns_f4_body, x, 4 * job->pitch, w->index + from, value, count, bias, sums)
}

static void columns_integer(const gemm_job *job, int32_t row, int32_t vectors, const char *x, int32_t *sums) {
    COLUMNS(vectors, COLUMN_VECTORS, columns_i4_body, x, 4 * job->pitch, job->weights, row, job->integer_end->bias[row], sums)
}

/* sums: [rows][PANEL]; the outputs from `row` on of the examples from `first` on. */
static void store_floats(const gemm_job *job, int32_t row, int32_t rows, int64_t first, int32_t examples, const float *sums) {
    for (int32_t n = 0; n < examples; n++) {
        const int64_t at = (first + n) * job->weights->outputs + row;
        for (int32_t m = 0; m < rows; m++) {
            const float sum = sums[m * PANEL + n] + (job->residual ? job->residual[at + m] : 0);
            ((float *)job->output)[at + m] = clip(sum, job->float_end);
        }
    }
}

static void store_integers(const gemm_job *job, int32_t row, int32_t rows, int64_t first, int32_t examples,
                           const int32_t *sums) {
    uint32_t cells[COLUMN_ROWS / 4][PANEL];
    for (int32_t m = 0; m < rows; m += 4)
        requantize(sums + m * PANEL, cells[m / 4], PANEL, examples, job->integer_end, (row + m) / 4);
    for (int32_t n = 0; n < examples; n++)
        for (int32_t m = 0; m < rows; m += 4) store_outputs(job, first + n, (row + m) / 4, cells[m / 4][n]);
}

/* Outputs [row, row + rows) of a panel's examples. */
static void gemm_columns(const gemm_job *job, int64_t panel, int32_t row, int32_t rows) {
    const sparse_gemm *w = job->weights;
    const int integer = w->kind == KIND_INT8;
    const int64_t cells = input_cells(w), first = panel * job->pitch, rest = job->batch - first;
    const int32_t examples = rest < job->pitch ? (int32_t)rest : job->pitch;
    float floats[COLUMN_ROWS * PANEL] __attribute__((aligned(64)));
    int32_t integers[COLUMN_ROWS * PANEL] __attribute__((aligned(64)));
    for (int32_t column = 0; column < examples; column += COLUMN_VECTORS * WIDE) {
        const char *x = (const char *)job->panels + 4 * (panel * cells * job->pitch + column);
        const int32_t left = (examples - column + WIDE - 1) / WIDE, vectors = left < COLUMN_VECTORS ? left : COLUMN_VECTORS;
        for (int32_t m = 0; m < rows; m += w->rows) {
            if (integer)
                columns_integer(job, row + m, vectors, x, integers + m * PANEL + column);
            else
                columns_float(job, (row + m) / w->rows, vectors, x, floats + m * PANEL + column);
        }
    }
    if (integer)
        store_integers(job, row, rows, first, examples, integers);
    else
        store_floats(job, row, row + rows > w->outputs ? w->outputs - row : rows, first, examples, floats);
}

static void gemm_batch(const gemm_job *job, int32_t first, int32_t end) {
    const int32_t rows = job->weights->rows;
    for (int32_t row = first * rows; row < end * rows; row += COLUMN_ROWS) {
        const int32_t left = end * rows - row, some = left < COLUMN_ROWS ? left : COLUMN_ROWS;
        for (int64_t panel = 0; panel * job->pitch < job->batch; panel++) gemm_columns(job, panel, row, some);
    }
}

static void gemm(void *data, size_t part) {
    const gemm_job *job = data;
    const sparse_gemm *w = job->weights;
    const int32_t step = w->kind == KIND_FLOAT ? 1 : BY_LANE ? SLICE_ROWS : 4;
    const int32_t first = part_start(w->start, w->row_blocks, step, job->parts, (int32_t)part);
    const int32_t end = part_start(w->start, w->row_blocks, step, job->parts, (int32_t)part + 1);
    if (job->pitch > 1) {
        gemm_batch(job, first, end);
        return;
    }
#if BY_LANE
    if (w->kind == KIND_INT8) {
        gemm_slices(job, first, end);
        return;
    }
#endif
    for (int64_t example = 0; example < job->batch; example++) gemm_example(job, example, first, end);
}
