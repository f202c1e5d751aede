/* Vectors of four cells: SSE2 and what grows from it, or NEON. Names end in the number of lanes. */
#pragma once
#include "kernels.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline)) /* long, and called from several places */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
/* For loops of a few rounds, which vectors would only slow down. */
#define ONE_BY_ONE _Pragma("clang loop vectorize(disable) unroll(disable)")
/* For loops that take most of the time: how fast they are must not hang on where in a line of code they begin. */
#define ALIGNED [[clang::code_align(CODE_LINE)]]
#else
#define UNROLL _Pragma("GCC unroll 32")
#define ONE_BY_ONE
#define ALIGNED
#endif

/* What the bytes of a cell are: without i8mm the dot product of Armv8.2 takes two signed vectors. */
#if defined(__aarch64__) && !defined(__ARM_FEATURE_MATMUL_INT8)
#define SIGNED_BYTES 1
#else
#define SIGNED_BYTES 0
#endif
#define LOWEST (SIGNED_BYTES ? -128 : 0)

#if defined(__x86_64__)
#include <immintrin.h>
#define CODE_LINE 64

typedef __m128 vf4;
typedef __m128i vi4;

static inline vi4 load_i4(const void *from) { return _mm_loadu_si128(from); }
static inline void store_i4(void *to, vi4 a) { _mm_storeu_si128(to, a); }
/* Where a or b is NaN, or where they were in `found`: max_f forgets a NaN that is not in its last operand. */
typedef vf4 nan_lanes4;
static inline nan_lanes4 no_nan_4(void) { return _mm_setzero_ps(); }
static inline nan_lanes4 find_nan_4(nan_lanes4 found, vf4 a, vf4 b) { return _mm_or_ps(found, _mm_cmpunord_ps(a, b)); }
static inline vf4 put_nan_4(nan_lanes4 found, vf4 a) { return _mm_or_ps(a, found); } /* all ones are NaN */
/* Bytes in order [a0..a3 b0..b3 c0..c3 d0..d3] -> cells [a0 b0 c0 d0] [a1 b1 c1 d1] ... */
static inline vi4 transpose_bytes_4(vi4 a) {
#ifdef __SSSE3__
    return _mm_shuffle_epi8(a, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
#else
    a = _mm_unpacklo_epi8(a, _mm_srli_si128(a, 8));
    return _mm_unpacklo_epi8(a, _mm_srli_si128(a, 8));
#endif
}
/* Cells 0, 2, 4, 6 of eight; cells 0, 2 of a and 1, 3 of b. */
static inline vi4 even_i4(vi4 a, vi4 b) { return (vi4)_mm_shuffle_ps((vf4)a, (vf4)b, _MM_SHUFFLE(2, 0, 2, 0)); }
static inline vi4 even_odd_i4(vi4 a, vi4 b) { return (vi4)_mm_shuffle_ps((vf4)a, (vf4)b, _MM_SHUFFLE(3, 1, 2, 0)); }
/* Each cell two times: those of the first half, and of the second. */
static inline void twice_i4(vi4 a, vi4 *low, vi4 *high) {
    *low = _mm_unpacklo_epi32(a, a);
    *high = _mm_unpackhi_epi32(a, a);
}

#define LANES 4
#define INTEL(name) JOINED(_mm_, name)
#include "simd_x86.inc"

static inline vf4 root_f4(vf4 a) { return _mm_sqrt_ps(a); }
/* dot_lanes_4 multiplies each cell by weights of its own. */
static inline vw4 lane_weights_4(const int8_t *w) { return split_4(load_i4(w)); }
#define dot_lanes_4 dot_4

/* Each byte's entry of a table of 256. */
static inline vi4 look_up_4(vi4 a, const uint8_t *table) {
#ifdef __SSSE3__
    vi4 found = _mm_setzero_si128();
    UNROLL for (int i = 0; i < 16; i++) { /* those of one sixteenth have 7 as their upper half, the others more */
        const vi4 place = _mm_adds_epu8(_mm_xor_si128(a, _mm_set1_epi8((char)(16 * i))), _mm_set1_epi8(0x70));
        found = _mm_or_si128(found, _mm_shuffle_epi8(load_i4(table + 16 * i), place));
    }
    return found;
#else
    uint8_t bytes[16];
    store_i4(bytes, a);
    for (int i = 0; i < 16; i++) bytes[i] = table[bytes[i]];
    return load_i4(bytes);
#endif
}

#else /* NEON */
#include <arm_neon.h>
#define CODE_LINE 4 /* what goes before a loop costs more than its place */

typedef float32x4_t vf4;
typedef int32x4_t vi4;
#if SIGNED_BYTES
typedef int8x16_t vb4;
#define OF_BYTES(name) name##_s8
#else
typedef uint8x16_t vb4;
#define OF_BYTES(name) name##_u8
#endif

static inline vf4 load_f4(const void *from) { return vld1q_f32(from); }
static inline void store_f4(void *to, vf4 a) { vst1q_f32(to, a); }
static inline vi4 load_i4(const void *from) { return vld1q_s32(from); }
static inline void store_i4(void *to, vi4 a) { vst1q_s32(to, a); }
static inline vf4 set_f4(float a) { return vdupq_n_f32(a); }
static inline vi4 set_i4(int32_t a) { return vdupq_n_s32(a); }
static inline vf4 set_bits_f4(uint32_t bits) { return (vf4)vdupq_n_u32(bits); }
static inline vf4 add_f4(vf4 a, vf4 b) { return vaddq_f32(a, b); }
static inline vf4 mul_f4(vf4 a, vf4 b) { return vmulq_f32(a, b); }
static inline vf4 clip_f4(vf4 a, vf4 low, vf4 high) { return vminq_f32(vmaxq_f32(a, low), high); }
static inline vf4 max_f4(vf4 a, vf4 b) { return vmaxq_f32(a, b); }
/* FMIN and FMAX give NaN where either operand is. */
typedef struct {
    char none;
} nan_lanes4;
static inline nan_lanes4 no_nan_4(void) { return (nan_lanes4){0}; }
#define find_nan_4(found, a, b) (found)
#define put_nan_4(found, a) ((void)(found), (a))
static inline vf4 fma_f4(vf4 a, vf4 b, vf4 c) { return vfmaq_f32(c, a, b); }
static inline vf4 div_f4(vf4 a, vf4 b) { return vdivq_f32(a, b); }
static inline vf4 root_f4(vf4 a) { return vsqrtq_f32(a); }
static inline vi4 add_i4(vi4 a, vi4 b) { return vaddq_s32(a, b); }
static inline vi4 sub_i4(vi4 a, vi4 b) { return vsubq_s32(a, b); }
static inline vf4 to_f4(vi4 a) { return vcvtq_f32_s32(a); }
static inline vi4 rint_i4(vf4 a) { return vcvtnq_s32_f32(a); }
static inline vi4 nearest_i4(vf4 a) { return rint_i4(a); }
static inline vf4 power_of_two_f4(vf4 a) { return (vf4)vaddq_s32(vshlq_n_s32((vi4)a, 23), vdupq_n_s32(127 << 23)); }
static inline vi4 byte_i4(vi4 a, int k) {
    const vi4 top = vshlq_s32(a, vdupq_n_s32(24 - 8 * k));
    return SIGNED_BYTES ? vshrq_n_s32(top, 24) : (vi4)vshrq_n_u32((uint32x4_t)top, 24);
}
static inline vi4 centred_4(vi4 cells, int k, int32_t zero) { return sub_i4(byte_i4(cells, k), set_i4(zero)); }
static inline vi4 move_bytes_i4(vi4 a, int places) { return (vi4)vshlq_u32((uint32x4_t)a, vdupq_n_s32(8 * places)); }
static inline void twice_i4(vi4 a, vi4 *low, vi4 *high) {
    *low = vzip1q_s32(a, a);
    *high = vzip2q_s32(a, a);
}
static inline vi4 max_b4(vi4 a, vi4 b) { return (vi4)OF_BYTES(vmaxq)((vb4)a, (vb4)b); }
static inline vi4 transpose_bytes_4(vi4 a) {
    static const uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return (vi4)vqtbl1q_u8((uint8x16_t)a, vld1q_u8(order));
}
static inline vi4 look_up_4(vi4 a, const uint8_t *table) {
    const uint8x16_t place = (uint8x16_t)a, quarter = vdupq_n_u8(64);
    uint8x16_t found = vqtbl4q_u8(vld1q_u8_x4(table), place);
    found = vqtbx4q_u8(found, vld1q_u8_x4(table + 64), vsubq_u8(place, quarter));
    found = vqtbx4q_u8(found, vld1q_u8_x4(table + 128), veorq_u8(place, vdupq_n_u8(128)));
    return (vi4)vqtbx4q_u8(found, vld1q_u8_x4(table + 192), vsubq_u8(place, vdupq_n_u8(192)));
}
static inline vi4 even_i4(vi4 a, vi4 b) { return vuzp1q_s32(a, b); }
static inline vi4 odd_i4(vi4 a, vi4 b) { return vuzp2q_s32(a, b); }
static inline vi4 even_odd_i4(vi4 a, vi4 b) { return vuzp1q_s32(a, vextq_s32(b, b, 1)); }
/* The last cell of a and all but the last of b; all but the first of a and the first of b. */
static inline vi4 one_before_i4(vi4 a, vi4 b) { return vextq_s32(a, b, 3); }
static inline vi4 one_after_i4(vi4 a, vi4 b) { return vextq_s32(a, b, 1); }
static inline vf4 as_f4(vi4 a) { return (vf4)a; }
static inline void turn_4(vi4 *row) {
    const int32x4x2_t ac = vzipq_s32(row[0], row[2]), bd = vzipq_s32(row[1], row[3]);
    const int32x4x2_t low = vzipq_s32(ac.val[0], bd.val[0]), high = vzipq_s32(ac.val[1], bd.val[1]);
    row[0] = low.val[0];
    row[1] = low.val[1];
    row[2] = high.val[0];
    row[3] = high.val[1];
}

/* Bytes of the whole range, and what is left to do for a part of it. */
static inline vi4 narrow_4(vi4 a, vi4 b, vi4 c, vi4 d, int32_t zero_point) {
    const int16x8_t zero = vdupq_n_s16((int16_t)zero_point);
    const int16x8_t ab = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero);
    const int16x8_t cd = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero);
    return SIGNED_BYTES ? (vi4)vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)) : (vi4)vcombine_u8(vqmovun_s16(ab), vqmovun_s16(cd));
}
static inline vi4 clip_bytes_4(vi4 a, byte_range range) {
    const vb4 least = OF_BYTES(vmaxq)((vb4)a, OF_BYTES(vdupq_n)(range.low));
    return (vi4)OF_BYTES(vminq)(least, OF_BYTES(vdupq_n)(range.high));
}
static inline vi4 pack_bytes_4(vi4 a, vi4 b, vi4 c, vi4 d, byte_range range) {
    return clip_bytes_4(narrow_4(a, b, c, d, range.zero_point), range);
}
static inline vi4 pack_i4(vi4 a, vi4 b, vi4 c, vi4 d, byte_range range) {
    return transpose_bytes_4(pack_bytes_4(a, b, c, d, range));
}

static inline int8x16_t lane_weights_4(const int8_t *w) { return vld1q_s8(w); }
#if defined(__ARM_FEATURE_DOTPROD)
typedef vi4 va4;
typedef int8x16_t vw4;
static inline vw4 weight_4(int32_t w) { return (vw4)vdupq_n_s32(w); }
#if SIGNED_BYTES
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) { return vdotq_s32(sum, (vb4)x, w); }
#else
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) { return vusdotq_s32(sum, (vb4)x, w); }
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
static inline vw4 weight_4(int32_t w) { return (vw4)vdup_n_s32(w); }
static inline va4 dot_lanes_4(va4 sum, vi4 x, int8x16_t w) {
    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8((vb4)x), vget_low_s8(w)));
    sum.high = vpadalq_s16(sum.high, vmull_high_s8((vb4)x, w));
    return sum;
}
static inline va4 dot_4(va4 sum, vi4 x, vw4 w) {
    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8((vb4)x), w));
    sum.high = vpadalq_s16(sum.high, vmull_s8(vget_high_s8((vb4)x), w));
    return sum;
}
static inline va4 start_a4(int32_t start) {
    const vi4 once = (vi4)vdupq_n_u64((uint32_t)start);
    return (va4){once, once};
}
static inline vi4 total_4(va4 sum) { return vpaddq_s32(sum.low, sum.high); }
static inline va4 add_a4(va4 a, va4 b) { return (va4){vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
#endif
#endif

static inline vi4 select_i4(vi4 mask, vi4 a, vi4 b) { return (mask & a) | (~mask & b); }
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
static inline vf4 load_part_f4(const void *from, int count) { return (vf4)load_part_i4(from, count); }
static inline void store_part_f4(void *to, vf4 a, int count) { store_part_i4(to, (vi4)a, count); }
/* Sixteen bytes for each four cells, `step` bytes apart: here these are all. */
static inline vi4 load_apart_i4(const char *from, int64_t step) {
    (void)step;
    return load_i4(from);
}
static inline void store_apart_i4(char *to, int64_t step, vi4 a) {
    (void)step;
    store_i4(to, a);
}
