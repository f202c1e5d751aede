/* Single examples against rows of weights, and a few against slices of them. */
#include "ends.h"
#include "product.h"
#include "tiles.h"

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

TASK(gemm) {
    const gemm_job *job = data;
    const sparse_gemm *w = job->weights;
    const int32_t step = w->kind == KIND_FLOAT ? 1 : BY_LANE ? SLICE_ROWS : 4;
    const int32_t first = part_start(w->start, w->row_blocks, step, job->parts, (int32_t)number);
    const int32_t end = part_start(w->start, w->row_blocks, step, job->parts, (int32_t)number + 1);
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
