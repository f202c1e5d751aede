/* Copies of an input's planes, from which windows read runs of cells without asking where the edges are. */
#ifndef EDGEPRUNE_COPIES_H
#define EDGEPRUNE_COPIES_H

#include "level.h"
#include "tiles.h"

/* Cells of a copied plane, [first, end). */
typedef struct {
    int64_t first, end;
} cell_range;

/* How one view is copied, whatever the channel: `head` and `tail` are filled, then come the rows between them, by lines
 * of whole vectors, where the next line writes over what was too much of the one before. A line is a row, or all rows if
 * they follow one another as in the input; that one begins at a whole vector of the copy. */
typedef struct {
    cell_range head, tail;
    int32_t first_row, end_row, first, end; /* rows and columns that hold cells of the input */
    int64_t lines, vectors, skip;           /* vectors of a line, and its cells before the first row; no lines: by row */
    int64_t line, source_line;              /* cells from one line to the next here and in the input */
    int64_t source, reach;                  /* where the first row begins in the input, cells read from there on */
    W(vi) left, inner, right;               /* cells of the input in a line's first, inner and last vectors */
} view_plan;

typedef struct {
    const geometry *shape;
    uint32_t fill;
    view_plan view[MAX_VIEWS];
} copy_plan;

/* How these rows of the copies are made, whatever the channel. */
#define plan_copy OF_LEVEL(plan_copy)
void plan_copy(const geometry *g, uint32_t fill, row_range rows, BORROWED copy_plan *plan);

/* All copies of one channel of a tensor. */
#define copy_channel OF_LEVEL(copy_channel)
void copy_channel(BORROWED const copy_plan *plan, const void *source, int64_t channel, uint32_t *to);

#endif
