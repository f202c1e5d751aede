/* Vectors of four cells: SSE2 and what grows from it, or NEON. Names end in the number of lanes. */
#ifndef EDGEPRUNE_SIMD128_H
#define EDGEPRUNE_SIMD128_H

#include "kernels.h"

/* What the bytes of a cell are: without i8mm the dot product of Armv8.2 takes two signed vectors. */
#if defined(__aarch64__) && !defined(__ARM_FEATURE_MATMUL_INT8)
#define SIGNED_BYTES 1
#else
#define SIGNED_BYTES 0
#endif
#define LOWEST (SIGNED_BYTES ? -128 : 0)

#if defined(__x86_64__)
#include <immintrin.h>

typedef __m128 vf4;
typedef __m128i vi4;

static inline vf4 load_f4(const void *from) { return _mm_loadu_ps(from); }
static inline void store_f4(void *to, vf4 a) { _mm_storeu_ps(to, a); }
static inline vi4 load_i4(const void *from) { return _mm_loadu_si128(from); }
static inline void store_i4(void *to, vi4 a) { _mm_storeu_si128(to, a); }
static inline vf4 set_f4(float a) { return _mm_set1_ps(a); }
static inline vi4 set_i4(int32_t a) { return _mm_set1_epi32(a); }
static inline vf4 add_f4(vf4 a, vf4 b) { return _mm_add_ps(a, b); }
static inline vf4 mul_f4(vf4 a, vf4 b) { return _mm_mul_ps(a, b); }
/* The second operand is what minps and maxps give where one of the two is NaN: in this order NaN stays NaN. */
static inline vf4 clip_f4(vf4 a, vf4 low, vf4 high) { return _mm_min_ps(high, _mm_max_ps(low, a)); }
static inline vf4 max_f4(vf4 a, vf4 b) { return _mm_max_ps(a, b); }
/* Where a or b is NaN, or where they were in `found`: max_f forgets a NaN that is not in its last operand. */
typedef vf4 nan_lanes4;
static inline nan_lanes4 no_nan_4(void) { return _mm_setzero_ps(); }
static inline nan_lanes4 find_nan_4(nan_lanes4 found, vf4 a, vf4 b) { return _mm_or_ps(found, _mm_cmpunord_ps(a, b)); }
static inline vf4 put_nan_4(nan_lanes4 found, vf4 a) { return _mm_or_ps(a, found); } /* all ones are NaN */
#ifdef __FMA__
static inline vf4 fma_f4(vf4 a, vf4 b, vf4 c) { return _mm_fmadd_ps(a, b, c); }
#else
static inline vf4 fma_f4(vf4 a, vf4 b, vf4 c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
#endif
static inline vi4 add_i4(vi4 a, vi4 b) { return _mm_add_epi32(a, b); }
static inline vi4 sub_i4(vi4 a, vi4 b) { return _mm_sub_epi32(a, b); }
static inline vf4 to_f4(vi4 a) { return _mm_cvtepi32_ps(a); }
/* Below -2^31 the conversion gives INT_MIN, which is right; above it would too, so the value is bounded first. */
static inline vi4 rint_i4(vf4 a) { return _mm_cvtps_epi32(_mm_min_ps(a, _mm_set1_ps(1e9f))); }
static inline vi4 byte_i4(vi4 a, int k) {
    return _mm_and_si128(_mm_srl_epi32(a, _mm_cvtsi32_si128(8 * k)), _mm_set1_epi32(255));
}
static inline vi4 max_b4(vi4 a, vi4 b) { return _mm_max_epu8(a, b); }

/* Four vectors of bytes in order [a0..a3 b0..b3 c0..c3 d0..d3] -> cells [a0 b0 c0 d0] [a1 b1 c1 d1] ... */
static inline vi4 transpose_bytes_4(vi4 a) {
#ifdef __SSSE3__
    return _mm_shuffle_epi8(a, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
#else
    a = _mm_unpacklo_epi8(a, _mm_srli_si128(a, 8));
    return _mm_unpacklo_epi8(a, _mm_srli_si128(a, 8));
#endif
}

/* Four vectors of int32 one after another as bytes of a range. Wider vectors do it for each
 * 16 bytes apart: bytes 0-3 of each are of a, 4-7 of b, ... */
static inline vi4 pack_bytes_4(vi4 a, vi4 b, vi4 c, vi4 d, byte_range range) {
    __m128i zero = _mm_set1_epi16((int16_t)range.zero_point);
    __m128i ab = _mm_adds_epi16(_mm_packs_epi32(a, b), zero), cd = _mm_adds_epi16(_mm_packs_epi32(c, d), zero);
    __m128i bytes = _mm_packus_epi16(ab, cd);
    return _mm_min_epu8(_mm_max_epu8(bytes, _mm_set1_epi8((char)range.low)), _mm_set1_epi8((char)range.high));
}

/* dot_4 multiplies all cells by the same four weights, dot_lanes_4 each by its own. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
typedef vi4 va4;
typedef vi4 vw4;
static inline vw4 lane_weights_4(const int8_t *w) { return load_i4(w); }
static inline vw4 weight_4(int32_t w) { return _mm_set1_epi32(w); }
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) { return _mm_dpbusd_epi32(sum, x, w); }
#define dot_lanes_4 dot_4
static inline va4 start_a4(int32_t start) { return set_i4(start); }
static inline vi4 total_4(va4 sum) { return sum; }
static inline va4 add_a4(va4 a, va4 b) { return _mm_add_epi32(a, b); }
#else
/* Bytes 0 and 2 of each cell, then bytes 1 and 3, as 16-bit numbers: no sum can overflow, unlike pmaddubsw's. */
typedef vi4 va4;
typedef struct {
    vi4 even, odd;
} vw4;
static inline vw4 split_4(vi4 all) {
    return (vw4){_mm_srai_epi16(_mm_slli_epi16(all, 8), 8), _mm_srai_epi16(all, 8)};
}
static inline vw4 weight_4(int32_t w) { return split_4(_mm_set1_epi32(w)); }
static inline vw4 lane_weights_4(const int8_t *w) { return split_4(load_i4(w)); }
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) {
    vi4 even = _mm_madd_epi16(_mm_and_si128(x, _mm_set1_epi16(255)), w.even);
    return _mm_add_epi32(_mm_add_epi32(sum, even), _mm_madd_epi16(_mm_srli_epi16(x, 8), w.odd));
}
#define dot_lanes_4 dot_4
static inline va4 start_a4(int32_t start) { return set_i4(start); }
static inline vi4 total_4(va4 sum) { return sum; }
static inline va4 add_a4(va4 a, va4 b) { return _mm_add_epi32(a, b); }
#endif

#else /* NEON */
#include <arm_neon.h>

typedef float32x4_t vf4;
typedef int32x4_t vi4;

static inline vf4 load_f4(const void *from) { return vld1q_f32(from); }
static inline void store_f4(void *to, vf4 a) { vst1q_f32(to, a); }
static inline vi4 load_i4(const void *from) { return vld1q_s32(from); }
static inline void store_i4(void *to, vi4 a) { vst1q_s32(to, a); }
static inline vf4 set_f4(float a) { return vdupq_n_f32(a); }
static inline vi4 set_i4(int32_t a) { return vdupq_n_s32(a); }
static inline vf4 add_f4(vf4 a, vf4 b) { return vaddq_f32(a, b); }
static inline vf4 mul_f4(vf4 a, vf4 b) { return vmulq_f32(a, b); }
static inline vf4 clip_f4(vf4 a, vf4 low, vf4 high) { return vminq_f32(vmaxq_f32(a, low), high); }
static inline vf4 max_f4(vf4 a, vf4 b) { return vmaxq_f32(a, b); }
/* FMIN and FMAX give NaN where either operand is. */
typedef struct {
    char none;
} nan_lanes4;
static inline nan_lanes4 no_nan_4(void) { return (nan_lanes4){0}; }
static inline nan_lanes4 find_nan_4(nan_lanes4 found, vf4 a, vf4 b) {
    (void)a;
    (void)b;
    return found;
}
static inline vf4 put_nan_4(nan_lanes4 found, vf4 a) {
    (void)found;
    return a;
}
static inline vf4 fma_f4(vf4 a, vf4 b, vf4 c) { return vfmaq_f32(c, a, b); }
static inline vi4 add_i4(vi4 a, vi4 b) { return vaddq_s32(a, b); }
static inline vi4 sub_i4(vi4 a, vi4 b) { return vsubq_s32(a, b); }
static inline vf4 to_f4(vi4 a) { return vcvtq_f32_s32(a); }
static inline vi4 rint_i4(vf4 a) { return vcvtnq_s32_f32(a); }

#if SIGNED_BYTES
static inline vi4 byte_i4(vi4 a, int k) { return vshrq_n_s32(vshlq_s32(a, vdupq_n_s32(24 - 8 * k)), 24); }
static inline vi4 max_b4(vi4 a, vi4 b) {
    return vreinterpretq_s32_s8(vmaxq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
#else
static inline vi4 byte_i4(vi4 a, int k) {
    uint32x4_t top = vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(24 - 8 * k));
    return vreinterpretq_s32_u32(vshrq_n_u32(top, 24));
}
static inline vi4 max_b4(vi4 a, vi4 b) {
    return vreinterpretq_s32_u8(vmaxq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
}
#endif

static inline vi4 transpose_bytes_4(vi4 a) {
    static const uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(a), vld1q_u8(order)));
}

/* The same with the whole range of a byte, and what is left to do for a part of it. */
static inline vi4 narrow_4(vi4 a, vi4 b, vi4 c, vi4 d, int32_t zero_point) {
    int16x8_t zero = vdupq_n_s16((int16_t)zero_point);
    int16x8_t ab = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero);
    int16x8_t cd = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero);
#if SIGNED_BYTES
    return vreinterpretq_s32_s8(vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)));
#else
    return vreinterpretq_s32_u8(vcombine_u8(vqmovun_s16(ab), vqmovun_s16(cd)));
#endif
}
static inline vi4 clip_bytes_4(vi4 a, byte_range range) {
#if SIGNED_BYTES
    int8x16_t bytes = vreinterpretq_s8_s32(a);
    return vreinterpretq_s32_s8(vminq_s8(vmaxq_s8(bytes, vdupq_n_s8((int8_t)range.low)), vdupq_n_s8((int8_t)range.high)));
#else
    uint8x16_t bytes = vreinterpretq_u8_s32(a);
    return vreinterpretq_s32_u8(vminq_u8(vmaxq_u8(bytes, vdupq_n_u8((uint8_t)range.low)), vdupq_n_u8((uint8_t)range.high)));
#endif
}
static inline vi4 pack_bytes_4(vi4 a, vi4 b, vi4 c, vi4 d, byte_range range) {
    return clip_bytes_4(narrow_4(a, b, c, d, range.zero_point), range);
}

#if defined(__ARM_FEATURE_DOTPROD)
typedef vi4 va4;
typedef int8x16_t vw4;
static inline vw4 weight_4(int32_t w) { return vreinterpretq_s8_s32(vdupq_n_s32(w)); }
static inline vw4 lane_weights_4(const int8_t *w) { return vld1q_s8(w); }
#if SIGNED_BYTES
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) { return vdotq_s32(sum, vreinterpretq_s8_s32(x), w); }
#else
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) { return vusdotq_s32(sum, vreinterpretq_u8_s32(x), w); }
#endif
#define dot_lanes_4 dot_4
static inline va4 start_a4(int32_t start) { return set_i4(start); }
static inline vi4 total_4(va4 sum) { return sum; }
static inline va4 add_a4(va4 a, va4 b) { return vaddq_s32(a, b); }
#else
/* Armv8.0: products of bytes as 16-bit numbers, added in pairs; a cell's two pairs stay apart until total_4. */
typedef struct {
    vi4 low, high;
} va4;
typedef int8x8_t vw4;
static inline vw4 weight_4(int32_t w) { return vreinterpret_s8_s32(vdup_n_s32(w)); }
static inline int8x16_t lane_weights_4(const int8_t *w) { return vld1q_s8(w); }
static inline va4 dot_lanes_4(va4 sum, vi4 x, int8x16_t w) {
    int8x16_t bytes = vreinterpretq_s8_s32(x);
    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(bytes), vget_low_s8(w)));
    sum.high = vpadalq_s16(sum.high, vmull_high_s8(bytes, w));
    return sum;
}
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) {
    int8x16_t bytes = vreinterpretq_s8_s32(x);
    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(bytes), w));
    sum.high = vpadalq_s16(sum.high, vmull_s8(vget_high_s8(bytes), w));
    return sum;
}
static inline va4 start_a4(int32_t start) {
    const vi4 once = vreinterpretq_s32_u64(vdupq_n_u64((uint32_t)start));
    return (va4){once, once};
}
static inline vi4 total_4(va4 sum) { return vpaddq_s32(sum.low, sum.high); }
static inline va4 add_a4(va4 a, va4 b) { return (va4){vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
#endif
#endif

/* Channels a, b, c, d of four positions as int32 -> cells of bytes. */
static inline vi4 pack_i4(vi4 a, vi4 b, vi4 c, vi4 d, byte_range range) {
    return transpose_bytes_4(pack_bytes_4(a, b, c, d, range));
}

/* Up to three cells; the others are zero. */
static inline vi4 load_part_i4(const void *from, int count) {
    uint64_t half[2] = {0, 0};
    if (count >= 2) __builtin_memcpy(half, from, 8);
    if (count == 3) __builtin_memcpy(half + 1, (const char *)from + 8, 4);
    if (count == 1) __builtin_memcpy(half, from, 4);
    return load_i4(half);
}
static inline void store_part_i4(void *to, vi4 a, int count) {
    uint64_t half[2];
    store_i4(half, a);
    if (count >= 2) __builtin_memcpy(to, half, 8);
    if (count == 3) __builtin_memcpy((char *)to + 8, half + 1, 4);
    if (count == 1) __builtin_memcpy(to, half, 4);
}
#if defined(__x86_64__)
static inline vf4 load_part_f4(const void *from, int count) { return _mm_castsi128_ps(load_part_i4(from, count)); }
static inline void store_part_f4(void *to, vf4 a, int count) { store_part_i4(to, _mm_castps_si128(a), count); }
#else
static inline vf4 load_part_f4(const void *from, int count) { return vreinterpretq_f32_s32(load_part_i4(from, count)); }
static inline void store_part_f4(void *to, vf4 a, int count) { store_part_i4(to, vreinterpretq_s32_f32(a), count); }
#endif
/* Cells 0, 2, 4, 6 of eight. */
static inline vi4 even_i4(vi4 a, vi4 b) {
#if defined(__x86_64__)
    return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(2, 0, 2, 0)));
#else
    return vuzp1q_s32(a, b);
#endif
}
/* Cells 0, 2 of a and 1, 3 of b. */
static inline vi4 even_odd_i4(vi4 a, vi4 b) {
#if defined(__x86_64__)
    return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(3, 1, 2, 0)));
#else
    return vuzp1q_s32(a, vextq_s32(b, b, 1));
#endif
}
#if defined(__aarch64__)
static inline vi4 odd_i4(vi4 a, vi4 b) { return vuzp2q_s32(a, b); }
/* The last cell of a and all but the last of b; all but the first of a and the first of b. */
static inline vi4 one_before_i4(vi4 a, vi4 b) { return vextq_s32(a, b, 3); }
static inline vi4 one_after_i4(vi4 a, vi4 b) { return vextq_s32(a, b, 1); }
static inline vf4 as_f4(vi4 a) { return vreinterpretq_f32_s32(a); }
#endif
#if defined(__x86_64__)
static inline vi4 select_i4(vi4 mask, vi4 a, vi4 b) { return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b)); }
#else
static inline vi4 select_i4(vi4 mask, vi4 a, vi4 b) { return vbslq_s32(vreinterpretq_u32_s32(mask), a, b); }
#endif
static inline vf4 set_bits_f4(uint32_t bits) {
#if defined(__x86_64__)
    return _mm_castsi128_ps(_mm_set1_epi32((int32_t)bits));
#else
    return vreinterpretq_f32_u32(vdupq_n_u32(bits));
#endif
}

#endif
