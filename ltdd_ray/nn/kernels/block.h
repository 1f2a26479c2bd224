// Instance norm, ReLU and 2x2 average pooling of one image and one vector of channels: the operation,
// its gradient and their tangents.
//
//   n = (u - mean) r,  r = 1/sqrt(var + eps),  a = gamma n + beta,  y = pool(max(a, 0))
//
// with mean and var per image and channel. `_dot` marks the derivative along a direction, `_bar` a
// gradient. Arrays are channels-last: u (N, H, W, C), y (N, H/2, W/2, C). An odd last row or column
// is part of the norm but not of the pooling. Pixels of u lie `stride` apart, those of y C. Sums run
// over pixels in a fixed order, so results do not depend on the number of threads.

#include <math.h>
#include <string.h>

#include "scratch.h"

typedef Bits Mask __attribute__((vector_size(WIDTH)));
typedef struct { Int n, height, width, channels; double eps; } Shape;

static const Real zeros[LANES];

// `lanes` is LANES, a constant that makes these single moves, or the number of channels left.
INLINE Vector load(const Real *from, const int lanes) {
    Vector v = {0};
    memcpy(&v, from, lanes * sizeof(Real));
    return v;
}
INLINE void store(Real *to, Vector v, const int lanes) { memcpy(to, &v, lanes * sizeof(Real)); }
INLINE Vector where_positive(Vector test, Vector value) {
    return (Vector)((Mask)value & ~(test <= 0));  // also where `test` is NaN
}

INLINE Vector inverse_root(Vector variance, double eps) {
    for (int c = 0; c < LANES; c++) variance[c] = (Real)(1 / sqrt(variance[c] + eps));
    return variance;
}

// The pooled pixel of a pixel, or zeros if it has none.
INLINE const Real *pooled(const Shape *s, const Real *y, Int row, Int column, Int stride) {
    Int half = s->width / 2;
    return y && row / 2 < s->height / 2 && column / 2 < half
        ? y + (row / 2 * half + column / 2) * stride : zeros;
}

// Runs `one(lanes)` for every image and vector of channels. `at` is the place in arrays (N, C),
// `y_at` in those of y.
#define FOR_EACH_GROUP(one)                                                               \
    const Int C = s->channels, groups = (C + LANES - 1) / LANES;                          \
    const Int pixels = s->height * s->width, halved = (s->height / 2) * (s->width / 2);   \
    _Pragma("omp parallel for schedule(static)")                                          \
    for (Int i = 0; i < s->n * groups; i++) {                                             \
        const Int image = i / groups, first = i % groups * LANES, at = image * C + first; \
        const Int y_at = image * halved * C + first;                                      \
        if (first + LANES <= C) { one(LANES); } else { one((int)(C - first)); }           \
    }

INLINE void forward_group(
    const Shape *s, const int lanes, const Real *u, Int stride, const Real *gamma,
    const Real *beta, Real *y, Real *stats)
{
    const Int C = s->channels, pixels = s->height * s->width, half = s->width / 2;
    const Real count = pixels;
    Vector mean = {0}, variance = {0};
    for (Int p = 0; p < pixels; p++) mean += load(u + p * stride, lanes);
    mean /= count;
    for (Int p = 0; p < pixels; p++) {
        Vector d = load(u + p * stride, lanes) - mean;
        variance += d * d;
    }
    Vector r = inverse_root(variance / count, s->eps);
    store(stats, mean, lanes), store(stats + s->n * C, r, lanes);
    Vector scale = load(gamma, lanes) * r, shift = load(beta, lanes) - mean * scale;
    for (Int row = 0; row < s->height / 2; row++)
        for (Int column = 0; column < half; column++) {
            Vector sum = {0};
            for (int k = 0; k < 4; k++) {
                const Int at = (2 * row + k / 2) * s->width + 2 * column + k % 2;
                Vector a = load(u + at * stride, lanes) * scale + shift;
                sum += where_positive(a, a);
            }
            store(y + (row * half + column) * C, sum / 4, lanes);
        }
}

// u_bar may be u.
INLINE void backward_group(
    const Shape *s, const int lanes, const Real *u, Int stride, const Real *gamma,
    const Real *beta, const Real *stats, const Real *y_bar, Real *u_bar, Real *params_bar)
{
    const Int C = s->channels;
    const Real count = s->height * s->width;
    const Vector mean = load(stats, lanes), r = load(stats + s->n * C, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes);
    Vector s0 = {0}, s1 = {0};
#define EACH_PIXEL                                               \
    for (Int row = 0, p = 0; row < s->height; row++)             \
        for (Int column = 0; column < s->width; column++, p++) { \
            Vector n = (load(u + p * stride, lanes) - mean) * r; \
            const Real *bar = pooled(s, y_bar, row, column, C);  \
            Vector a_bar = where_positive(g * n + b, load(bar, lanes)) / 4;
    EACH_PIXEL
        s0 += a_bar, s1 += a_bar * n;
    }
    store(params_bar, s1, lanes), store(params_bar + s->n * C, s0, lanes);
    const Vector m0 = g * s0 / count, m1 = g * s1 / count;
    EACH_PIXEL
        store(u_bar + p * stride, r * (g * a_bar - m0 - n * m1), lanes);
    }
#undef EACH_PIXEL
}

// u_extra (N, H, W, C), unless NULL, is first added to u_dot in place. stats (4, N, C): mean, r, mean
// of u_dot, mean of n u_dot.
INLINE void tangent_forward_group(
    const Shape *s, const int lanes, const Real *u, Real *u_dot, Int stride, const Real *u_extra,
    const Real *gamma, const Real *beta, const Real *gamma_dot, const Real *beta_dot, Real *y,
    Real *y_dot, Real *stats)
{
    const Int C = s->channels, NC = s->n * C, pixels = s->height * s->width, half = s->width / 2;
    const Real count = pixels;
    Vector mean = {0}, mean_dot = {0}, variance = {0}, n_u_dot = {0};
    for (Int p = 0; p < pixels; p++) {
        Vector dot = load(u_dot + p * stride, lanes);
        if (u_extra) {
            dot += load(u_extra + p * C, lanes);
            store(u_dot + p * stride, dot, lanes);
        }
        mean += load(u + p * stride, lanes), mean_dot += dot;
    }
    mean /= count, mean_dot /= count;
    for (Int p = 0; p < pixels; p++) {
        Vector d = load(u + p * stride, lanes) - mean;
        variance += d * d, n_u_dot += d * (load(u_dot + p * stride, lanes) - mean_dot);
    }
    const Vector r = inverse_root(variance / count, s->eps);
    n_u_dot *= r / count;
    store(stats, mean, lanes), store(stats + NC, r, lanes);
    store(stats + 2 * NC, mean_dot, lanes), store(stats + 3 * NC, n_u_dot, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes);
    const Vector g_dot = load(gamma_dot, lanes), b_dot = load(beta_dot, lanes);
    for (Int row = 0; row < s->height / 2; row++)
        for (Int column = 0; column < half; column++) {
            Vector sum = {0}, sum_dot = {0};
            for (int k = 0; k < 4; k++) {
                const Int at = ((2 * row + k / 2) * s->width + 2 * column + k % 2) * stride;
                Vector n = (load(u + at, lanes) - mean) * r;
                Vector n_dot = (load(u_dot + at, lanes) - mean_dot - n * n_u_dot) * r;
                Vector a = g * n + b;
                sum += where_positive(a, a);
                sum_dot += where_positive(a, g * n_dot + g_dot * n + b_dot);
            }
            store(y + (row * half + column) * C, sum / 4, lanes);
            store(y_dot + (row * half + column) * C, sum_dot / 4, lanes);
        }
}

// y_bar_pair (N, H/2, W/2, 2C) holds y_bar and y_bar_dot; y_bar_extra, unless NULL, is added to the
// latter. Pixels of u_bar and u_bar_dot lie `bar_stride` apart; the two may be u and u_dot.
INLINE void tangent_backward_group(
    const Shape *s, const int lanes, const Real *u, const Real *u_dot, Int stride,
    const Real *gamma, const Real *beta, const Real *gamma_dot, const Real *stats,
    const Real *y_bar, const Real *y_bar_extra, Real *u_bar, Real *u_bar_dot, Int bar_stride,
    Real *params_bar_dot)
{
    const Int C = s->channels, NC = s->n * C;
    const Real count = s->height * s->width;
    const Vector mean = load(stats, lanes), r = load(stats + NC, lanes);
    const Vector mean_dot = load(stats + 2 * NC, lanes), n_u_dot = load(stats + 3 * NC, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes), g_dot = load(gamma_dot, lanes);
    Vector s0 = {0}, s1 = {0}, t0 = {0}, t1 = {0};
#define EACH_PIXEL                                                                         \
    for (Int row = 0, p = 0; row < s->height; row++)                                       \
        for (Int column = 0; column < s->width; column++, p++) {                           \
            Vector n = (load(u + p * stride, lanes) - mean) * r;                           \
            Vector n_dot = (load(u_dot + p * stride, lanes) - mean_dot - n * n_u_dot) * r; \
            const Real *bar = pooled(s, y_bar, row, column, 2 * C);                        \
            const Real *extra = pooled(s, y_bar_extra, row, column, C);                    \
            const Real *dot = bar == zeros ? zeros : bar + C;                              \
            Vector bar_dot = load(dot, lanes) + load(extra, lanes), a = g * n + b;         \
            Vector a_bar = where_positive(a, load(bar, lanes)) / 4;                        \
            Vector a_bar_dot = where_positive(a, bar_dot) / 4;
    EACH_PIXEL
        s0 += a_bar, s1 += a_bar * n, t0 += a_bar_dot, t1 += a_bar_dot * n + a_bar * n_dot;
    }
    store(params_bar_dot, t1, lanes), store(params_bar_dot + NC, t0, lanes);
    const Vector m0 = g * s0 / count, m0_dot = (g * t0 + g_dot * s0) / count;
    const Vector m1 = g * s1 / count, m1_dot = (g * t1 + g_dot * s1) / count;
    EACH_PIXEL
        Vector inner = g * a_bar - m0 - n * m1;
        Vector inner_dot = g * a_bar_dot + g_dot * a_bar - m0_dot - n_dot * m1 - n * m1_dot;
        store(u_bar + p * bar_stride, r * inner, lanes);
        store(u_bar_dot + p * bar_stride, r * (inner_dot - r * n_u_dot * inner), lanes);
    }
#undef EACH_PIXEL
}
