/* Vectors of eight cells: AVX2 and what grows from it. The comments stand in simd128.h. */
#ifndef EDGEPRUNE_SIMD256_H
#define EDGEPRUNE_SIMD256_H

#include "simd128.h"

typedef __m256 vf8;
typedef __m256i vi8;

static inline vf8 load_f8(const void *from) { return _mm256_loadu_ps(from); }
static inline void store_f8(void *to, vf8 a) { _mm256_storeu_ps(to, a); }
static inline vi8 load_i8(const void *from) { return _mm256_loadu_si256(from); }
static inline void store_i8(void *to, vi8 a) { _mm256_storeu_si256(to, a); }
static inline vf8 set_f8(float a) { return _mm256_set1_ps(a); }
static inline vi8 set_i8(int32_t a) { return _mm256_set1_epi32(a); }
static inline vf8 add_f8(vf8 a, vf8 b) { return _mm256_add_ps(a, b); }
static inline vf8 mul_f8(vf8 a, vf8 b) { return _mm256_mul_ps(a, b); }
static inline vf8 clip_f8(vf8 a, vf8 low, vf8 high) { return _mm256_min_ps(high, _mm256_max_ps(low, a)); }
static inline vf8 max_f8(vf8 a, vf8 b) { return _mm256_max_ps(a, b); }
typedef vf8 nan_lanes8;
static inline nan_lanes8 no_nan_8(void) { return _mm256_setzero_ps(); }
static inline nan_lanes8 find_nan_8(nan_lanes8 found, vf8 a, vf8 b) {
    return _mm256_or_ps(found, _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}
static inline vf8 put_nan_8(nan_lanes8 found, vf8 a) { return _mm256_or_ps(a, found); }
static inline vf8 fma_f8(vf8 a, vf8 b, vf8 c) { return _mm256_fmadd_ps(a, b, c); }
static inline vi8 add_i8(vi8 a, vi8 b) { return _mm256_add_epi32(a, b); }
static inline vi8 sub_i8(vi8 a, vi8 b) { return _mm256_sub_epi32(a, b); }
static inline vf8 to_f8(vi8 a) { return _mm256_cvtepi32_ps(a); }
static inline vi8 rint_i8(vf8 a) { return _mm256_cvtps_epi32(_mm256_min_ps(a, _mm256_set1_ps(1e9f))); }
static inline vi8 byte_i8(vi8 a, int k) {
    return _mm256_and_si256(_mm256_srl_epi32(a, _mm_cvtsi32_si128(8 * k)), _mm256_set1_epi32(255));
}
static inline vi8 max_b8(vi8 a, vi8 b) { return _mm256_max_epu8(a, b); }

static inline vi8 pack_bytes_8(vi8 a, vi8 b, vi8 c, vi8 d, byte_range range) {
    __m256i zero = _mm256_set1_epi16((int16_t)range.zero_point);
    __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero);
    __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero);
    __m256i bytes = _mm256_packus_epi16(ab, cd);
    return _mm256_min_epu8(_mm256_max_epu8(bytes, _mm256_set1_epi8((char)range.low)), _mm256_set1_epi8((char)range.high));
}
static inline vi8 pack_i8(vi8 a, vi8 b, vi8 c, vi8 d, byte_range range) {
    __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm256_shuffle_epi8(pack_bytes_8(a, b, c, d, range), _mm256_broadcastsi128_si256(order));
}

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
typedef vi8 va8;
typedef vi8 vw8;
static inline vw8 weight_8(int32_t w) { return _mm256_set1_epi32(w); }
static inline va8 dot_8(va8 sum, vi8 x, vw8 w) { return _mm256_dpbusd_epi32(sum, x, w); }
#else
typedef vi8 va8;
typedef struct {
    vi8 even, odd;
} vw8;
static inline vw8 weight_8(int32_t w) {
    vi8 all = _mm256_set1_epi32(w);
    return (vw8){_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
}
static inline va8 dot_8(va8 sum, vi8 x, vw8 w) {
    vi8 even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)), w.even);
    return _mm256_add_epi32(_mm256_add_epi32(sum, even), _mm256_madd_epi16(_mm256_srli_epi16(x, 8), w.odd));
}
#endif
static inline va8 start_a8(int32_t start) { return set_i8(start); }
static inline vi8 total_8(va8 sum) { return sum; }
static inline va8 add_a8(va8 a, va8 b) { return _mm256_add_epi32(a, b); }

static inline __m256i mask_8(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vi8 load_part_i8(const void *from, int count) { return _mm256_maskload_epi32(from, mask_8(count)); }
static inline void store_part_i8(void *to, vi8 a, int count) { _mm256_maskstore_epi32(to, mask_8(count), a); }
static inline vf8 load_part_f8(const void *from, int count) { return _mm256_maskload_ps(from, mask_8(count)); }
static inline void store_part_f8(void *to, vf8 a, int count) { _mm256_maskstore_ps(to, mask_8(count), a); }
static inline vi8 even_i8(vi8 a, vi8 b) {
    vf8 mixed = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _MM_SHUFFLE(2, 0, 2, 0));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), _MM_SHUFFLE(3, 1, 2, 0));
}
static inline vi8 even_odd_i8(vi8 a, vi8 b) {
    vf8 mixed = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _MM_SHUFFLE(3, 1, 2, 0));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), _MM_SHUFFLE(3, 1, 2, 0));
}
static inline vi8 select_i8(vi8 mask, vi8 a, vi8 b) { return _mm256_blendv_epi8(b, a, mask); }
static inline vf8 set_bits_f8(uint32_t bits) { return _mm256_castsi256_ps(_mm256_set1_epi32((int32_t)bits)); }

#endif
