/* How a layer's work falls into pieces: tiles of columns, rows of copies, parts of the row blocks. */
#pragma once
#include "kernels.h"

typedef struct {
    int32_t sums, output, count; /* first cell in the tile's sums, first cell in the output plane, cells */
} segment;

typedef struct {
    int32_t start, vectors, segments;
    segment part[TILE_CELLS + 1];
} tile;

/* Tile number `index` of a run: tiles differ by one vector at most. A run that is read straight from the input ends
 * with a tile moved back, which computes some columns again rather than read past the end; it does not put them down, for
 * another thread does. */
void place_tile(const conv_job *job, int32_t index, tile *t);

/* Rows of a copy, [first, end). */
typedef struct {
    int32_t first, end;
} row_range;

static inline row_range all_rows(const geometry *g) { return (row_range){0, g->rows}; }
/* Rows of the copies that the tiles [first, end) read. */
row_range rows_of_tiles(const conv_job *job, int32_t first, int32_t end);

/* First row block of part number `part` of `parts`, such that all parts hold about as many entries; a row block costs
 * as much as a few entries whatever it holds. Integer parts begin at a multiple of four rows. */
int32_t part_start(const uint32_t *start, int32_t row_blocks, int32_t step, int32_t parts, int32_t part);
