/* What the kernels of one instruction-set level share. The files of this folder are compiled once for each level, with
 * LEVEL naming it; what other files of the level call ends in its name. */
#ifndef EDGEPRUNE_LEVEL_H
#define EDGEPRUNE_LEVEL_H

#include "kernels.h"
#include "simd128.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
/* For loops of a few rounds, which vectors would only slow down. */
#define ONE_BY_ONE _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#define ONE_BY_ONE
#endif
#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)
#define OF_LEVEL(name) JOINED(name##_, LEVEL)

/* The widest vectors: W(name) is what a name of simd*.h means for them. */
#if defined(__AVX512F__)
#include "simd512.h"
#define WIDE 16
#elif defined(__AVX2__)
#include "simd256.h"
#define WIDE 8
#else
#define WIDE 4
#endif
#define W(name) JOINED(name, WIDE)

/* A block of four output channels keeps four sums a vector: 16 registers hold three vectors of columns, 32 six. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_F4 6
#else
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
#if defined(__AVX512F__)
#define MASKED_TILES 1
#else
#define MASKED_TILES 0
#endif
/* Looking inputs up in registers: two-register permutations and a dot product. */
#if defined(__AVX512VNNI__)
#define BY_LANE 1
#else
#define BY_LANE 0
#endif

/* Pieces of a job's work, by their numbers; level.c lists them. */
#define TASK(name) void OF_LEVEL(name)(void *data, size_t number)
TASK(copy_planes);
TASK(conv);
TASK(conv_chunk);
TASK(depthwise);
TASK(quantized_depthwise);
TASK(max_pool);
TASK(gemm);
TASK(gemm_panel);
TASK(add);
TASK(pack);
TASK(unpack);
TASK(global_average);

/* As vectors add: a file's numbers may be senseless. */
static inline int32_t wrapping_sum(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* What another core has written takes long to come: it is asked for in advance. */
static inline void prefetch_lines(const void *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch((const char *)from + i);
}

#endif
