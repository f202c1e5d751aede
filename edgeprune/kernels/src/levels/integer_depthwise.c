/* Depthwise convolutions of integers. Four cells of four channels become four channels of four cells each: what a dot
 * product with four columns of a kernel row takes. The sums of an output's four channels then stand side by side. */
#include "ends.h"
#include "ring.h"

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
 * are moved instead. from: each row's cells after `cells`, the ones that the outputs before have read last. */
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

TASK(quantized_depthwise) {
    const depthwise_job *job = data;
    const geometry *g = job->shape;
    const int32_t reach = g->dilation_y * (g->kernel_h - 1);
    const piece p = piece_of_part(job, number);
    padded_rows rows = open_rows(job, number);
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
