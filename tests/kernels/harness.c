/* Runs the operators outside of ONNX Runtime, for the sanitizers. Case files: case_file.py writes them.
 *
 *   harness run CASES RESULTS THREADS   the nodes in order, and the outputs into a file
 *   harness overlap CASES               every node in several threads at the same time
 *   harness starve CASES                every node with each of its allocations failing, one after another
 *   harness fuzz CASES SEED COUNT       nodes with damaged weights, attributes and tensors; counts by operator */
#include "damage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

typedef struct {
    uint32_t tensor_count, node_count, output_count;
    OrtValue *tensors; /* the inputs and initializers, then room for the outputs of each node */
    node *nodes;
    char (*outputs)[48];
} cases;

/* ---- case files ---- */

static void get(FILE *file, void *to, size_t bytes) {
    if (fread(to, 1, bytes, file) != bytes) give_up("the case file is too short", "");
}
static uint32_t get_count(FILE *file) {
    uint32_t count;
    get(file, &count, 4);
    return count;
}
static void get_name(FILE *file, char *to, size_t room) {
    const uint32_t length = get_count(file);
    if (length >= room) give_up("a name is too long", "");
    get(file, to, length);
    to[length] = 0;
}

static void get_tensor(FILE *file, OrtValue *out) {
    get_name(file, out->name, sizeof out->name);
    out->type = (int)get_count(file);
    out->constant = (int)get_count(file);
    out->rank = get_count(file);
    get(file, out->dims, 8 * out->rank);
    const size_t bytes = element_bytes(out->type) * (size_t)elements_of(out);
    out->data = malloc(bytes);
    get(file, out->data, bytes);
}

static uint32_t room(const cases *all) { return all->tensor_count + MOST_OUTPUTS * all->node_count; }
static OrtValue *outputs_of(const cases *all, uint32_t number) { return all->tensors + all->tensor_count + MOST_OUTPUTS * number; }

static OrtValue *find_tensor(const cases *all, const char *name) {
    for (uint32_t i = 0; i < room(all); i++)
        if (!strcmp(all->tensors[i].name, name)) return all->tensors + i;
    give_up("no such tensor", name);
}

static void get_node(FILE *file, cases *all, uint32_t number) {
    node *n = all->nodes + number;
    char name[48];
    get_name(file, n->op, sizeof n->op);
    n->input_count = get_count(file);
    for (uint32_t i = 0; i < n->input_count; i++) {
        get_name(file, name, sizeof name);
        n->input[i] = *name ? find_tensor(all, name) : 0; /* one that is left out */
    }
    n->attribute_count = get_count(file);
    for (uint32_t i = 0; i < n->attribute_count; i++) {
        attribute *a = n->attribute + i;
        get_name(file, a->name, sizeof a->name);
        a->kind = get_count(file);
        a->count = get_count(file);
        get(file, &a->number, 4);
        get(file, a->ints, 8 * a->count);
    }
    n->output_count = get_count(file);
    for (uint32_t i = 0; i < n->output_count; i++) {
        get_name(file, outputs_of(all, number)[i].name, 48);
        n->left_out[i] = !outputs_of(all, number)[i].name[0];
    }
}

static cases read_cases(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) give_up("cannot open", path);
    cases all = {.tensor_count = get_count(file), .node_count = get_count(file), .output_count = get_count(file)};
    all.tensors = calloc(room(&all), sizeof *all.tensors);
    all.nodes = calloc(all.node_count, sizeof *all.nodes);
    all.outputs = calloc(all.output_count, sizeof *all.outputs);
    for (uint32_t i = 0; i < all.tensor_count; i++) get_tensor(file, all.tensors + i);
    for (uint32_t i = 0; i < all.node_count; i++) get_node(file, &all, i);
    for (uint32_t i = 0; i < all.output_count; i++) get_name(file, all.outputs[i], sizeof *all.outputs);
    fclose(file);
    return all;
}

static void free_cases(cases *all) {
    for (uint32_t i = 0; i < room(all); i++) free(all->tensors[i].data);
    free(all->tensors);
    free(all->nodes);
    free(all->outputs);
}

/* ---- running ---- */

/* Runs a node as it is meant to be; its outputs become the tensors that later nodes name. */
static void run_whole(const cases *all, uint32_t number) {
    node *n = all->nodes + number;
    OrtValue *out = outputs_of(all, number);
    OrtStatus *status = run_node(n);
    if (status) give_up(out->name, status->message);
    for (uint32_t i = 0; i < n->output_count; i++) {
        memcpy(n->output[i].name, out[i].name, sizeof out->name);
        out[i] = n->output[i];
    }
}

static void run_all(const cases *all, const char *path) {
    for (uint32_t i = 0; i < all->node_count; i++) run_whole(all, i);
    FILE *file = fopen(path, "wb");
    for (uint32_t i = 0; i < all->output_count; i++) {
        const OrtValue *y = find_tensor(all, all->outputs[i]);
        const uint32_t head[2] = {(uint32_t)y->type, (uint32_t)y->rank};
        fwrite(head, 4, 2, file);
        fwrite(y->dims, 8, y->rank, file);
        fwrite(y->data, element_bytes(y->type), (size_t)elements_of(y), file);
    }
    fclose(file);
}

static void check_message(const node *n, const OrtStatus *status) {
    char begin[64];
    const int length = snprintf(begin, sizeof begin, "edgeprune %s: ", n->op);
    const int mine = !strncmp(status->message, "edgeprune test", 14);
    if (!mine && (strncmp(status->message, begin, (size_t)length) || !status->message[length]))
        give_up("a message that does not say what is wrong", status->message);
}

/* Fails allocation 0, 1, ... of a node until it has no more. Returns how many there were. */
static int64_t starve_node(node *n, int silently) {
    runtime.silently = silently;
    for (int64_t at = 0;; at++) {
        runtime.allocations = 0;
        runtime.fail_at = at;
        OrtStatus *status = run_node(n);
        free_outputs(n);
        const int all_given = runtime.allocations <= at;
        if ((status == 0) != all_given) give_up("does not notice a failed allocation, or fails without one", n->op);
        if (status) check_message(n, status);
        release_status(status);
        if (all_given) break;
    }
    runtime.silently = 0;
    runtime.fail_at = -1;
    return runtime.allocations;
}

static void starve(const cases *all) {
    int64_t refusals = 0;
    for (uint32_t i = 0; i < all->node_count; i++) {
        run_whole(all, i);
        for (int silently = 0; silently < 2; silently++) refusals += starve_node(all->nodes + i, silently);
    }
    printf("%lld\n", (long long)refusals);
}

static void overlap(const cases *all) {
    for (uint32_t i = 0; i < all->node_count; i++) {
        run_whole(all, i);
        run_overlapping(all->nodes + i);
    }
}

/* ---- what ran when something went wrong ---- */

static const node *current;

static void describe(int number) {
    fprintf(stderr, "harness: signal %d in %s", number, current ? current->op : "no node");
    for (uint32_t i = 0; current && i < current->attribute_count; i++) {
        const attribute *a = current->attribute + i;
        fprintf(stderr, " %s=", a->name);
        if (a->kind == ATTRIBUTE_FLOAT) fprintf(stderr, "%g", (double)a->number);
        for (uint32_t k = 0; k < a->count; k++) fprintf(stderr, "%s%lld", k ? "," : "", (long long)a->ints[k]);
    }
    for (uint32_t i = 0; current && i < current->input_count; i++) {
        const OrtValue *x = current->input[i];
        fprintf(stderr, "\nharness: input %u type %d dims", i, x ? x->type : 0);
        for (size_t k = 0; x && k < x->rank; k++) fprintf(stderr, " %lld", (long long)x->dims[k]);
        for (int64_t k = 0; i == 1 && x && k < 40 && k < elements_of(x) * (int64_t)element_bytes(x->type); k++)
            fprintf(stderr, "%s%02x", k ? "" : " bytes ", ((const uint8_t *)x->data)[k]);
    }
    fprintf(stderr, "\n");
    _exit(3);
}

/* ---- fuzzing ---- */

/* One damaged copy of a node, in order, in reverse and by threads. Returns whether it was refused. */
static int try_damaged(const node *whole) {
    node n = *whole;
    OrtValue copy[MOST_INPUTS];
    const uint32_t count = n.input_count;
    for (uint32_t i = 0; i < count; i++) {
        copy[i] = (OrtValue){0};
        if (!n.input[i]) continue;
        const size_t bytes = element_bytes(n.input[i]->type) * (size_t)elements_of(n.input[i]);
        copy[i] = *n.input[i];
        copy[i].data = malloc(bytes);
        memcpy(copy[i].data, n.input[i]->data, bytes);
        n.input[i] = copy + i;
    }
    damage(&n);
    current = &n;
    runtime.threads = draw(16) ? (draw(2) ? 1 : -1) : 2;
    const struct itimerval most = {.it_value = {.tv_sec = 30}};
    setitimer(ITIMER_VIRTUAL, &most, 0);
    OrtStatus *status = run_node(&n);
    const int refused = status != 0;
    if (status) check_message(&n, status);
    release_status(status);
    free_outputs(&n);
    current = 0;
    for (uint32_t i = 0; i < count; i++) free(copy[i].data);
    return refused;
}

static void fuzz(const cases *all, uint64_t seed, long count) {
    uint32_t (*results)[2] = calloc(all->node_count, sizeof *results);
    seed_draws(seed);
    for (uint32_t i = 0; i < all->node_count; i++) run_whole(all, i);
    for (long i = 0; i < count; i++) {
        uint32_t number = (uint32_t)draw(all->node_count);
        /* Half of all nodes only enter or leave the packed layout: most draws go to the others. */
        while (all->nodes[number].attribute_count < 2 && draw(8)) number = (uint32_t)draw(all->node_count);
        results[number][try_damaged(all->nodes + number)]++;
    }
    for (uint32_t i = 0; i < all->node_count; i++) printf("%s %u %u\n", all->nodes[i].op, results[i][0], results[i][1]);
    free(results);
}

int main(int count, char **argument) {
    if (count < 3) give_up("usage: harness run|run_once|overlap|starve|fuzz CASES ...", "");
    signal(SIGABRT, describe); /* a sanitizer's report ends in one, see case_file.py */
    signal(SIGVTALRM, describe); /* a damaged file that keeps the processor busy */
    load_operators();
    cases all = read_cases(argument[2]);
    if (count == 5 && (!strcmp(argument[1], "run") || !strcmp(argument[1], "run_once"))) {
        runtime.threads = atoi(argument[4]);
        /* The first four runs count the threads. */
        runtime.more_runs = strcmp(argument[1], "run") ? 0 : 5;
        run_all(&all, argument[3]);
    } else if (count == 5 && !strcmp(argument[1], "fuzz")) {
        fuzz(&all, strtoull(argument[3], 0, 10), atol(argument[4]));
    } else if (!strcmp(argument[1], "overlap")) {
        overlap(&all);
    } else if (!strcmp(argument[1], "starve")) {
        starve(&all);
    } else {
        give_up("unknown mode", argument[1]);
    }
    free_cases(&all);
    return 0;
}
