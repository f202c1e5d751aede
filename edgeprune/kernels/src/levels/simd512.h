/* Vectors of sixteen cells: AVX-512 F, BW, DQ, VL. The comments stand in simd128.h. */
#ifndef EDGEPRUNE_SIMD512_H
#define EDGEPRUNE_SIMD512_H

#include "simd256.h"

typedef __m512 vf16;
typedef __m512i vi16;

static inline vf16 load_f16(const void *from) { return _mm512_loadu_ps(from); }
static inline void store_f16(void *to, vf16 a) { _mm512_storeu_ps(to, a); }
static inline vi16 load_i16(const void *from) { return _mm512_loadu_si512(from); }
static inline void store_i16(void *to, vi16 a) { _mm512_storeu_si512(to, a); }
static inline vf16 set_f16(float a) { return _mm512_set1_ps(a); }
static inline vi16 set_i16(int32_t a) { return _mm512_set1_epi32(a); }
static inline vf16 add_f16(vf16 a, vf16 b) { return _mm512_add_ps(a, b); }
static inline vf16 mul_f16(vf16 a, vf16 b) { return _mm512_mul_ps(a, b); }
static inline vf16 clip_f16(vf16 a, vf16 low, vf16 high) { return _mm512_min_ps(high, _mm512_max_ps(low, a)); }
static inline vf16 max_f16(vf16 a, vf16 b) { return _mm512_max_ps(a, b); }
typedef __mmask16 nan_lanes16;
static inline nan_lanes16 no_nan_16(void) { return 0; }
static inline nan_lanes16 find_nan_16(nan_lanes16 found, vf16 a, vf16 b) {
    return found | _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
static inline vf16 put_nan_16(nan_lanes16 found, vf16 a) { return _mm512_mask_mov_ps(a, found, _mm512_set1_ps(__builtin_nanf(""))); }
static inline vf16 fma_f16(vf16 a, vf16 b, vf16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline vi16 add_i16(vi16 a, vi16 b) { return _mm512_add_epi32(a, b); }
static inline vi16 sub_i16(vi16 a, vi16 b) { return _mm512_sub_epi32(a, b); }
static inline vf16 to_f16(vi16 a) { return _mm512_cvtepi32_ps(a); }
static inline vi16 rint_i16(vf16 a) { return _mm512_cvtps_epi32(_mm512_min_ps(a, _mm512_set1_ps(1e9f))); }
static inline vi16 byte_i16(vi16 a, int k) {
    return _mm512_and_si512(_mm512_srl_epi32(a, _mm_cvtsi32_si128(8 * k)), _mm512_set1_epi32(255));
}
static inline vi16 max_b16(vi16 a, vi16 b) { return _mm512_max_epu8(a, b); }

static inline vi16 pack_bytes_16(vi16 a, vi16 b, vi16 c, vi16 d, byte_range range) {
    __m512i zero = _mm512_set1_epi16((int16_t)range.zero_point);
    __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero);
    __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero);
    __m512i bytes = _mm512_packus_epi16(ab, cd);
    return _mm512_min_epu8(_mm512_max_epu8(bytes, _mm512_set1_epi8((char)range.low)), _mm512_set1_epi8((char)range.high));
}
static inline vi16 pack_i16(vi16 a, vi16 b, vi16 c, vi16 d, byte_range range) {
    __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_shuffle_epi8(pack_bytes_16(a, b, c, d, range), _mm512_broadcast_i32x4(order));
}

#if defined(__AVX512VNNI__)
typedef vi16 va16;
typedef vi16 vw16;
static inline vw16 weight_16(int32_t w) { return _mm512_set1_epi32(w); }
static inline va16 dot_16(va16 sum, vi16 x, vw16 w) { return _mm512_dpbusd_epi32(sum, x, w); }
#else
typedef vi16 va16;
typedef struct {
    vi16 even, odd;
} vw16;
static inline vw16 weight_16(int32_t w) {
    vi16 all = _mm512_set1_epi32(w);
    return (vw16){_mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), _mm512_srai_epi16(all, 8)};
}
static inline va16 dot_16(va16 sum, vi16 x, vw16 w) {
    vi16 even = _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(255)), w.even);
    return _mm512_add_epi32(_mm512_add_epi32(sum, even), _mm512_madd_epi16(_mm512_srli_epi16(x, 8), w.odd));
}
#endif
static inline va16 start_a16(int32_t start) { return set_i16(start); }
static inline vi16 total_16(va16 sum) { return sum; }
static inline va16 add_a16(va16 a, va16 b) { return _mm512_add_epi32(a, b); }

static inline __mmask16 mask_16(int count) { return (__mmask16)((1u << count) - 1); }
static inline vi16 load_part_i16(const void *from, int count) { return _mm512_maskz_loadu_epi32(mask_16(count), from); }
static inline void store_part_i16(void *to, vi16 a, int count) { _mm512_mask_storeu_epi32(to, mask_16(count), a); }
static inline vf16 load_part_f16(const void *from, int count) { return _mm512_maskz_loadu_ps(mask_16(count), from); }
static inline void store_part_f16(void *to, vf16 a, int count) { _mm512_mask_storeu_ps(to, mask_16(count), a); }
/* What the mask leaves out is zero, and not touched. */
static inline vf16 load_lanes_f16(const void *from, uint16_t mask) { return _mm512_maskz_loadu_ps(mask, from); }
static inline vi16 even_i16(vi16 a, vi16 b) {
    __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_epi32(a, order, b);
}
static inline vi16 even_odd_i16(vi16 a, vi16 b) {
    __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_epi32(a, order, b);
}
static inline vi16 odd_i16(vi16 a, vi16 b) {
    __m512i order = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_epi32(a, order, b);
}
/* The last cell of a and all but the last of b; all but the first of a and the first of b. */
static inline vi16 one_before_i16(vi16 a, vi16 b) { return _mm512_alignr_epi32(b, a, 15); }
static inline vi16 one_after_i16(vi16 a, vi16 b) { return _mm512_alignr_epi32(b, a, 1); }
static inline vf16 as_f16(vi16 a) { return _mm512_castsi512_ps(a); }
static inline vi16 select_i16(vi16 mask, vi16 a, vi16 b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xca); }
static inline vf16 set_bits_f16(uint32_t bits) { return _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)bits)); }

#endif
