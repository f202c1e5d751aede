/* Matrix products of a level: examples one by one (product.c), or side by side (panels.c). */
#ifndef EDGEPRUNE_PRODUCT_H
#define EDGEPRUNE_PRODUCT_H

#include "level.h"

/* Rows of weights [first, end), by blocks of them, for all examples of panels. */
#define gemm_batch OF_LEVEL(gemm_batch)
void gemm_batch(const gemm_job *job, int32_t first, int32_t end);

/* Cells of an example's inputs. */
static inline int32_t input_cells(const sparse_gemm *w) { return w->kind == KIND_INT8 ? (w->inputs + 3) / 4 : w->inputs; }

static inline void store_outputs(const gemm_job *job, int64_t example, int32_t group, uint32_t cell) {
    const int32_t outputs = job->weights->outputs, rest = outputs - 4 * group;
    uint8_t *y = (uint8_t *)job->output + example * outputs + 4 * group;
    cell ^= job->flip;
    for (int k = 0; k < 4 && k < rest; k++) y[k] = (uint8_t)(cell >> (8 * k));
}

static inline float clip(float value, const activation *end) {
    value = value < end->low ? end->low : value;
    return value > end->high ? end->high : value;
}

#endif
