/* How a convolution reads its input: in place, or from copies of its planes. */
#pragma once
#include "kernels.h"

/* Completes a geometry whose sizes, strides, padding and dilation are set. lanes: cells of the level's widest vector;
 * reads: how often a cell of the input is used, about (1: by one dense window, which pays for no more copies than it must
 * have). masked: whether runs may be read by masks. Null, or what is wrong. */
const char *plan_copies(geometry *g, int32_t lanes, int64_t reads, int32_t masked);

/* The table geometry.gather, where there is one: its size, and its content. */
int64_t gather_cells(const geometry *g);
void plan_gather(geometry *g, int32_t *table);

/* The same for geometry.masks, for vectors of `lanes` cells. */
int64_t mask_count(const geometry *g, int32_t lanes);
void plan_masks(geometry *g, int32_t lanes, uint16_t *masks);

/* Bytes from a channel's first plane to the run of each tap, [kernel_h * kernel_w]. */
void tap_offsets(const geometry *g, int64_t *offset);

/* How wide the vectors and how many the tiles are: `most` vectors a tile at most. */
void plan_tiles(const geometry *g, int32_t lanes, int32_t most, int32_t *tile_lanes, int32_t *tiles);

/* Channels of a slab, so that what a tile reads of it stays in the nearest cache, unless that leaves a row of
 * `row_entries` entries too few in each slab. */
int32_t plan_slab(const geometry *g, int32_t tile_cells, int64_t row_entries);
