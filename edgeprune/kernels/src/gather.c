/* Operators that only choose from packed tensors: channels, rows and columns, by indices that are known in advance. */
#include "kernel.h"

enum { MOST_CHANNELS = 1 << 20, MOST_INDEX = 1 << 24 };

typedef struct {
    int32_list channels; /* of each input */
    int32_t all, taken;  /* channels of all inputs together, and of the output */
    int32_t least[2];    /* rows and columns that the inputs must have */
    gather_job job;      /* what of it is the same in all runs */
} gathering;

/* Input and channel of it for a channel of all inputs. */
static cell_part place_of(const gathering *g, int32_t channel) {
    cell_part place = {0};
    while (channel >= g->channels.values[place.input]) channel -= g->channels.values[place.input++];
    place.group = channel / 4;
    place.bytes = channel % 4;
    return place;
}

/* Adds a channel as byte `to` of the cell whose parts begin at `parts`; returns how many these are then. */
static uint32_t add_channel(cell_part *parts, uint32_t count, cell_part place, int32_t to) {
    const uint32_t mask = 255u << (8 * to);
    place.bytes = to - place.bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].input != place.input || parts[i].group != place.group || parts[i].bytes != place.bytes) continue;
        parts[i].mask |= mask;
        return count;
    }
    place.mask = mask;
    parts[count] = place;
    return count + 1;
}

/* indices: null for all channels in their order. */
static const char *plan_channels(kernel *k, gathering *g, const int32_t *indices) {
    const int32_t groups = groups_of_four(g->taken);
    cell_part *parts = own(k, 4 * (size_t)groups * sizeof *parts);
    uint32_t *first = own(k, ((size_t)groups + 1) * sizeof *first), *filled = own(k, (size_t)groups * sizeof *filled);
    if (!parts || !first || !filled) return "out of memory";
    uint32_t total = 0;
    for (int32_t group = 0; group < groups; group++) {
        uint32_t count = 0;
        first[group] = total;
        filled[group] = 0;
        for (int32_t to = 0; to < 4 && 4 * group + to < g->taken; to++) {
            const int32_t channel = indices ? indices[4 * group + to] : 4 * group + to;
            if (channel < 0)
                filled[group] |= g->job.fill & 255u << (8 * to);
            else
                count = add_channel(parts + total, count, place_of(g, channel), to);
        }
        /* What lies past the last channel is no matter: then the cell is copied as it is. */
        const int32_t real = g->taken - 4 * group;
        if (count == 1 && real < 4 && parts[total].bytes == 0 && parts[total].mask == (1u << (8 * real)) - 1)
            parts[total].mask = ~0u;
        total += count;
    }
    first[groups] = total;
    g->job.parts = parts;
    g->job.first_part = first;
    g->job.filled = filled;
    g->job.groups = groups;
    return 0;
}

/* indices: none for an axis that stays as it is, whose size each run says. least: what the inputs' size must be. */
static void plan_axis(axis *a, int32_list indices, int32_t *least) {
    const int32_t *index = indices.values, size = indices.count;
    int32_t before = 0, end = size;
    *least = 1;
    *a = (axis){.form = RUN, .size = size, .index = size ? index : 0};
    if (!size) return;
    for (int32_t i = 0; i < size; i++)
        if (index[i] >= *least) *least = index[i] + 1;
    while (before < size && index[before] < 0) before++;
    while (end > before && index[end - 1] < 0) end--;
    const int32_t count = end - before;
    a->before = before;
    a->count = count;
    a->first = count ? index[before] : 0;
    int is_run = 1, is_even = 1, is_twice = count % 2 == 0;
    for (int32_t i = 0; i < count; i++) {
        is_run &= index[before + i] == a->first + i;
        is_even &= index[before + i] == a->first + 2 * i;
        is_twice &= index[before + i] == a->first + i / 2;
    }
    a->form = is_run ? RUN : is_even ? EVEN : is_twice ? TWICE : ANY;
}

static axis whole_axis(axis planned, int32_t size) {
    return planned.size ? planned : (axis){.form = RUN, .size = size, .count = size};
}

/* Where input `number` lies. shape: null, or the first input, which it must be like; its own is put into `x`. */
static OrtStatus *open_input(const kernel *k, OrtKernelContext *context, size_t number, const tensor *shape, tensor *x) {
    const gathering *g = k->state;
    TRY(run_input(k, context, number, x));
    int fits = (x->rank == 4 || x->rank == 5) && x->dims[1] == groups_of_four(g->channels.values[number]) &&
               x->dims[x->rank - 1] == 4;
    if (fits && shape) {
        fits = x->rank == shape->rank;
        for (size_t i = 0; fits && i < x->rank; i++) fits = i == 1 || x->dims[i] == shape->dims[i];
    }
    return fits ? 0 : fail(k->api, k->name, "an input is not packed, or is not as large as the others and input_channels say");
}

static OrtStatus *compute_gather(kernel *k, OrtKernelContext *context) {
    const gathering *g = k->state;
    gather_job job = g->job;
    tensor first, x;
    void *y = 0;
    TRY(open_input(k, context, 0, 0, &first));
    const int is_plane = first.rank == 5;
    const int64_t height = is_plane ? first.dims[2] : 1, width = first.dims[is_plane ? 3 : 2];
    if (height < g->least[0] || width < g->least[1] || height > MOST_INDEX || width > MOST_INDEX || (!is_plane && job.rows.size))
        return fail(k->api, k->name, "X has no such rows or columns as the indices say");
    job.height = (int32_t)height;
    job.width = (int32_t)width;
    job.rows = whole_axis(job.rows, job.height);
    job.columns = whole_axis(job.columns, job.width);
    int64_t dims[5] = {first.dims[0], job.groups, job.rows.size, job.columns.size, 4};
    if (!is_plane) dims[2] = dims[3], dims[3] = 4;
    for (int32_t i = 0; i < g->channels.count; i++) {
        TRY(open_input(k, context, (size_t)i, &first, &x));
        job.input[i] = x.data;
    }
    TRY(run_output(k, context, dims, first.rank, &y));
    job.output = y;
    const int64_t cells = (int64_t)job.rows.size * job.columns.size * job.groups;
    job.pieces = cells > 4096 && job.groups > 1 ? (job.groups < PIECES ? job.groups : PIECES) : 1;
    for (int64_t n = 0; n < dims[0]; n++) {
        TRY(k->api->KernelContext_ParallelFor(context, k->level->gather, (size_t)job.pieces, 0, &job));
        for (int32_t i = 0; i < g->channels.count; i++)
            job.input[i] += groups_of_four(g->channels.values[i]) * height * width;
        job.output += cells;
    }
    return 0;
}

static const char *read_channels(kernel *k, const OrtKernelInfo *info, gathering *g) {
    size_t inputs = 0;
    CHECK(long_list(k, info, "input_channels", 1, MOST_CHANNELS, &g->channels));
    if (!g->channels.count) return "input_channels is missing";
    if (!succeeded(k->api, k->api->KernelInfo_GetInputCount(info, &inputs)) || inputs != (size_t)g->channels.count)
        return "input_channels must hold one integer for each input";
    if (g->channels.count > MOST_JOINED) return "there are too many inputs";
    for (int32_t i = 0; i < g->channels.count; i++) {
        g->all += g->channels.values[i];
        if (g->all > MOST_CHANNELS) return "the inputs have too many channels";
    }
    return 0;
}

const char *create_gather(kernel *k, const OrtKernelInfo *info) {
    gathering *g = own_state(k, sizeof *g);
    if (!g) return "out of memory";
    k->compute = compute_gather;
    int32_list channels, rows, columns;
    int32_t fill = 0;
    const point points[] = {{"x_zero_point", &fill, 0}};
    CHECK(read_sign(k, info));
    CHECK(read_points(k, info, points, 1));
    g->job.fill = (uint32_t)(fill & 255) * 0x01010101u;
    CHECK(read_channels(k, info, g));
    CHECK(long_list(k, info, "channel_indices", -1, g->all - 1, &channels));
    CHECK(long_list(k, info, "row_indices", -1, MOST_INDEX - 1, &rows));
    CHECK(long_list(k, info, "column_indices", -1, MOST_INDEX - 1, &columns));
    plan_axis(&g->job.rows, rows, g->least);
    plan_axis(&g->job.columns, columns, g->least + 1);
    g->taken = channels.count ? channels.count : g->all;
    return plan_channels(k, g, channels.count ? channels.values : 0);
}
