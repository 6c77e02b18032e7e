/* An fsync that takes longer: preloaded into the benchmarks and the database server, to measure what a slower disk
   makes of them. BENCH_FSYNC_US says by how many microseconds. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

typedef int (*sync_call)(int);

static void take_time(void)
{
    const char *given = getenv("BENCH_FSYNC_US");
    long left = given ? atol(given) : 0;
    struct timespec pause = {left / 1000000, left % 1000000 * 1000};
    int outcome = errno;

    while (nanosleep(&pause, &pause) == -1 && errno == EINTR)
        ;
    errno = outcome;
}

static int slowly(const char *name, int file)
{
    int done = ((sync_call)dlsym(RTLD_NEXT, name))(file);

    take_time();
    return done;
}

int fsync(int file)
{
    return slowly("fsync", file);
}

int fdatasync(int file)
{
    return slowly("fdatasync", file);
}
