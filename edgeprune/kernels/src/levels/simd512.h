/* Vectors of sixteen cells: AVX-512 F, BW, DQ, VL. The comments stand in simd128.h. */
#pragma once
#include "simd256.h"

typedef __m512 vf16;
typedef __m512i vi16;

static inline vi16 load_i16(const void *from) { return _mm512_loadu_si512(from); }
static inline void store_i16(void *to, vi16 a) { _mm512_storeu_si512(to, a); }
typedef __mmask16 nan_lanes16;
static inline nan_lanes16 no_nan_16(void) { return 0; }
static inline nan_lanes16 find_nan_16(nan_lanes16 found, vf16 a, vf16 b) {
    return found | _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
static inline vf16 put_nan_16(nan_lanes16 found, vf16 a) { return _mm512_mask_mov_ps(a, found, _mm512_set1_ps(__builtin_nanf(""))); }
static inline vi16 transpose_bytes_16(vi16 a) {
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(order));
}

static inline vi16 look_up_16(vi16 a, const uint8_t *table) {
#ifdef __AVX512VBMI__
    const vi16 low = _mm512_permutex2var_epi8(load_i16(table), a, load_i16(table + 64));
    const vi16 high = _mm512_permutex2var_epi8(load_i16(table + 128), a, load_i16(table + 192));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(a), low, high);
#else
    vi16 found = _mm512_setzero_si512();
    UNROLL for (int i = 0; i < 16; i++) {
        const vi16 place = _mm512_adds_epu8(_mm512_xor_si512(a, _mm512_set1_epi8((char)(16 * i))), _mm512_set1_epi8(0x70));
        const vi16 part = _mm512_broadcast_i32x4(load_i4(table + 16 * i));
        found = _mm512_or_si512(found, _mm512_shuffle_epi8(part, place));
    }
    return found;
#endif
}

#define LANES 16
#define INTEL(name) JOINED(_mm512_, name)
#include "simd_x86.inc"

static inline __mmask16 mask_16(int count) { return (__mmask16)((1u << count) - 1); }
static inline vi16 load_part_i16(const void *from, int count) { return _mm512_maskz_loadu_epi32(mask_16(count), from); }
static inline void store_part_i16(void *to, vi16 a, int count) { _mm512_mask_storeu_epi32(to, mask_16(count), a); }
static inline vf16 load_part_f16(const void *from, int count) { return _mm512_maskz_loadu_ps(mask_16(count), from); }
static inline void store_part_f16(void *to, vf16 a, int count) { _mm512_mask_storeu_ps(to, mask_16(count), a); }
/* What the mask leaves out is zero, and not touched. */
static inline vf16 load_lanes_f16(const void *from, uint16_t mask) { return _mm512_maskz_loadu_ps(mask, from); }
/* Cells of a, then of b, by their numbers. */
#define PICKED(...) _mm512_permutex2var_epi32(a, _mm512_setr_epi32(__VA_ARGS__), b)
static inline vi16 even_i16(vi16 a, vi16 b) { return PICKED(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); }
static inline vi16 even_odd_i16(vi16 a, vi16 b) { return PICKED(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31); }
static inline vi16 odd_i16(vi16 a, vi16 b) { return PICKED(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31); }
#undef PICKED
static inline void twice_i16(vi16 a, vi16 *low, vi16 *high) {
    *low = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), a);
    *high = _mm512_permutexvar_epi32(_mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15), a);
}
static inline vi16 one_before_i16(vi16 a, vi16 b) { return _mm512_alignr_epi32(b, a, 15); }
static inline vi16 one_after_i16(vi16 a, vi16 b) { return _mm512_alignr_epi32(b, a, 1); }
static inline vf16 as_f16(vi16 a) { return (vf16)a; }
static inline vi16 select_i16(vi16 mask, vi16 a, vi16 b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xca); }
static inline vi16 load_apart_i16(const char *from, int64_t step) {
    vi16 all = _mm512_castsi128_si512(load_i4(from));
    all = _mm512_inserti32x4(all, load_i4(from + step), 1);
    all = _mm512_inserti32x4(all, load_i4(from + 2 * step), 2);
    return _mm512_inserti32x4(all, load_i4(from + 3 * step), 3);
}
static inline void store_apart_i16(char *to, int64_t step, vi16 a) {
    store_apart_i8(to, step, _mm512_castsi512_si256(a));
    store_apart_i8(to + 2 * step, step, _mm512_extracti64x4_epi64(a, 1));
}
