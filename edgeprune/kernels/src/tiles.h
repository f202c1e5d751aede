/* Tiles of columns in registers, for vectors of LANES cells; level.c includes this file once for each width.
 *
 * A tile is `vectors` vectors of consecutive output columns. For each stored block the run of input columns that it
 * multiplies starts at `offset`, so a tile reads `vectors` consecutive vectors there: no im2col. With few vectors one
 * chain of additions cannot hide an instruction's latency, so blocks alternate between several sets of sums. Sums start
 * at the bias, or, with none, go on from where they are. With an end they become outputs as they stay: the residual, if
 * there is one, is added, and they are clipped.
 *
 * A float sum depends on how many sets it is put together from. That is the layer's, not the tile's: tiles become smaller
 * where threads share them out, and what a layer computes must not depend on who computes it. */

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define V(name) JOIN(name, LANES)
#define VECTOR_BYTES (4 * LANES)

static ALWAYS_INLINE void V(put_f_)(float *to, V(vf) sum, const activation *end) {
    if (end) sum = V(clip_f)(sum, V(set_f)(end->low), V(set_f)(end->high));
    V(store_f)(to, sum);
}

static ALWAYS_INLINE void V(tile_f1_body_)(const int vectors, const int sets, const char *x, const entry_f1 *entry,
                                           uint32_t count, const float *bias, const activation *end, float *sums) {
    V(vf) sum[MOST_SUMS];
    UNROLL for (int i = 0; i < vectors * sets; i++)
        sum[i] = i >= vectors ? V(set_f)(0) : bias ? V(set_f)(*bias) : V(load_f)(sums + i * LANES);
    for (; count >= (uint32_t)sets; count -= sets, entry += sets) {
        if (vectors <= 4) __builtin_prefetch((const char *)entry + AHEAD);
        UNROLL for (int s = 0; s < sets; s++) {
            const uint64_t both = load_entry(entry + s);
            const char *from = x + (uint32_t)both;
            V(vf) weight = V(set_bits_f)((uint32_t)(both >> 32));
            UNROLL for (int v = 0; v < vectors; v++)
                sum[s * vectors + v] = V(fma_f)(V(load_f)(from + v * VECTOR_BYTES), weight, sum[s * vectors + v]);
        }
    }
    for (; count; count--, entry++) {
        V(vf) weight = V(set_f)(entry->weight);
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = V(fma_f)(V(load_f)(x + entry->offset + v * VECTOR_BYTES), weight, sum[v]);
    }
    UNROLL for (int s = 1; s < sets; s++)
        UNROLL for (int v = 0; v < vectors; v++) sum[v] = V(add_f)(sum[v], sum[s * vectors + v]);
    UNROLL for (int v = 0; v < vectors; v++) V(put_f_)(sums + v * LANES, sum[v], end);
}

static ALWAYS_INLINE void V(tile_q1_body_)(const int vectors, const int sets, const char *x, const quad_f1 *entry,
                                           uint32_t count, const int shift, const float *bias, const activation *end,
                                           float *sums) {
    V(vf) sum[MOST_SUMS];
    UNROLL for (int i = 0; i < vectors * sets; i++)
        sum[i] = i >= vectors ? V(set_f)(0) : bias ? V(set_f)(*bias) : V(load_f)(sums + i * LANES);
    for (; count; count--, entry++) {
        if (vectors <= 4) __builtin_prefetch((const char *)entry + AHEAD);
        const uint64_t index = load_entry(entry->index);
        const uint64_t weights[2] = {load_entry(entry->weight), load_entry(entry->weight + 2)};
        UNROLL for (int e = 0; e < 4; e++) {
            const char *from = x + ((index >> (16 * e) & 0xffff) << shift);
            V(vf) weight = V(set_bits_f)((uint32_t)(weights[e / 2] >> (32 * (e % 2))));
            UNROLL for (int v = 0; v < vectors; v++) {
                const int i = e % sets * vectors + v;
                sum[i] = V(fma_f)(V(load_f)(from + v * VECTOR_BYTES), weight, sum[i]);
            }
        }
    }
    UNROLL for (int s = 1; s < sets; s++)
        UNROLL for (int v = 0; v < vectors; v++) sum[v] = V(add_f)(sum[v], sum[s * vectors + v]);
    UNROLL for (int v = 0; v < vectors; v++) V(put_f_)(sums + v * LANES, sum[v], end);
}

#if MASKED_TILES && LANES == 16
#define INPUT(at, mask, v) ((mask) ? load_lanes_f16(at, (mask)[v]) : load_f16(at))
#else
#define INPUT(at, mask, v) ((void)(mask), V(load_f)(at))
#endif

/* Entries of four rows, added to their sums, with the input where its lanes' mask, if there is one, has ones. */
static ALWAYS_INLINE const entry_f4 *V(take_f4_)(const int vectors, const int sets, const char *x, const entry_f4 *entry,
                                                 uint32_t count, const uint16_t *mask, V(vf) *sum) {
    for (; count >= (uint32_t)sets; count -= sets, entry += sets) {
        __builtin_prefetch((const char *)entry + AHEAD);
        UNROLL for (int s = 0; s < sets; s++) {
            const char *from = x + entry[s].offset;
            UNROLL for (int v = 0; v < vectors; v++) {
                const char *at = from + v * VECTOR_BYTES;
                V(vf) input = INPUT(at, mask, v);
                UNROLL for (int m = 0; m < 4; m++) {
                    const int i = (s * 4 + m) * vectors + v;
                    sum[i] = V(fma_f)(input, V(set_f)(entry[s].weight[m]), sum[i]);
                }
            }
        }
    }
    for (; count; count--, entry++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const char *at = x + entry->offset + v * VECTOR_BYTES;
            V(vf) input = INPUT(at, mask, v);
            UNROLL for (int m = 0; m < 4; m++)
                sum[m * vectors + v] = V(fma_f)(input, V(set_f)(entry->weight[m]), sum[m * vectors + v]);
        }
    }
    return entry;
}

#undef INPUT

/* by_tap: null, or where the entries of each tap begin, with its masks. */
static ALWAYS_INLINE void V(tile_f4_body_)(const int vectors, const int sets, const char *x, const entry_f4 *entry,
                                           uint32_t count, const tap_masks *by_tap, const float *bias,
                                           const float *residual, const activation *end, float *sums,
                                           const int64_t pitch) {
    V(vf) sum[4 * 6];
    UNROLL for (int i = 0; i < 4 * vectors * sets; i++)
        sum[i] = V(set_f)(i < 4 * vectors ? bias[i / vectors] : 0.0f);
    if (by_tap) {
        const uint16_t *masks = by_tap->masks;
        for (int32_t tap = 0; tap < by_tap->taps; tap++, masks += by_tap->step) {
            uint16_t mask[6];
            UNROLL for (int v = 0; v < vectors; v++) mask[v] = masks[v];
            entry = V(take_f4_)(vectors, sets, x, entry, by_tap->start[tap + 1] - by_tap->start[tap], mask, sum);
        }
    } else {
        V(take_f4_)(vectors, sets, x, entry, count, 0, sum);
    }
    if (sets == 2) UNROLL for (int i = 0; i < 4 * vectors; i++) sum[i] = V(add_f)(sum[i], sum[4 * vectors + i]);
    UNROLL for (int m = 0; m < 4; m++) {
        if (residual)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[m * vectors + v] = V(add_f)(sum[m * vectors + v], V(load_f)(residual + m * pitch + v * LANES));
        UNROLL for (int v = 0; v < vectors; v++) V(put_f_)(sums + m * pitch + v * LANES, sum[m * vectors + v], end);
    }
}

static ALWAYS_INLINE void V(tile_i4_body_)(const int vectors, const char *x, const entry_i4 *entry, uint32_t count,
                                           const int32_t *bias, V(vi) *total) {
    const int sets = vectors == 1 ? 4 : vectors <= 4 ? 2 : 1;
    V(va) sum[TILE_I4];
    UNROLL for (int i = 0; i < vectors * sets; i++) sum[i] = V(start_a)(i < vectors ? *bias : 0);
    for (; count >= (uint32_t)sets; count -= sets, entry += sets) {
        if (vectors <= 4) __builtin_prefetch((const char *)entry + AHEAD);
        UNROLL for (int s = 0; s < sets; s++) {
            const uint64_t both = load_entry(entry + s);
            const char *from = x + (uint32_t)both;
            V(vw) weight = V(weight_)((int32_t)(both >> 32));
            UNROLL for (int v = 0; v < vectors; v++)
                sum[s * vectors + v] = V(dot_)(sum[s * vectors + v], V(load_i)(from + v * VECTOR_BYTES), weight);
        }
    }
    for (; count; count--, entry++) {
        V(vw) weight = V(weight_)(entry->weight);
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = V(dot_)(sum[v], V(load_i)(x + entry->offset + v * VECTOR_BYTES), weight);
    }
    UNROLL for (int s = 1; s < sets; s++)
        UNROLL for (int v = 0; v < vectors; v++) sum[v] = V(add_a)(sum[v], sum[s * vectors + v]);
    UNROLL for (int v = 0; v < vectors; v++) total[v] = V(total_)(sum[v]);
}

/* A register array needs numbers of vectors and sets that the compiler knows. Two sets are those of layers whose own tiles
 * begin at two to four vectors: such a layer has one tile, or two of four and five. */
#define ROW_CASES(body, ...) \
    switch (vectors) { \
    case 1: body(1, 4, __VA_ARGS__); break; \
    case 2: body(2, 2, __VA_ARGS__); break; \
    case 3: body(3, 2, __VA_ARGS__); break; \
    case 4: if (least <= 4) body(4, 2, __VA_ARGS__); else body(4, 1, __VA_ARGS__); break; \
    case 5: if (least <= 4) body(5, 2, __VA_ARGS__); else body(5, 1, __VA_ARGS__); break; \
    case 6: body(6, 1, __VA_ARGS__); break; \
    case 7: body(7, 1, __VA_ARGS__); break; \
    case 8: body(8, 1, __VA_ARGS__); break; \
    }

static void V(tile_f1_)(int vectors, int least, const char *x, const entry_f1 *entry, uint32_t count, const float *bias,
                        const activation *end, float *sums) {
    ROW_CASES(V(tile_f1_body_), x, entry, count, bias, end, sums)
}

static void V(tile_q1_)(int vectors, int least, const char *x, const quad_f1 *entry, uint32_t count, int shift,
                        const float *bias, const activation *end, float *sums) {
    ROW_CASES(V(tile_q1_body_), x, entry, count, shift, bias, end, sums)
}

#if !BYTES_BY_ROW
static ALWAYS_INLINE void V(tile_i4_stored_)(const int vectors, const char *x, const entry_i4 *entry, uint32_t count,
                                             const int32_t *bias, int32_t *sums) {
    V(vi) total[8];
    V(tile_i4_body_)(vectors, x, entry, count, bias, total);
    UNROLL for (int v = 0; v < vectors; v++) V(store_i)(sums + v * LANES, total[v]);
}

static void V(tile_i4_)(int vectors, const char *x, const entry_i4 *entry, uint32_t count, const int32_t *bias,
                        int32_t *sums) {
    switch (vectors) {
    case 1: V(tile_i4_stored_)(1, x, entry, count, bias, sums); break;
    case 2: V(tile_i4_stored_)(2, x, entry, count, bias, sums); break;
    case 3: V(tile_i4_stored_)(3, x, entry, count, bias, sums); break;
    case 4: V(tile_i4_stored_)(4, x, entry, count, bias, sums); break;
    case 5: V(tile_i4_stored_)(5, x, entry, count, bias, sums); break;
    case 6: V(tile_i4_stored_)(6, x, entry, count, bias, sums); break;
    case 7: V(tile_i4_stored_)(7, x, entry, count, bias, sums); break;
    case 8: V(tile_i4_stored_)(8, x, entry, count, bias, sums); break;
    }
}
#endif

#define F4_CASE(n, ...) case n: V(tile_f4_body_)(n, 1, __VA_ARGS__); break;
#if TILE_F4 > 3
#define MORE_F4_CASES(...) F4_CASE(4, __VA_ARGS__) F4_CASE(5, __VA_ARGS__) F4_CASE(6, __VA_ARGS__)
#else
#define MORE_F4_CASES(...)
#endif
#define F4_CASES(...) \
    switch (least == 1 ? 0 : vectors) { \
    case 0: V(tile_f4_body_)(1, 2, __VA_ARGS__); break; \
    F4_CASE(1, __VA_ARGS__) F4_CASE(2, __VA_ARGS__) F4_CASE(3, __VA_ARGS__) MORE_F4_CASES(__VA_ARGS__) \
    }

static void V(tile_f4_)(int vectors, int least, const char *x, const entry_f4 *entry, uint32_t count, const float *bias,
                        const activation *end, float *sums, int64_t pitch) {
    F4_CASES(x, entry, count, 0, bias, 0, end, sums, pitch)
}

#if MASKED_TILES && LANES == 16
static void V(tile_f4_masked_)(int vectors, int least, const char *x, const entry_f4 *entry, const tap_masks *by_tap,
                               const float *bias, const float *residual, const activation *end, float *sums,
                               int64_t pitch) {
    F4_CASES(x, entry, 0, by_tap, bias, residual, end, sums, pitch)
}
#endif

#undef F4_CASES
#undef MORE_F4_CASES
#undef F4_CASE
#undef ROW_CASES
#undef VECTOR_BYTES
#undef V
#undef JOIN
#undef JOIN_
