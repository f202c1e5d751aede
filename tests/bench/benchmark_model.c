/* A stand-in for LiteRT's benchmark_model: its flags, the loop of its runs and its output [TensorFlow,
   tensorflow/lite/tools/benchmark/benchmark_model.cc, core/util/stats_calculator.h]. A run hashes the graph. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct stat_us {
    long long first, newest, min, max, count;
    double sum, squares;
};

static const char *graph = "";
static unsigned char *data;
static size_t size;
static volatile uint64_t hash;

static long long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static double peak_mb(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss / 1024.0;
}

static int load(void)
{
    FILE *file = fopen(graph, "rb");
    if (!file)
        return 0;
    fseek(file, 0, SEEK_END);
    size = (size_t)ftell(file);
    rewind(file);
    data = malloc(size + 1);
    size_t got = data ? fread(data, 1, size, file) : 0;
    fclose(file);
    return got == size && size >= 8 && memcmp(data + 4, "TFL3", 4) == 0;
}

/* FNV-1a, so that the runs cannot be left out. */
static void invoke(void)
{
    uint64_t value = 14695981039346656037ULL;
    for (size_t i = 0; i < size; i++)
        value = (value ^ data[i]) * 1099511628211ULL;
    hash = value;
}

static double average(const struct stat_us *runs)
{
    return runs->sum / (double)runs->count;
}

static void print_runs(const struct stat_us *runs)
{
    if (runs->count == 0) {
        printf("INFO: count=0\n\n");
    } else if (runs->min == runs->max) {
        printf("INFO: count=%lld curr=%lld%s\n\n", runs->count, runs->newest, runs->count > 1 ? "(all same)" : "");
    } else {
        double variance = runs->squares / (double)runs->count - average(runs) * average(runs);
        printf("INFO: count=%lld first=%lld curr=%lld min=%lld max=%lld avg=%g std=%lld\n\n", runs->count, runs->first,
               runs->newest, runs->min, runs->max, average(runs), (long long)sqrt(variance));
    }
}

static struct stat_us run(int least, double min_secs, double max_secs)
{
    struct stat_us runs = {0};
    printf("INFO: Running benchmark for at least %d iterations and at least %g seconds but terminate if exceeding %g "
           "seconds.\n", least, min_secs, max_secs);
    long long now = now_us(), enough = now + (long long)(min_secs * 1e6), end = now + (long long)(max_secs * 1e6);
    for (int i = 0; (i < least || now < enough) && now <= end; i++) {
        long long start = now_us();
        invoke();
        runs.newest = now_us() - start;
        if (runs.count++ == 0)
            runs.first = runs.min = runs.max = runs.newest;
        runs.min = runs.newest < runs.min ? runs.newest : runs.min;
        runs.max = runs.newest > runs.max ? runs.newest : runs.max;
        runs.sum += (double)runs.newest;
        runs.squares += (double)runs.newest * (double)runs.newest;
        now = now_us();
    }
    print_runs(&runs);
    return runs;
}

static const char *flag(const char *argument, const char *name)
{
    size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1 : NULL;
}

int main(int argc, char **argv)
{
    int threads = -1, warmups = 1, least = 50;
    double warmup_secs = 0.5, min_secs = 1.0, max_secs = 150.0;
    const char *value;
    printf("INFO: STARTING!\nINFO: Log parameter values verbosely: [0]\n");
    for (int i = 1; i < argc; i++) {
        if ((value = flag(argv[i], "--graph")))
            printf("INFO: Graph: [%s]\n", graph = value);
        else if ((value = flag(argv[i], "--num_threads")))
            printf("INFO: Num threads: [%d]\n", threads = atoi(value));
        else if ((value = flag(argv[i], "--warmup_runs")))
            printf("INFO: Min warmup runs: [%d]\n", warmups = atoi(value));
        else if ((value = flag(argv[i], "--warmup_min_secs")))
            printf("INFO: Min warmup runs duration (seconds): [%g]\n", warmup_secs = atof(value));
        else if ((value = flag(argv[i], "--num_runs")))
            printf("INFO: Min num runs: [%d]\n", least = atoi(value));
        else if ((value = flag(argv[i], "--min_secs")))
            printf("INFO: Min runs duration (seconds): [%g]\n", min_secs = atof(value));
        else if ((value = flag(argv[i], "--max_secs")))
            printf("INFO: Max runs duration (seconds): [%g]\n", max_secs = atof(value));
        else if ((value = flag(argv[i], "--use_xnnpack")))
            printf("INFO: Use xnnpack: [%d]\n", strcmp(value, "true") == 0);
        else
            printf("WARN: Unconsumed cmdline flags: %s\n", argv[i]);
    }
    double begin_mb = peak_mb();
    long long start = now_us();
    if (!load()) {
        fprintf(stderr, "ERROR: Failed to load model %s\nERROR: Benchmarking failed.\n", graph);
        return EXIT_FAILURE;
    }
    long long init = now_us() - start;
    double init_mb = peak_mb() - begin_mb;
    printf("INFO: Loaded model %s\nINFO: The input model file size (MB): %g\n", graph, (double)size / 1e6);
    printf("INFO: Initialized session in %gms.\n", (double)init / 1e3);
    struct stat_us warm = run(warmups, warmup_secs, max_secs), timed = run(least, min_secs, max_secs);
    printf("INFO: Inference timings in us: Init: %lld, First inference: %lld, Warmup (avg): %g, Inference (avg): %g\n",
           init, warm.first, average(&warm), average(&timed));
    printf("INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the "
           "actual memory footprint of the model at runtime. Take the information at your discretion.\n");
    printf("INFO: Memory footprint delta from the start of the tool (MB): init=%g overall=%g\n", init_mb,
           peak_mb() - begin_mb);
    return EXIT_SUCCESS;
}
