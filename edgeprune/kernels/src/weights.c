#include "weights.h"

enum { HEADER = 28, BITMAP = 0, GAPS = 1, SKIP = 15 };

static uint32_t word(const uint8_t *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Goes through the numbers of the stored blocks. A walk over checked weights ends after `count` blocks. */
typedef struct {
    const packed_weights *packed;
    uint64_t place;  /* next bit or nibble */
    uint64_t block;  /* number of the block that it stands for */
    uint32_t stored; /* blocks given so far */
} walk;

static uint64_t next_block(walk *w) {
    const packed_weights *p = w->packed;
    w->stored++;
    if (p->coding == BITMAP) {
        while (!(p->positions[w->place / 8] >> (w->place % 8) & 1)) w->place++;
        return w->place++;
    }
    for (;; w->place++) {
        const uint32_t nibble = p->positions[w->place / 2] >> (4 * (w->place % 2)) & 15;
        w->block += nibble;
        if (nibble != SKIP) break;
    }
    w->place++;
    return w->block++;
}

static const char *check_bitmap(const packed_weights *p) {
    if (p->position_bytes != (p->blocks + 7) / 8) return "the bitmap has the wrong size";
    uint64_t stored = 0;
    for (uint32_t i = 0; i < p->position_bytes; i++) stored += (uint64_t)__builtin_popcount(p->positions[i]);
    if (stored != p->count) return "the bitmap and the number of blocks differ";
    if (p->blocks % 8 && p->positions[p->position_bytes - 1] >> (p->blocks % 8)) return "the bitmap has bits past its end";
    return 0;
}

static const char *check_gaps(const packed_weights *p) {
    uint64_t block = 0, nibbles = 2 * (uint64_t)p->position_bytes, place = 0;
    uint32_t stored = 0;
    for (; place < nibbles && stored < p->count; place++) {
        const uint32_t nibble = p->positions[place / 2] >> (4 * (place % 2)) & 15;
        block += nibble;
        if (nibble == SKIP) continue;
        if (block >= p->blocks) return "the gaps reach past the last block";
        block++;
        stored++;
    }
    if (stored != p->count) return "the gaps and the number of blocks differ";
    if (nibbles - place > 1) return "bytes are left after the last gap";
    if (place < nibbles && p->positions[place / 2] >> 4) return "the unused gap is not zero";
    return 0;
}

const char *read_weights(const uint8_t *bytes, size_t size, packed_weights *out) {
    if (size < HEADER) return "the weights are shorter than their header";
    if (bytes[0] != 'E' || bytes[1] != 'P' || bytes[2] != 'W' || bytes[3] != '1') return "the weights do not begin with EPW1";
    *out = (packed_weights){
        .kind = bytes[4], .rows = bytes[5], .columns = bytes[6], .coding = bytes[7],
        .outputs = word(bytes + 8), .inputs = word(bytes + 12), .taps = word(bytes + 16), .count = word(bytes + 20),
        .position_bytes = word(bytes + 24), .positions = bytes + HEADER,
    };
    packed_weights *p = out;
    if (p->kind > KIND_INT8 || p->coding > GAPS) return "the kind or the coding of the weights is unknown";
    if (!((p->rows == 1 && (p->columns == 1 || p->columns == 4)) || (p->rows == 4 && p->columns == 1)))
        return "the block of the weights is neither 1x1 nor 4x1 nor 1x4";
    /* Below these bounds no product of sizes overflows. */
    if (p->outputs < 1 || p->outputs > 1 << 20 || p->inputs < 1 || p->inputs > 1 << 20 || p->taps < 1 ||
        p->taps > MOST_TAPS || (uint64_t)p->inputs * p->taps > 1 << 26 ||
        (uint64_t)p->outputs * p->inputs * p->taps > 1 << 28) /* a few bytes can name any shape, which takes its time */
        return "the weights' shape is out of range";
    const uint64_t rows = (uint64_t)p->rows, columns = (uint64_t)p->columns;
    p->blocks = (p->outputs + rows - 1) / rows * ((p->inputs + columns - 1) / columns) * p->taps;
    const uint64_t value_bytes = (uint64_t)p->count * rows * columns * (p->kind == KIND_FLOAT ? 4 : 1);
    if (size != HEADER + (uint64_t)p->position_bytes + value_bytes) return "the weights' size is not what their header says";
    p->values = p->positions + p->position_bytes;
    return p->coding == BITMAP ? check_bitmap(p) : check_gaps(p);
}

/* Four rows of weights as cells, [4][row_cells], cell (channel or group) * taps + tap: all that is ever dense. */
typedef struct {
    walk position;
    uint64_t pending;  /* the next stored block, not used yet, or none */
    int32_t row_cells;
    uint32_t *cells;
} window;

enum { NONE = -1 };

static void advance(window *w) {
    w->pending = w->position.stored < w->position.packed->count ? next_block(&w->position) : (uint64_t)NONE;
}

/* Fills the window with rows 4 * quad .. 4 * quad + 3. */
static void fill_window(window *w, uint32_t quad) {
    const packed_weights *p = w->position.packed;
    const uint32_t across = (p->inputs + (uint32_t)p->columns - 1) / (uint32_t)p->columns;
    const uint64_t a_row = (uint64_t)across * p->taps;
    for (int64_t i = 0; i < 4 * (int64_t)w->row_cells; i++) w->cells[i] = 0;
    for (; w->pending != (uint64_t)NONE; advance(w)) {
        const uint64_t row = w->pending / a_row * (uint64_t)p->rows;
        if (row >= 4 * ((uint64_t)quad + 1)) return;
        const uint32_t column = (uint32_t)(w->pending % a_row / p->taps) * (uint32_t)p->columns;
        const uint32_t tap = (uint32_t)(w->pending % p->taps);
        const uint64_t first = (uint64_t)(w->position.stored - 1) * (uint64_t)(p->rows * p->columns);
        for (int32_t k = 0; k < p->rows * p->columns; k++) {
            const uint32_t m = (uint32_t)(row % 4) + (p->rows == 4 ? (uint32_t)k : 0);
            const uint32_t c = column + (p->rows == 4 ? 0 : (uint32_t)k);
            if (4 * quad + m >= p->outputs || c >= p->inputs) continue;
            uint32_t *row_start = w->cells + (int64_t)m * w->row_cells;
            if (p->kind == KIND_FLOAT)
                __builtin_memcpy(row_start + (int64_t)c * p->taps + tap, p->values + 4 * (first + (uint64_t)k), 4);
            else
                row_start[(int64_t)(c / 4) * p->taps + tap] |= (uint32_t)p->values[first + (uint64_t)k] << (8 * (c % 4));
        }
    }
}

static int is_zero(uint32_t cell, int32_t kind) { return kind == KIND_FLOAT ? !(cell << 1) : !cell; }

/* What a stored block of the kernel needs: for float blocks of four rows all cells of a column, else one row's. */
static int used(const window *w, int32_t rows, int32_t row, int32_t cell) {
    const int32_t kind = w->position.packed->kind;
    if (rows == 1) return !is_zero(w->cells[(int64_t)row * w->row_cells + cell], kind);
    for (int32_t m = 0; m < 4; m++)
        if (!is_zero(w->cells[(int64_t)m * w->row_cells + cell], kind)) return 1;
    return 0;
}

static uint32_t row_cells_of(const packed_weights *p) {
    return (p->kind == KIND_INT8 ? (p->inputs + 3) / 4 : p->inputs) * p->taps;
}

size_t window_bytes(const packed_weights *p) { return 16 * (size_t)row_cells_of(p); }

static window open_window(const expansion *e) {
    window w = {.position = {.packed = e->packed}, .row_cells = (int32_t)row_cells_of(e->packed), .cells = e->window};
    advance(&w);
    return w;
}

/* Cells [first, end) of the rows, of which every `step`-th is meant. */
typedef struct {
    int32_t first, end, step;
} cell_range;

/* Number of entries up to each row block, from `count` on; returns the number of all. */
static uint32_t count_entries(window *w, int32_t rows, int32_t row_blocks, cell_range cells, uint32_t count,
                              uint32_t *start) {
    for (int32_t block = 0; block < row_blocks; block++) {
        if (rows == 4 || block % 4 == 0) fill_window(w, (uint32_t)(rows == 4 ? block : block / 4));
        start[block] = count;
        for (int32_t cell = cells.first; cell < cells.end; cell += cells.step) count += (uint32_t)used(w, rows, block % 4, cell);
    }
    start[row_blocks] = count;
    return count;
}

static void sum_rows(const window *w, int32_t quad, int32_t *row_sums) {
    for (int32_t m = 0; m < 4; m++) {
        uint32_t sum = 0; /* wraps like the kernels' own sums */
        for (int32_t cell = 0; cell < w->row_cells; cell++)
            for (int k = 0; k < 32; k += 8) sum += (uint32_t)(int8_t)(w->cells[(int64_t)m * w->row_cells + cell] >> k);
        row_sums[4 * quad + m] = (int32_t)sum;
    }
}

/* Whether all offsets are small multiples of a power of two, which lets entries stand in quads: then rows are counted
 * in those. */
static void choose_quads(const packed_weights *p, const int64_t *tap_offset, int64_t channel_bytes, sparse_conv *out) {
    int64_t all = channel_bytes, most = 0;
    for (uint32_t tap = 0; tap < p->taps; tap++) {
        all |= tap_offset[tap];
        most = tap_offset[tap] > most ? tap_offset[tap] : most;
    }
    most += (p->inputs - 1) * channel_bytes;
    out->shift = __builtin_ctzll((uint64_t)all);
    out->in_quads = p->kind == KIND_FLOAT && out->rows == 1 && most >> out->shift <= 0xffff;
    if (!out->in_quads) return;
    uint32_t quads = 0;
    for (int32_t slab = 0; slab < out->slabs; slab++) {
        uint32_t *start = out->start + (int64_t)slab * (out->row_blocks + 1), from = start[0];
        for (int32_t row = 0; row < out->row_blocks; row++) {
            const uint32_t count = start[row + 1] - from;
            from = start[row + 1];
            start[row] = quads;
            quads += (count + 3) / 4;
        }
        start[out->row_blocks] = quads;
    }
}

/* The entry numbered n of those that begin with quad `from`. */
static void put_in_quad(quad_f1 *quads, uint32_t from, uint32_t n, uint32_t index, const uint32_t *value) {
    quad_f1 *quad = quads + from + n / 4;
    quad->index[n % 4] = (uint16_t)index;
    __builtin_memcpy(quad->weight + n % 4, value, 4);
}

/* Fills up a row's last quad, of which `used` entries are there: the largest weight is halved between its place and one that
 * is left. No zero weights: those would make NaN of an infinite input. */
static void fill_quad(quad_f1 *quad, uint32_t used) {
    for (uint32_t place = used; place < 4; place++) {
        uint32_t from = 0;
        for (uint32_t i = 1; i < place; i++)
            if (quad->weight[i] * quad->weight[i] > quad->weight[from] * quad->weight[from]) from = i;
        const float all = quad->weight[from], half = all * 0.5f;
        quad->index[place] = quad->index[from];
        quad->weight[place] = half;
        quad->weight[from] = half == all ? all : all - half; /* itself where it is infinite */
    }
}

static cell_range slab_cells(const packed_weights *p, int32_t slab_channels, int32_t slab, int32_t row_cells) {
    const int64_t cells = (int64_t)slab_channels * p->taps, first = cells * slab;
    return (cell_range){(int32_t)first, (int32_t)(first + cells < row_cells ? first + cells : row_cells), 1};
}

/* Where a cell's run starts: [channel of the cell][tap]. */
typedef struct {
    const int64_t *tap_offset;
    int64_t channel_bytes;
    int32_t taps;
} runs;

/* Entries of one row block in a range of cells; returns how many. */
static uint32_t put_entries(const window *w, int32_t block, cell_range cells, runs at, uint32_t from, sparse_conv *out) {
    const int32_t row = out->rows == 4 ? 0 : block % 4;
    uint32_t n = 0;
    for (int32_t cell = cells.first; cell < cells.end; cell += cells.step) {
        if (!used(w, out->rows, row, cell)) continue;
        const int32_t offset = (int32_t)(cell / at.taps * at.channel_bytes + at.tap_offset[cell % at.taps]);
        const uint32_t *value = w->cells + (int64_t)row * w->row_cells + cell;
        if (out->rows == 4) {
            entry_f4 *entry = (entry_f4 *)out->entries + from + n;
            entry->offset = offset;
            for (int m = 0; m < 4; m++) __builtin_memcpy(entry->weight + m, value + (int64_t)m * w->row_cells, 4);
        } else if (out->in_quads) {
            put_in_quad(out->entries, from, n, (uint32_t)offset >> out->shift, value);
        } else {
            entry_i4 entry = {offset, 0};
            __builtin_memcpy(&entry.weight, value, 4);
            __builtin_memcpy((entry_i4 *)out->entries + from + n, &entry, sizeof entry);
        }
        n++;
    }
    if (out->in_quads && n % 4) fill_quad((quad_f1 *)out->entries + from + n / 4, n % 4);
    return n;
}

static void put_by_tap(const window *w, int32_t block, runs at, uint32_t from, sparse_conv *out) {
    for (int32_t tap = 0; tap < at.taps; tap++) {
        out->tap_start[block * at.taps + tap] = from;
        from += put_entries(w, block, (cell_range){tap, w->row_cells, at.taps}, at, from, out);
    }
    out->tap_start[(block + 1) * at.taps] = from;
}

const char *expand_conv(const expansion *e, const int64_t *tap_offset, int64_t channel_bytes, int32_t slab,
                        sparse_conv *out, int32_t *row_sums) {
    const packed_weights *p = e->packed;
    window w = open_window(e);
    const int32_t rows = e->shared || (p->kind == KIND_FLOAT && p->rows == 4) ? 4 : 1;
    const int32_t channels = w.row_cells / (int32_t)p->taps;
    const int32_t quads = (int32_t)((p->outputs + 3) / 4), row_blocks = rows == 4 ? quads : 4 * quads;
    const runs at = {tap_offset, channel_bytes, (int32_t)p->taps};
    const int by_tap = slab == 0;
    if (by_tap) slab = channels;
    *out = (sparse_conv){.kind = p->kind, .rows = rows, .outputs = (int32_t)p->outputs, .row_blocks = row_blocks,
                         .slabs = (channels + slab - 1) / slab, .taps = by_tap ? at.taps : 0};
    out->start = e->get(e->owner, 4 * (size_t)out->slabs * ((size_t)row_blocks + 1));
    if (by_tap) out->tap_start = e->get(e->owner, 4 * ((size_t)row_blocks * p->taps + 1));
    if (!out->start || (by_tap && !out->tap_start)) return "out of memory for the weights";
    uint32_t count = 0;
    for (int32_t i = 0; i < out->slabs; i++) {
        const cell_range cells = slab_cells(p, slab, i, w.row_cells);
        w = open_window(e);
        count = count_entries(&w, rows, row_blocks, cells, count, out->start + (int64_t)i * (row_blocks + 1));
    }
    choose_quads(p, tap_offset, channel_bytes, out);
    count = out->start[(int64_t)out->slabs * (row_blocks + 1) - 1];
    out->entries = e->get(e->owner, count * (out->in_quads ? sizeof(quad_f1) : rows == 4 ? sizeof(entry_f4) : sizeof(entry_f1)));
    if (!out->entries) return "out of memory for the weights";
    for (int32_t i = 0; i < out->slabs; i++) {
        const uint32_t *start = out->start + (int64_t)i * (row_blocks + 1);
        const cell_range cells = slab_cells(p, slab, i, w.row_cells);
        w = open_window(e);
        for (int32_t block = 0; block < row_blocks; block++) {
            if (rows == 4 || block % 4 == 0) {
                fill_window(&w, (uint32_t)(rows == 4 ? block : block / 4));
                if (row_sums && i == 0) sum_rows(&w, rows == 4 ? block : block / 4, row_sums);
            }
            if (by_tap)
                put_by_tap(&w, block, at, start[block], out);
            else
                put_entries(&w, block, cells, at, start[block], out);
        }
    }
    return 0;
}

/* Steps of each window of a slice of rows: the blocks that the fullest row has there. `counts`: [windows], of one row. */
static void count_slices(window *w, int32_t row_blocks, slices *out, uint32_t *counts) {
    const uint32_t slice_count = (uint32_t)(row_blocks + SLICE_ROWS - 1) / SLICE_ROWS, windows = (uint32_t)out->windows;
    for (uint32_t i = 0; i <= slice_count * windows; i++) out->start[i] = 0;
    for (int32_t row = 0; row < row_blocks; row++) {
        if (row % 4 == 0) fill_window(w, (uint32_t)row / 4);
        for (uint32_t i = 0; i < windows; i++) counts[i] = 0;
        for (int32_t cell = 0; cell < w->row_cells; cell++) counts[cell / SLICE_CELLS] += (uint32_t)used(w, 1, row % 4, cell);
        uint32_t *most = out->start + 1 + (uint32_t)row / SLICE_ROWS * windows;
        for (uint32_t i = 0; i < windows; i++) most[i] = counts[i] > most[i] ? counts[i] : most[i];
    }
    for (uint32_t i = 0; i < slice_count * windows; i++) out->start[i + 1] += out->start[i];
}

static const char *expand_slices(const expansion *e, sparse_gemm *out, int32_t *row_sums) {
    window w = open_window(e);
    slices *s = &out->by_lane;
    s->windows = (w.row_cells + SLICE_CELLS - 1) / SLICE_CELLS;
    const size_t cells = (size_t)((out->row_blocks + SLICE_ROWS - 1) / SLICE_ROWS) * (size_t)s->windows;
    s->start = e->get(e->owner, 4 * (cells + 1));
    uint32_t *counts = e->get(e->owner, 4 * (size_t)s->windows);
    if (!s->start || !counts) return "out of memory for the weights";
    count_slices(&w, out->row_blocks, s, counts);
    const size_t slots = (size_t)s->start[cells] * SLICE_ROWS;
    s->place = e->get(e->owner, slots);
    s->weight = e->get(e->owner, 4 * slots);
    if (!s->place || !s->weight) return "out of memory for the weights";
    for (size_t i = 0; i < slots; i++) {
        s->place[i] = 0;
        s->weight[i] = 0;
    }
    w = open_window(e);
    for (int32_t row = 0; row < out->row_blocks; row++) {
        if (row % 4 == 0) {
            fill_window(&w, (uint32_t)row / 4);
            sum_rows(&w, row / 4, row_sums);
        }
        const uint32_t *start = s->start + (size_t)(row / SLICE_ROWS) * (size_t)s->windows;
        uint32_t taken = 0;
        for (int32_t cell = 0; cell < w.row_cells; cell++) {
            if (cell % SLICE_CELLS == 0) taken = 0;
            if (!used(&w, 1, row % 4, cell)) continue;
            const size_t slot = ((size_t)start[cell / SLICE_CELLS] + taken++) * SLICE_ROWS + (size_t)row % SLICE_ROWS;
            s->place[slot] = (uint8_t)(cell % SLICE_CELLS);
            __builtin_memcpy(s->weight + slot, w.cells + (int64_t)(row % 4) * w.row_cells + cell, 4);
        }
    }
    return 0;
}

const char *expand_gemm(const expansion *e, sparse_gemm *out, int32_t *row_sums, int32_t by_lane) {
    const packed_weights *p = e->packed;
    if (p->taps != 1) return "the weights of a matrix product have one tap";
    const uint32_t cells = p->kind == KIND_INT8 ? (p->inputs + 3) / 4 : p->inputs;
    if (cells > 1 << 16) return "a sparse matrix product takes up to 65536 inputs (int8: 262144)";
    window w = open_window(e);
    const int32_t rows = p->kind == KIND_FLOAT && p->rows == 4 ? 4 : 1;
    const int32_t quads = (int32_t)((p->outputs + 3) / 4), row_blocks = rows == 4 ? quads : 4 * quads;
    *out = (sparse_gemm){.kind = p->kind, .rows = rows, .outputs = (int32_t)p->outputs, .inputs = (int32_t)p->inputs,
                         .row_blocks = row_blocks};
    out->start = e->get(e->owner, 4 * ((size_t)row_blocks + 1));
    if (!out->start) return "out of memory for the weights";
    const cell_range whole = {0, w.row_cells, 1};
    const uint32_t count = count_entries(&w, rows, row_blocks, whole, 0, out->start);
    if (by_lane && p->kind == KIND_INT8) return expand_slices(e, out, row_sums);
    out->index = e->get(e->owner, 2 * (size_t)count);
    out->values = e->get(e->owner, 4 * (size_t)rows * count);
    if (!out->index || !out->values) return "out of memory for the weights";
    w = open_window(e);
    uint32_t n = 0;
    for (int32_t block = 0; block < row_blocks; block++) {
        if (rows == 4 || block % 4 == 0) {
            fill_window(&w, (uint32_t)(rows == 4 ? block : block / 4));
            if (row_sums) sum_rows(&w, block / 4, row_sums);
        }
        for (int32_t cell = 0; cell < w.row_cells; cell++) {
            if (!used(&w, rows, block % 4, cell)) continue;
            out->index[n] = (uint16_t)cell;
            for (int m = 0; m < rows; m++) {
                const int32_t row = rows == 4 ? m : block % 4;
                __builtin_memcpy((uint32_t *)out->values + (size_t)n * (size_t)rows + m,
                                 w.cells + (int64_t)row * w.row_cells + cell, 4);
            }
            n++;
        }
    }
    return 0;
}
