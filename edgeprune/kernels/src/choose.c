/* Which level of instruction sets this processor has, and the system lets programs use. */
#include "kernels.h"

static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

#if defined(__x86_64__)
extern const level level_sse2, level_avx2, level_avx512, level_avx512vnni;
static const level *const levels[] = {&level_sse2, &level_avx2, &level_avx512, &level_avx512vnni};

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t *r) {
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

enum { GETTID = 186, SCHED_YIELD = 24 };

/* A system call of the kernel's own, since there is no libc. */
static long call_plain(long number) {
    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
    return number;
}

static int bits(uint32_t word, uint32_t mask) { return (word & mask) == mask; }

/* Number of levels, lowest first, that can run. */
static int usable(void) {
    uint32_t r[4], features[4], state, high;
    cpuid(0, 0, r);
    if (r[0] < 7) return 1;
    cpuid(1, 0, r);
    if (!bits(r[2], 1u << 12 | 1u << 27 | 1u << 28)) return 1; /* FMA, OSXSAVE, AVX */
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
    cpuid(7, 0, features);
    if (!bits(state, 6) || !bits(features[1], 1u << 5)) return 1; /* the system saves YMM; AVX2 */
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    if (!bits(state, 0xe6) || !bits(features[1], avx512)) return 2;
    return bits(features[2], 1u << 11 | 1u << 1) ? 4 : 3; /* VNNI, VBMI */
}
#else
extern const level level_neon, level_dotprod, level_i8mm;
static const level *const levels[] = {&level_neon, &level_dotprod, &level_i8mm};

/* A system call of the kernel's own, since there is no libc. */
static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

enum { CLOSE = 57, OPENAT = 56, READ = 63, GETTID = 178, SCHED_YIELD = 124, CURRENT_FOLDER = -100, HWCAP = 16, HWCAP2 = 26 };

static long call_plain(long number) { return call(number, 0, 0, 0, 0); }

/* The auxiliary vector's pairs; a process that may not read it has the lowest level. */
static int usable(void) {
    unsigned long pairs[128], capabilities = 0, more = 0;
    const int file = (int)call(OPENAT, CURRENT_FOLDER, (long)"/proc/self/auxv", 0, 0);
    if (file < 0) return 1;
    const long size = call(READ, file, (long)pairs, sizeof pairs, 0);
    call(CLOSE, file, 0, 0, 0);
    for (long i = 0; (i + 2) * (long)sizeof *pairs <= size && pairs[i]; i += 2) {
        if (pairs[i] == HWCAP) capabilities = pairs[i + 1];
        if (pairs[i] == HWCAP2) more = pairs[i + 1];
    }
    if (!(capabilities >> 20 & 1)) return 1; /* ASIMDDP */
    return more >> 13 & 1 ? 3 : 2;           /* I8MM */
}
#endif

/* Of the libc that the process has, whichever that is. */
extern char **environ __attribute__((weak));

/* Value of EDGEPRUNE_KERNELS_LEVEL, or null. */
static const char *forced_level(void) {
    static const char name[] = "EDGEPRUNE_KERNELS_LEVEL=";
    for (char **entry = &environ ? environ : 0; entry && *entry; entry++) {
        size_t i = 0;
        while (name[i] && (*entry)[i] == name[i]) i++;
        if (!name[i]) return *entry + i;
    }
    return 0;
}

const level *choose_level(const char **problem) {
    const int count = usable();
    const char *wanted = forced_level();
    if (!wanted || !*wanted) return levels[count - 1];
    for (int i = 0; i < (int)(sizeof levels / sizeof *levels); i++) {
        if (!same(levels[i]->name, wanted)) continue;
        if (i < count) return levels[i];
        *problem = "this processor lacks the level that EDGEPRUNE_KERNELS_LEVEL names";
        return 0;
    }
    *problem = "EDGEPRUNE_KERNELS_LEVEL names no level of this architecture";
    return 0;
}

int32_t note_thread(thread_set *threads, int32_t wanted) {
    const int32_t id = (int32_t)call_plain(GETTID);
    lock(&threads->busy);
    int32_t i = 0;
    while (i < MOST_THREADS && threads->id[i] != id) i++;
    if (i == MOST_THREADS) {
        i = threads->id[wanted] ? 0 : wanted;
        while (i < MOST_THREADS && threads->id[i]) i++;
        if (i < MOST_THREADS) {
            threads->id[i] = id;
            threads->count++;
        }
    }
    unlock(&threads->busy);
    return i;
}

void let_others_run(void) { call_plain(SCHED_YIELD); }
