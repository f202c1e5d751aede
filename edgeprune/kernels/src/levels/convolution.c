/* How threads take a convolution: by tiles and parts of the rows, or by chunks with the copies that they need. */
#include "convolution.h"
#include "copies.h"

/* Behind a set's copies; null where one slab is all. */
static float *sums_so_far(const conv_job *job, int32_t set, int32_t tile_number) {
    if (job->weights->slabs == 1) return 0;
    float *first = (float *)(job->copies + set * job->set_bytes + job->copy_bytes);
    return first + tile_number * partial_sums(job->weights);
}

TASK(conv) {
    const conv_job *job = data;
    const sparse_conv *w = job->weights;
    note_thread(job->threads, 0);
    const int32_t part = (int32_t)(number % job->parts), step = w->kind == KIND_INT8 ? 4 : 1;
    const int32_t first = part_start(w->start, w->row_blocks, step, job->parts, part);
    const int32_t end = part_start(w->start, w->row_blocks, step, job->parts, part + 1);
    const int32_t tile_number = (int32_t)(number / job->parts);
    if (w->kind == KIND_INT8)
        conv_groups(job, tile_number, job->input, first / 4, end / 4);
    else
        conv_rows(job, tile_number, job->input, first, end, sums_so_far(job, 0, tile_number));
}

/* Bytes to ask for in advance. */
enum { LINES_AHEAD = 4 << 10 };

static void copy_for_chunk(const conv_job *job, uint32_t *to, row_range rows) {
    const geometry *g = job->shape;
    const int64_t plane = 4 * (int64_t)g->height * g->width, row = 4 * (int64_t)g->width;
    const int32_t padded = g->form == MASKED ? 0 : g->pad_top;
    const int64_t first = row * clamp_int(rows.first * g->stride_y - padded, 0, g->height);
    const int64_t end = row * clamp_int(rows.end * g->stride_y - padded + 1, 0, g->height), bytes = end - first;
    const int64_t ahead = bytes > 0 && bytes <= LINES_AHEAD ? LINES_AHEAD / bytes : 0;
    const char *from = (const char *)job->source + first;
    copy_plan plan;
    plan_copy(g, job->fill, rows, &plan);
    for (int64_t channel = 0; channel < ahead && channel < g->channels; channel++)
        prefetch_lines(from + channel * plane, bytes);
    for (int64_t channel = 0; channel < g->channels; channel++) {
        if (ahead && channel + ahead < g->channels) prefetch_lines(from + (channel + ahead) * plane, bytes);
        copy_channel(&plan, job->source, channel, to + channel * g->views * g->plane);
    }
}

/* The copies of the calling thread, made when it takes its first chunk of an example. `wanted`: the set to copy to, if it
 * is free; what the same core wrote the last time is still near it. */
static const char *own_copies(const conv_job *job, int32_t wanted) {
    thread_set *threads = job->threads;
    int32_t number = note_thread(threads, wanted);
    if (number < job->copy_sets) {
        char *copies = job->copies + number * job->set_bytes;
        if (!__atomic_load_n(&threads->copied[number], __ATOMIC_RELAXED)) {
            copy_for_chunk(job, (uint32_t *)copies, all_rows(job->shape));
            __atomic_store_n(&threads->copied[number], 1, __ATOMIC_RELEASE);
        }
        return copies;
    }
    /* More threads than there were: this one reads what the first one copies. */
    while (!__atomic_load_n(&threads->copied[0], __ATOMIC_ACQUIRE)) let_others_run();
    return job->copies;
}

/* A piece of a layer with the copies that it needs. What another core has just written comes slowly, and a sparse layer
 * computes little with it, so no thread reads what another one copied. Windows are shared out by place, like the layers
 * before and after; small planes by output channel. */
TASK(conv_chunk) {
    const conv_job *job = data;
    const geometry *g = job->shape;
    const sparse_conv *w = job->weights;
    const int32_t step = w->kind == KIND_INT8 ? 4 : 1, chunk = (int32_t)number;
    const int32_t set = chunk * job->copy_sets / job->chunks;
    float *partial = sums_so_far(job, set, 0);
    int32_t first_tile = 0, end_tile = job->tiles, first = 0, end = w->row_blocks;
    const char *input = job->source;
    if (job->by_place) {
        first_tile = (int32_t)((int64_t)job->tiles * chunk / job->chunks);
        end_tile = (int32_t)((int64_t)job->tiles * (chunk + 1) / job->chunks);
        if (job->copied) {
            char *copies = job->copies + set * job->set_bytes;
            copy_for_chunk(job, (uint32_t *)copies, rows_of_tiles(job, first_tile, end_tile));
            input = copies;
        }
    } else {
        first = part_start(w->start, w->row_blocks, step, job->chunks, chunk);
        end = part_start(w->start, w->row_blocks, step, job->chunks, chunk + 1);
        if (job->copied)
            input = own_copies(job, set);
        else if (job->copy_sets > 1 && chunk == set * job->chunks / job->copy_sets)
            prefetch_lines(input, 4 * g->plane * g->channels); /* the first of a thread's chunks */
    }
    for (int32_t t = first_tile; t < end_tile; t++) {
        if (w->kind == KIND_INT8)
            conv_groups(job, t, input, first / 4, end / 4);
        else
            conv_rows(job, t, input, first, end, partial);
    }
}
