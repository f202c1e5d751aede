/* As much of ONNX Runtime as the operators see, for running them under sanitizers: every tensor and every allocation is
 * a malloc of exactly its size, so that no read past an end goes unnoticed. */
#pragma once
#include "ort.h"

enum { MOST_DIMS = 8, MOST_INPUTS = 8, MOST_OUTPUTS = 3, MOST_ATTRIBUTES = 24, MOST_INTS = 256 };

struct OrtValue {
    char name[48];
    int type, constant;
    size_t rank;
    int64_t dims[MOST_DIMS];
    void *data;
};

enum { ATTRIBUTE_INT, ATTRIBUTE_FLOAT, ATTRIBUTE_INTS };

typedef struct {
    char name[32];
    uint32_t kind, count;
    int64_t ints[MOST_INTS];
    float number;
} attribute;

typedef struct OrtKernelInfo {
    char op[32];
    uint32_t input_count, output_count, attribute_count;
    OrtValue *input[MOST_INPUTS]; /* null: an optional one left out */
    attribute attribute[MOST_ATTRIBUTES];
    OrtValue output[MOST_OUTPUTS];
    int left_out[MOST_OUTPUTS]; /* 1: the node does not name this output */
} node;

struct OrtStatus {
    int code;
    char message[256];
};

/* threads: 1 runs the tasks of a ParallelFor in order, -1 in reverse, more in as many threads; 0 in order, and from a
 * kernel's fifth run on all tasks of a loop in one other thread, each loop in its own. fail_at: the number of the
 * allocation that fails, or -1; silently: by a null pointer in place of a status. more_runs: of each kernel, after the
 * first; run: which one it is, from 0. The rest is counted. */
typedef struct {
    int threads;
    int run;
    int64_t fail_at;
    int silently;
    int more_runs;
    int64_t allocations, blocks, statuses, infos;
} runtime_state;
extern runtime_state runtime;

/* No allocation may be larger: the cases need less than a megabyte, whatever a damaged file says. */
#define LARGEST_ALLOCATION ((size_t)1 << 24)

_Noreturn void give_up(const char *what, const char *name);
static inline size_t element_bytes(int type) { return type == ORT_FLOAT || type == ORT_INT32 ? 4 : 1; }
static inline int64_t elements_of(const OrtValue *value) {
    int64_t count = 1;
    for (size_t i = 0; i < value->rank; i++) count *= value->dims[i];
    return count;
}
/* Registers the operators, from several threads at once; gives up unless there is one domain for all. */
void load_operators(void);
/* Creates, runs and destroys the operator of a node; null, or the status, which the caller releases with
 * release_status. Gives up if anything leaks. */
OrtStatus *run_node(node *n);
/* Several runs of one kernel at the same time; gives up unless each has the output that the node has by now. */
void run_overlapping(const node *n);
void release_status(OrtStatus *status);
void free_outputs(node *n);
