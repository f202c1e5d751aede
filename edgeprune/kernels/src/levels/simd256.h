/* Vectors of eight cells: AVX2 and what grows from it. The comments stand in simd128.h. */
#pragma once
#include "simd128.h"

typedef __m256 vf8;
typedef __m256i vi8;

static inline vi8 load_i8(const void *from) { return _mm256_loadu_si256(from); }
static inline void store_i8(void *to, vi8 a) { _mm256_storeu_si256(to, a); }
typedef vf8 nan_lanes8;
static inline nan_lanes8 no_nan_8(void) { return _mm256_setzero_ps(); }
static inline nan_lanes8 find_nan_8(nan_lanes8 found, vf8 a, vf8 b) {
    return _mm256_or_ps(found, _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}
static inline vf8 put_nan_8(nan_lanes8 found, vf8 a) { return _mm256_or_ps(a, found); }
static inline vi8 transpose_bytes_8(vi8 a) {
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(order));
}

static inline vi8 look_up_8(vi8 a, const uint8_t *table) {
    vi8 found = _mm256_setzero_si256();
    UNROLL for (int i = 0; i < 16; i++) {
        const vi8 place = _mm256_adds_epu8(_mm256_xor_si256(a, _mm256_set1_epi8((char)(16 * i))), _mm256_set1_epi8(0x70));
        const vi8 part = _mm256_broadcastsi128_si256(load_i4(table + 16 * i));
        found = _mm256_or_si256(found, _mm256_shuffle_epi8(part, place));
    }
    return found;
}

#define LANES 8
#define INTEL(name) JOINED(_mm256_, name)
#include "simd_x86.inc"

static inline __m256i mask_8(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vi8 load_part_i8(const void *from, int count) { return _mm256_maskload_epi32(from, mask_8(count)); }
static inline void store_part_i8(void *to, vi8 a, int count) { _mm256_maskstore_epi32(to, mask_8(count), a); }
static inline vf8 load_part_f8(const void *from, int count) { return _mm256_maskload_ps(from, mask_8(count)); }
static inline void store_part_f8(void *to, vf8 a, int count) { _mm256_maskstore_ps(to, mask_8(count), a); }
/* Halves of a and b by turns -> a's, then b's. */
static inline vi8 in_order_8(vf8 mixed) { return _mm256_permute4x64_epi64((vi8)mixed, _MM_SHUFFLE(3, 1, 2, 0)); }
static inline vi8 even_i8(vi8 a, vi8 b) { return in_order_8(_mm256_shuffle_ps((vf8)a, (vf8)b, _MM_SHUFFLE(2, 0, 2, 0))); }
static inline vi8 even_odd_i8(vi8 a, vi8 b) { return in_order_8(_mm256_shuffle_ps((vf8)a, (vf8)b, _MM_SHUFFLE(3, 1, 2, 0))); }
static inline void twice_i8(vi8 a, vi8 *low, vi8 *high) {
    *low = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    *high = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
}
static inline vi8 select_i8(vi8 mask, vi8 a, vi8 b) { return _mm256_blendv_epi8(b, a, mask); }
/* Sixteen bytes each, `step` bytes apart. */
static inline vi8 load_apart_i8(const char *from, int64_t step) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_i4(from)), load_i4(from + step), 1);
}
static inline void store_apart_i8(char *to, int64_t step, vi8 a) {
    store_i4(to, _mm256_castsi256_si128(a));
    store_i4(to + step, _mm256_extracti128_si256(a, 1));
}
