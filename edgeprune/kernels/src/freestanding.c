/* The library links no libc, and compilers emit calls to these for loops and structure copies. */
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);

/* Without the barrier the compiler would see a memcpy in the body of memcpy and call itself. */
#define KEEP_LOOP __asm__ volatile("" ::: "memory")

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    char *target = to;
    const char *source = from;
    for (; count >= 8; count -= 8, target += 8, source += 8) {
        unsigned long long word;
        __builtin_memcpy(&word, source, 8);
        __builtin_memcpy(target, &word, 8);
        KEEP_LOOP;
    }
    for (; count; count--) {
        *target++ = *source++;
        KEEP_LOOP;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    char *target = to;
    const char *source = from;
    if (target < source || target >= source + count) return memcpy(to, from, count);
    while (count--) {
        target[count] = source[count];
        KEEP_LOOP;
    }
    return to;
}

void *memset(void *to, int value, size_t count) {
    char *target = to;
    while (count--) {
        *target++ = (char)value;
        KEEP_LOOP;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t count) {
    const unsigned char *a = left, *b = right;
    for (; count; count--, a++, b++) {
        if (*a != *b) return *a - *b;
        KEEP_LOOP;
    }
    return 0;
}
