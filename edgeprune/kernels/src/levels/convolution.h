/* Tiles of a convolution. */
#ifndef EDGEPRUNE_CONVOLUTION_H
#define EDGEPRUNE_CONVOLUTION_H

#include "level.h"
#include "tiles.h"

/* Row blocks [first, end) of one tile of floats; x is where the planes begin that the entries' offsets count from. All
 * rows take one slab of the input after the other; partial: [row blocks][PARTIAL_ROW] sums so far. */
#define conv_rows OF_LEVEL(conv_rows)
void conv_rows(const conv_job *job, int32_t tile_number, const char *x, int32_t first, int32_t end, float *partial);

/* The same for groups of four output channels of integers. */
#define conv_groups OF_LEVEL(conv_groups)
void conv_groups(const conv_job *job, int32_t tile_number, const char *x, int32_t first, int32_t end);

/* Weights stream from a cache further off while a tile's inputs stay near: bytes of entries to ask for in advance. */
#define AHEAD 1024

/* Offset and weight of an entry in one load: loads are what a sparse row costs. */
static ALWAYS_INLINE uint64_t load_entry(const void *entry) {
    uint64_t both;
    __builtin_memcpy(&both, entry, sizeof both);
    return both;
}

/* A tile in vectors of as many lanes as the job's. */
#if WIDE == 16
#define SUM(kind, lanes, ...) \
    (lanes == 16 ? kind##_16(__VA_ARGS__) : lanes == 8 ? kind##_8(__VA_ARGS__) : kind##_4(__VA_ARGS__))
#elif WIDE == 8
#define SUM(kind, lanes, ...) (lanes == 8 ? kind##_8(__VA_ARGS__) : kind##_4(__VA_ARGS__))
#else
#define SUM(kind, lanes, ...) kind##_4(__VA_ARGS__)
#endif

#endif
