/* Preloaded into the counted program: a clock that a call advances by a microsecond.
 *
 * ONNX Runtime asks the time at each run and does more where a few seconds have gone by, so that with a real clock a
 * count would depend on how busy the host is. For arm64 Linux, without a libc.
 */
struct timespec {
    long seconds, nanoseconds;
};
struct timeval {
    long seconds, microseconds;
};

enum { REALTIME = 0, EPOCH = 1700000000 };

static long microseconds;

/* Every other clock begins near 0, so that a wait until some later moment on it is over at once on the real one. */
__attribute__((visibility("default"))) int clock_gettime(int clock, struct timespec *now)
{
    microseconds++;
    now->seconds = (clock == REALTIME ? EPOCH : 0) + microseconds / 1000000;
    now->nanoseconds = microseconds % 1000000 * 1000;
    return 0;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *now, void *zone)
{
    (void)zone;
    microseconds++;
    now->seconds = EPOCH + microseconds / 1000000;
    now->microseconds = microseconds % 1000000;
    return 0;
}
