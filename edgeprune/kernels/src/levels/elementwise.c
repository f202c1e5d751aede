/* Kernels that compute position by position, or only move bytes. */
#include "ends.h"

TASK(add) {
    const add_job *job = data;
    const int64_t end = job->cells * (int64_t)(number + 1) / job->parts;
    const W(vi) a_zero = W(set_i)(job->a_zero_point), b_zero = W(set_i)(job->b_zero_point);
    const W(vf) a_scale = W(set_f)(job->a_scale), b_scale = W(set_f)(job->b_scale);
    for (int64_t i = job->cells * (int64_t)number / job->parts; i < end; i += WIDE) {
        const int rest = end - i < WIDE ? (int)(end - i) : WIDE;
        const W(vi) a = rest == WIDE ? W(load_i)(job->a + 4 * i) : W(load_part_i)(job->a + 4 * i, rest);
        const W(vi) b = rest == WIDE ? W(load_i)(job->b + 4 * i) : W(load_part_i)(job->b + 4 * i, rest);
        W(vi) value[4];
        UNROLL for (int k = 0; k < 4; k++) {
            W(vf) left = W(mul_f)(W(to_f)(W(sub_i)(W(byte_i)(a, k), a_zero)), a_scale);
            W(vf) right = W(mul_f)(W(to_f)(W(sub_i)(W(byte_i)(b, k), b_zero)), b_scale);
            value[k] = W(rint_i)(W(add_f)(left, right));
        }
        W(vi) cells = W(pack_i)(value[0], value[1], value[2], value[3], job->range);
        if (rest == WIDE)
            W(store_i)(job->output + 4 * i, cells);
        else
            W(store_part_i)(job->output + 4 * i, cells, rest);
    }
}

/* Bytes of four planes <-> cells, by sixteen positions. */
TASK(pack) {
    const move_job *job = data;
    const int64_t group = (int64_t)number;
    const int32_t rest = job->channels - 4 * (int32_t)group, planes = rest < 4 ? rest : 4;
    const uint8_t *x = job->input + 4 * group * job->positions;
    uint32_t *y = (uint32_t *)job->output + group * job->positions;
    const vi4 none = set_i4(0);
    int64_t i = 0;
    for (; i + 16 <= job->positions; i += 16) {
        const vi4 a = load_i4(x + i), b = planes > 1 ? load_i4(x + job->positions + i) : none;
        const vi4 c = planes > 2 ? load_i4(x + 2 * job->positions + i) : none;
        const vi4 d = planes > 3 ? load_i4(x + 3 * job->positions + i) : none;
#if defined(__x86_64__)
        __m128i flip = set_i4((int32_t)job->flip);
        __m128i ab0 = _mm_unpacklo_epi8(a, b), ab1 = _mm_unpackhi_epi8(a, b);
        __m128i cd0 = _mm_unpacklo_epi8(c, d), cd1 = _mm_unpackhi_epi8(c, d);
        store_i4(y + i, _mm_xor_si128(_mm_unpacklo_epi16(ab0, cd0), flip));
        store_i4(y + i + 4, _mm_xor_si128(_mm_unpackhi_epi16(ab0, cd0), flip));
        store_i4(y + i + 8, _mm_xor_si128(_mm_unpacklo_epi16(ab1, cd1), flip));
        store_i4(y + i + 12, _mm_xor_si128(_mm_unpackhi_epi16(ab1, cd1), flip));
#else
        uint8x16_t flip = vreinterpretq_u8_u32(vdupq_n_u32(job->flip));
        const vi4 plane[4] = {a, b, c, d};
        uint8x16x4_t four;
        UNROLL for (int k = 0; k < 4; k++) four.val[k] = veorq_u8(vreinterpretq_u8_s32(plane[k]), flip);
        vst4q_u8((uint8_t *)(y + i), four);
#endif
    }
    for (; i < job->positions; i++) {
        uint32_t cell = 0;
        for (int32_t k = 0; k < planes; k++) cell |= (uint32_t)x[k * job->positions + i] << (8 * k);
        y[i] = cell ^ job->flip;
    }
}

TASK(unpack) {
    const move_job *job = data;
    const int64_t group = (int64_t)number;
    const int32_t rest = job->channels - 4 * (int32_t)group, planes = rest < 4 ? rest : 4;
    const uint32_t *x = (const uint32_t *)job->input + group * job->positions;
    uint8_t *y = job->output + 4 * group * job->positions;
    for (int64_t i = 0; i < job->positions; i++) {
        const uint32_t cell = x[i] ^ job->flip;
        for (int32_t k = 0; k < planes; k++) y[k * job->positions + i] = (uint8_t)(cell >> (8 * k));
    }
}

TASK(global_average) {
    const move_job *job = data;
    const int64_t group = (int64_t)number;
    const uint32_t *x = (const uint32_t *)job->input + group * job->positions;
    int32_t sums[4], rest = job->channels - 4 * (int32_t)group;
    requantization q = {0};
    float scale[4];
    W(vi) total[4] = {W(set_i)(0), W(set_i)(0), W(set_i)(0), W(set_i)(0)};
    int64_t i = 0;
    for (; i + WIDE <= job->positions; i += WIDE)
        UNROLL for (int k = 0; k < 4; k++) total[k] = W(add_i)(total[k], W(byte_i)(W(load_i)(x + i), k));
    for (int k = 0; k < 4; k++) {
        int32_t lanes[WIDE];
        W(store_i)(lanes, total[k]);
        sums[k] = -(int32_t)job->positions * job->x_zero_point;
        for (int j = 0; j < WIDE; j++) sums[k] += lanes[j];
        for (int64_t j = i; j < job->positions; j++)
            sums[k] += SIGNED_BYTES ? (int8_t)(x[j] >> (8 * k)) : (uint8_t)(x[j] >> (8 * k));
        scale[k] = job->scale;
    }
    q.scale = scale;
    q.range = (byte_range){job->y_zero_point, LOWEST, LOWEST + 255};
    const uint32_t cell = requantize_four(sums, &q, 0) ^ job->flip;
    for (int k = 0; k < 4 && k < rest; k++) job->output[4 * group + k] = (uint8_t)(cell >> (8 * k));
}
