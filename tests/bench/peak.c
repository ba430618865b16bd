/* The rate of fused multiply-adds that this processor sustains: peak THREADS
 *
 * Chains of operations that do not wait for each other keep all units busy; twelve of them
 * stay in the sixteen registers of AVX2, too. Prints 10^9 floating point operations a second,
 * of float64 and of float32, the best of some tries; a fused multiply-add counts as two. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH_BYTES 64
#elif defined(__AVX__)
#define WIDTH_BYTES 32
#else
#define WIDTH_BYTES 16
#endif
#define CHAINS 12
#define STEPS 10000000L
#define TRIES 100
#define MOST_THREADS 256

typedef double doubles __attribute__((vector_size(WIDTH_BYTES)));
typedef float floats __attribute__((vector_size(WIDTH_BYTES)));

/* what the threads leave here keeps the compiler from leaving the loop out */
static volatile double seen;

#define LOOP(name, scalar, vector)                              \
    static void *name(void *start)                              \
    {                                                           \
        scalar given = *(volatile double *)start;               \
        vector chain[CHAINS], factor = given - (vector){0}, term = factor; \
        for (int i = 0; i < CHAINS; i++) /* equal ones would be computed once */ \
            chain[i] = factor + (scalar)i;                      \
        for (long step = 0; step < STEPS; step++)               \
            for (int i = 0; i < CHAINS; i++)                    \
                chain[i] = chain[i] * factor + term;            \
        for (int i = 1; i < CHAINS; i++)                        \
            chain[0] += chain[i];                               \
        seen = chain[0][0];                                     \
        return NULL;                                            \
    }

LOOP(loop_doubles, double, doubles)
LOOP(loop_floats, float, floats)

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double once(void *(*loop)(void *), int lanes, int threads)
{
    static double start = 0.5;
    pthread_t thread[MOST_THREADS];
    double began = now();
    for (int i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, loop, &start))
            exit(1);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    return 2e-9 * CHAINS * STEPS * lanes * threads / (now() - began);
}

static double rate(void *(*loop)(void *), int lanes, int threads)
{
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double found = once(loop, lanes, threads);
        best = found > best ? found : best;
    }
    return best;
}

int main(int count, char **arguments)
{
    int threads = count > 1 ? atoi(arguments[1]) : 1;
    if (threads < 1 || threads > MOST_THREADS)
        return 2;
    printf("%.1f ", rate(loop_doubles, WIDTH_BYTES / 8, threads));
    printf("%.1f\n", rate(loop_floats, WIDTH_BYTES / 4, threads));
    return 0;
}
