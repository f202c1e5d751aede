/* What the kernels of one instruction-set level share: widths of vectors, and what tiles they hold. */
#pragma once
#include "simd128.h"

/* The widest vectors: W(name) is what a name of simd*.h means for them. SUM: a function for vectors of as many lanes. */
#define W(name) JOINED(name, WIDE)
#if defined(__AVX512F__)
#include "simd512.h"
#define WIDE 16
#define SUM(kind, lanes, ...) \
    (lanes == 16 ? kind##_16(__VA_ARGS__) : lanes == 8 ? kind##_8(__VA_ARGS__) : kind##_4(__VA_ARGS__))
#elif defined(__AVX2__)
#include "simd256.h"
#define WIDE 8
#define SUM(kind, lanes, ...) (lanes == 8 ? kind##_8(__VA_ARGS__) : kind##_4(__VA_ARGS__))
#else
#define WIDE 4
#define SUM(kind, lanes, ...) kind##_4(__VA_ARGS__)
#endif

/* 32 vector registers, or 16. A block of four output channels keeps four sums a vector: six vectors of columns, or three. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define MANY_REGISTERS 1
#define TILE_F4 6
#else
#define MANY_REGISTERS 0
#define TILE_F4 3
#endif
#define TILE_F1 8
/* One sum a vector of a block of four input channels. */
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define TILE_I4 24
#else
#define TILE_I4 8
#endif
/* Whether blocks of four rows can read their input by masks: lanes that a mask leaves out must not be touched. */
#define MASKED_TILES (WIDE == 16)
/* Looking inputs up in registers: two-register permutations and a dot product. */
#if defined(__AVX512VNNI__)
#define BY_LANE 1
#else
#define BY_LANE 0
#endif

/* Whether a load of integers may serve four rows, where these are dense: elsewhere not loads are the limit. */
#define SHARED_ROWS BY_LANE

/* As vectors add: a file's numbers may be senseless. */
static inline int32_t wrapping_sum(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* What another core has written takes long to come: it is asked for in advance. */
static inline void prefetch_lines(const void *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch((const char *)from + i);
}

/* Weights stream from a cache further off while a tile's inputs stay near: bytes of entries to ask for in advance. */
enum { AHEAD = 1024 };

/* Offset and weight of an entry in one load: loads are what a sparse row costs. */
static ALWAYS_INLINE uint64_t load_entry(const void *entry) {
    uint64_t both;
    __builtin_memcpy(&both, entry, sizeof both);
    return both;
}
