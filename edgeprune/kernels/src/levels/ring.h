/* What depthwise convolutions read: rows of one channel, padded, in a ring that stays in the nearest cache. There is little
 * work for each byte, so what counts is that a byte is touched near the core and once; a row enters the ring when the first
 * output needs it. */
#ifndef EDGEPRUNE_RING_H
#define EDGEPRUNE_RING_H

#include "cells.h"

/* Rows of one channel (int8: of one group): row r of the padded plane is ring[r % slots], or all padding. */
typedef struct {
    const depthwise_job *job;
    const uint32_t *source; /* the channel's plane */
    uint32_t *ring;
    int32_t slots, row_cells, pad_top, height; /* the job's: no store of an output can change these copies */
    int32_t next; /* first row that has not entered the ring */
} padded_rows;

/* A part of the work: some rows of some channels. */
typedef struct {
    int32_t channel, end_channel, row, end_row;
} piece;

#define piece_of_part OF_LEVEL(piece_of_part)
piece piece_of_part(const depthwise_job *job, size_t part);

static inline padded_rows open_rows(const depthwise_job *job, size_t part) {
    const geometry *g = job->shape;
    uint32_t *ring = (uint32_t *)job->copies + part * (size_t)(job->slots + 1) * job->row_cells;
    /* The last slot is padding alone. */
    fill_cells(ring + (int64_t)job->slots * job->row_cells, job->row_cells, job->fill);
    return (padded_rows){job, 0, ring, job->slots, job->row_cells, g->pad_top, g->height, 0};
}

/* Once for all channels: what enters the ring leaves the padding as it is. */
#define pad_ring OF_LEVEL(pad_ring)
void pad_ring(BORROWED const padded_rows *rows);

/* Lets as many rows of the padded plane enter as fit while `first` and those after it stay: a vector that is read soon
 * after parts of it were written waits for them. */
#define enter_rows OF_LEVEL(enter_rows)
void enter_rows(BORROWED padded_rows *rows, int32_t first);

static inline void begin_channel(padded_rows *rows, int32_t channel) {
    const geometry *g = rows->job->shape;
    rows->source = (const uint32_t *)rows->job->source + (int64_t)channel * g->height * g->width;
    rows->next = 0;
}

static inline const uint32_t *padded_row(const padded_rows *rows, int32_t row) {
    const int32_t outside = (uint32_t)(row - rows->pad_top) >= (uint32_t)rows->height;
    return rows->ring + (int64_t)(outside ? rows->slots : row & (rows->slots - 1)) * rows->row_cells;
}

#endif
